"""Holds a prediction against what was observed: which of the predicted ways it was, and the first thing that differs.

Only facts are compared that both sides have. Where several ways are possible (dice), the nearest is taken: it need
not be the likeliest. A prediction that says "unknown" is not contradicted by anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from msgspec import Struct

from netk8s.model import UDP, Addr, Flow, Observation, Packet, Step, Trace, TracedRule, Way

PREDICTED, OBSERVED, ASSUMED = "predicted", "observed", "assumed"

SOURCE, PATH, VERDICT = "source", "path", "verdict"
"""What a difference is about."""

# What a probe's result may be called. Silence is what a drop looks like, and an answer that is lost; for UDP also a
# process that does not answer to what it was sent.
VERDICTS = {
    "connected": ("delivered",),
    "refused": ("refused",),
    "unreachable": ("unreachable",),
    "timeout": ("dropped", "unreachable"),
}

# Targets that leave the packet as it is. A rule with one of them and a match that no dump decides (limit, …) is left
# out of a prediction, for it makes no difference.
IDLE = ("LOG", "NFLOG", "TRACE", "DSCP", "TTL", "HL", "AUDIT", "TOS", "TCPMSS")


class Claim(Struct, frozen=True):
    """One thing both sides may speak of. ``agrees`` None: one of them does not. ``basis`` is predicted or assumed."""

    subject: str
    predicted: str
    observed: str
    agrees: bool | None
    basis: str = PREDICTED
    about: str = SOURCE


class Row(Struct, frozen=True):
    """A rule on either side. ``predicted`` and ``observed`` are the rule's text, None where that side has none.

    ``idle``: only observed, and without any effect; no difference.
    """

    node: str
    table: str
    chain: str
    predicted: str | None
    observed: str | None
    basis: str = PREDICTED
    at: str = ""
    idle: bool = False

    @property
    def agrees(self) -> bool:
        return self.idle or self.predicted == self.observed


class Difference(Struct, frozen=True):
    """One thing that is not as predicted. ``evidence`` are places in the dumps."""

    about: str
    text: str
    evidence: tuple[str, ...] = ()


class Verification(Struct, frozen=True):
    """A prediction beside an observation. ``way`` is the index of the nearest way, None if there was none at all.

    ``answers`` are the open questions that the observation decided.
    """

    flow: Flow
    observation: Observation
    way: int | None
    possible: int
    claims: tuple[Claim, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    answers: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def compared(self) -> bool:
        """Whether there was anything to compare."""
        return bool(self.rows) or any(claim.agrees is not None for claim in self.claims)


def about(flow: Flow, observation: Observation) -> bool:
    """Whether the observation is of the packet that the flow asks for."""
    asked, sent = flow.packet, observation.sent
    if (asked.protocol, asked.dst, asked.dport) != (sent.protocol, sent.dst, sent.dport):
        return False
    stands_in = asked.src in {address for address, _ in flow.stand_ins}
    return asked.src == sent.src or asked.src.is_unspecified or stands_in


def compare(trace: Trace, observation: Observation) -> Verification:
    """The trace beside the observation."""
    best: tuple[tuple[int, ...], Verification] | None = None
    for index, way in enumerate(trace.ways):
        claims = tuple(_claims(trace.flow, way, observation))
        rows = tuple(_rows(way, observation))
        wrong = [claim for claim in claims if claim.agrees is False]
        contrary = sum(choice.off_default for choice in way.choices)
        differing = sum(not row.agrees for row in rows)
        rank = (len(wrong) + bool(differing), bool(differing), contrary, differing, way.verdict == "unknown")
        if best is None or rank < best[0]:
            answers = tuple(
                choice.question.if_true if choice.answer else choice.question.if_false for choice in way.choices
            )
            differences = tuple(_differences(claims, rows))
            found = Verification(
                trace.flow, observation, index, len(trace.ways), claims, rows, differences, answers, way.assumptions
            )
            best = (rank, found)
    if best is None:
        return Verification(trace.flow, observation, None, 0, (), (), ())
    return best[1]


def verified(trace: Trace, observations: Sequence[Observation]) -> Iterator[Verification]:
    """Every observation of the packet that was traced, beside the trace."""
    for observation in observations:
        if about(trace.flow, observation):
            yield compare(trace, observation)


# ---------------------------------------------------------------- what both sides say of the packet


def _claims(flow: Flow, way: Way, seen: Observation) -> Iterator[Claim]:
    # What is assumed of the way behind the translation has no part in how the packet was translated.
    basis = ASSUMED if way.assumptions else PREDICTED
    allowed = VERDICTS.get(seen.result, ())
    if seen.result == "timeout" and seen.sent.protocol == UDP:
        allowed = (*allowed, "delivered")
    known = way.verdict != "unknown" and bool(allowed)
    answer = f"{seen.result} ({seen.answer})" if seen.answer else seen.result
    yield Claim("verdict", way.verdict, answer, way.verdict in allowed if known else None, basis, VERDICT)
    asked = flow.packet.src
    stands_in = asked.is_unspecified or asked in {address for address, _ in flow.stand_ins}
    agrees = None if stands_in else asked == seen.sent.src
    yield Claim("sender", "not known" if stands_in else str(asked), str(seen.sent.src), agrees)
    if seen.endpoint is not None:
        there = (seen.endpoint.ip, seen.endpoint.port)
        predicted = (way.packet.dst, way.packet.dport)
        same = there == predicted if way.verdict != "unknown" or way.packet.dst != flow.packet.dst else None
        yield Claim("endpoint", _told(*predicted), _told(*there), same)
    if seen.source_seen is not None:
        source = way.source if way.reached is not None else way.packet.src
        if source is None or not way.source_known or way.verdict == "unknown" or (stands_in and source == asked):
            yield Claim("source seen", "not known", str(seen.source_seen), None, ASSUMED)
        else:
            yield Claim("source seen", str(source), str(seen.source_seen), source == seen.source_seen, basis)
    yield from _leaving(flow, way, seen)


def _leaving(flow: Flow, way: Way, seen: Observation) -> Iterator[Claim]:
    """Where the packet was seen for the last time on each node that was traced."""
    for node in seen.traced:
        sightings = [one for one in seen.seen if one.node == node]
        hop = next((hop for hop in reversed(way.hops) if hop.node == node), None)
        if not sightings or hop is None:
            continue
        last = sightings[-1]
        if last.place != "postrouting" or last.dev == "lo" or hop.oif is None:
            continue
        observed = f"{last.dev or '?'} as {_addresses(last.packet)}"
        source = _source_behind(flow, way, node)
        if source is None or last.dev is None:
            yield Claim(f"leaves {node} by", hop.oif, observed, None if last.dev is None else hop.oif == last.dev)
            continue
        predicted = f"{hop.oif} from {source}"
        yield Claim(
            f"leaves {node} by",
            predicted,
            f"{last.dev} from {last.packet.src}",
            (hop.oif, source) == (last.dev, last.packet.src),
        )


def _source_behind(flow: Flow, way: Way, node: str) -> Addr | None:
    """The source address behind a node, by the rewrites up to there; None where it is a stand-in or not known."""
    source: Addr | None = flow.packet.src
    if source in {address for address, _ in flow.stand_ins} or flow.packet.src.is_unspecified:
        source = None
    passed = []
    for hop in way.hops:
        passed.append(hop.node)
        if hop.node == node:
            break
    for rewrite in way.rewrites:
        if rewrite.node in passed:
            source = rewrite.after
    return source


def _told(ip: Addr, port: int | None) -> str:
    if port is None:
        return str(ip)
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def _addresses(packet: Packet) -> str:
    return f"{_told(packet.src, packet.sport)} → {_told(packet.dst, packet.dport)}"


# ---------------------------------------------------------------- rule by rule


def _rows(way: Way, seen: Observation) -> Iterator[Row]:
    for node in seen.traced:
        steps = [s for hop in way.hops if hop.node == node for s in hop.steps if s.rule is not None]
        events = [event for event in seen.path if event.node == node and event.rule is not None]
        left = [_key(step.table, step.chain, step.rule) for step in steps]
        events = _in_order(left, events)
        right = [_key(event.table, event.chain, event.rule) for event in events]
        matcher = SequenceMatcher(None, left, right, autojunk=False)
        for kind, i, j, m, n in matcher.get_opcodes():
            for step in steps[i:j] if kind != "insert" else ():
                yield _predicted(node, step, step.rule if kind == "equal" else None)
            for event in events[m:n] if kind in ("insert", "replace") else ():
                yield Row(node, event.table, event.chain, None, event.rule, OBSERVED, "", _idle(event))


def _in_order(predicted: Sequence[object], events: list[TracedRule]) -> list[TracedRule]:
    """The events of both backends in one order: each backend's own, and between them the predicted one."""
    backends = dict.fromkeys(event.backend for event in events)
    if len(backends) < 2:
        return events
    placed: list[tuple[int, TracedRule]] = []
    for backend in backends:
        own = [event for event in events if event.backend == backend]
        keys = [_key(event.table, event.chain, event.rule) for event in own]
        for kind, i, _, m, n in SequenceMatcher(None, predicted, keys, autojunk=False).get_opcodes():
            placed += [(i + (number if kind == "equal" else 0), event) for number, event in enumerate(own[m:n])]
    return [event for _, event in sorted(placed, key=lambda pair: pair[0])]


def _predicted(node: str, step: Step, observed: str | None) -> Row:
    at = str(step.at) if step.at is not None else ""
    return Row(node, step.table, step.chain, step.rule, observed, ASSUMED if step.assumed else PREDICTED, at)


def _key(table: str, chain: str, rule: str | None) -> tuple[str, str, str]:
    # nft names a table with its family ("ip filter"), netk8s' steps may or may not.
    return table.rpartition(" ")[2], chain, " ".join((rule or "").split())


def _idle(event: TracedRule) -> bool:
    words = (event.rule or "").split()
    target = next((words[i + 1] for i, word in enumerate(words[:-1]) if word in ("-j", "-g")), "")
    if words[:1] != ["-A"]:
        return (
            event.action == "continue"
            and not {"dnat", "snat", "masquerade", "redirect"} & set(words)
            and "set" not in words
        )
    return not target or target in IDLE


# ---------------------------------------------------------------- what differs


def _differences(claims: Sequence[Claim], rows: Sequence[Row]) -> Iterator[Difference]:
    for claim in claims:
        if claim.agrees is False:
            text = f"{claim.subject}: {claim.basis} {claim.predicted}, observed {claim.observed}"
            yield Difference(claim.about, text)
    first = next((index for index, row in enumerate(rows) if not row.agrees), None)
    if first is None:
        return
    row = rows[first]
    rest = [other for other in rows[first:] if other.node == row.node]
    predicted = next((other for other in rest if other.predicted is not None), None)
    observed = next((other for other in rest if other.observed is not None and not other.idle), None)
    before = next((other for other in reversed(rows[:first]) if other.agrees and other.node == row.node), None)
    behind = f"behind {before.table} {before.predicted or before.observed}" if before else "from the first rule on"
    sides = [
        f"{name} {one.table} {one.predicted or one.observed or ''}" if one else f"{name} no further rule"
        for name, one in (("predicted", predicted), ("observed", observed))
    ]
    evidence = tuple(one.at for one in (before, predicted) if one is not None and one.at)
    yield Difference(PATH, f"on {row.node} the paths part {behind}: {', '.join(sides)}", evidence)


__all__ = ["Claim", "Difference", "Row", "Verification", "about", "compare", "verified"]
