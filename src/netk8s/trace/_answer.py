"""The way back: follows the first packet of the answer and judges whether the client takes it for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from msgspec.structs import replace

from netk8s.kernel import targets
from netk8s.kernel.flight import Branch, tuple_of
from netk8s.model import Choice, Packet, Question, Way
from netk8s.trace import _errors, _later, _pods, _sending, _sizes, _walk
from netk8s.trace._state import (
    DELIVERED,
    DROPPED,
    REFUSED,
    UNKNOWN,
    End,
    Past,
    Scene,
    answering,
    fresh,
    same_tuple,
)

_ECHO: Mapping[int, int] = {8: 0, 128: 129}
"""ICMP and ICMPv6 echo request -> reply."""
_MOST_OPEN = 3
"""Questions about an answer that are followed apart; of more, one set of replies that works is enough."""


def finish(scene: Scene, end: End) -> Iterator[Way]:
    """A finished way, its verdict corrected by what becomes of the answer: several where the answer has several ways."""
    branch, past = end.branch, end.past
    flight = branch.flight
    way = Way(
        hops=past.hops,
        odds=branch.odds,
        choices=branch.choices,
        verdict=end.verdict,
        reason=end.reason,
        packet=flight.packet,
        reached=end.reached if end.verdict == DELIVERED else None,
        source=flight.packet.src if end.verdict == DELIVERED and flight.src_known else None,
        source_known=flight.src_known,
        rewrites=flight.rewrites,
        assumptions=branch.assumptions,
        missing=past.missing,
    )
    if end.told is not None:
        yield from _errors.told(scene, way, end, end.told)
        return
    if (doubt := _past_the_translator(scene, end)) is not None:
        yield from _in_doubt(way, end, doubt)
    elif not end.check_reply or not flight.src_known:
        known = end.verdict not in (DELIVERED, REFUSED)
        yield replace(way, reply_known=known, reply="")
    else:
        yield from _with_reply(scene, way, end)


def _past_the_translator(scene: Scene, end: End) -> Question | None:
    """Whether a node without dumps sends the answer back over the node that translated, which alone can undo it.

    It does where that one's own address is the source, or its pod's. Any other source it reaches by its own routes.
    """
    flight = end.branch.flight
    src = flight.packet.src
    if end.verdict != DELIVERED or end.node is None or end.node in scene.netns or not flight.src_known:
        return None
    translated = [name for name, conn in end.past.entries if conn.reply.src != conn.original.dst]
    pod = scene.pod_by_ip.get(src)
    if not translated or (pod is not None and pod.node == translated[-1]):
        return None
    if any(netns.is_local(src) for netns in scene.netns.values()):
        return None
    asked, got = end.past.flow.packet, flight.packet
    return Question(
        f"{end.node}:back:{translated[-1]}:{src}",
        f"{end.node}, of which no dump is here, sends what is for {src} over {translated[-1]}",
        f"the answer bypasses the node that translated the packet and comes from "
        f"{targets.endpoint_text(got.dst, got.dport)}, but {targets.endpoint_text(asked.dst, asked.dport)} was asked",
        default=False,
    )


def _in_doubt(way: Way, end: End, doubt: Question) -> Iterator[Way]:
    """The way with the answer lost, which is likelier, and with the answer come back."""
    where = targets.endpoint_text(way.packet.dst, way.packet.dport)
    for answer, there in end.branch.ask(doubt):
        if answer:
            yield replace(way, choices=there.choices, reply_known=False, reply="")
        else:
            why = doubt.if_false
            yield replace(
                way, choices=there.choices, verdict=DROPPED, reply=why, reply_known=True,
                reason=f"the packet reaches {where}, but the answer does not come back: {why}",
            )  # fmt: skip


def _with_reply(scene: Scene, way: Way, end: End) -> Iterator[Way]:
    """Follows the first packet of the answer: who translates it back, and does the client recognise it."""
    packet = way.packet
    answer = Packet(
        packet.protocol, packet.dst, packet.src, packet.dport, packet.sport,
        tcp_flags=_errors.RESET if end.verdict == REFUSED else frozenset({"SYN", "ACK"}),
        icmp_type=_ECHO.get(packet.icmp_type or -1), icmp_code=0 if packet.icmp_type is not None else None,
    )  # fmt: skip
    back = replace(scene, back=True)
    netns = scene.netns.get(end.node or "")
    if netns is None or end.reached is None:
        yield replace(way, reply_known=False)
        return
    past = Past(end.past.flow, entries=end.past.entries)
    settled = 0
    if end.place == "node":
        entry = next((c for n, c in reversed(past.entries) if n == netns.name), None)
        if entry is not None and same_tuple(tuple_of(answer), entry.reply):
            walk = _sending.send(answer, netns, past, answering(entry, answer))
        else:
            walk = _sending.send(answer, netns, past)
    else:
        # How a pod hangs was settled on the way there and is no other thing on the way back.
        walk = _pods.leave_pod(back, Branch(fresh(answer), choices=end.branch.choices), netns, past)
        settled = len(end.branch.choices)
    for choices, ends in _by_what_is_assumed(way, _walk.to_the_end(back, walk), settled):
        yield from _by_what_is_open(scene, past, replace(way, choices=choices), ends)


def _by_what_is_open(scene: Scene, past: Past, way: Way, ends: list[End]) -> Iterator[Way]:
    """The ways apart by the answers to questions that nothing makes likely, where the fate of this answer hangs on them."""
    known = {choice.question.key for choice in way.choices}
    open_ = {
        c.question.key: c.question for end in ends for c in end.branch.choices
        if c.question.default is None and c.question.key not in known
    }  # fmt: skip
    apart: list[Way] = []
    for answers in product((True, False), repeat=len(open_)) if 0 < len(open_) <= _MOST_OPEN else ():
        said = dict(zip(open_, answers, strict=True))
        agreeing = [e for e in ends if all(said.get(c.question.key, c.answer) == c.answer for c in e.branch.choices)]
        if sum(end.branch.odds for end in agreeing) != 1:
            apart.clear()
            break
        chosen = (*way.choices, *(Choice(question, said[key]) for key, question in open_.items()))
        apart += _each(scene, past, replace(way, choices=chosen), agreeing)
    yield from apart if len({each.verdict for each in apart}) > 1 else _each(scene, past, way, ends)


def _by_what_is_assumed(way: Way, ends: Iterator[End], settled: int) -> Iterator[tuple[tuple[Choice, ...], list[End]]]:
    """(what the whole way assumes, ends of the answer): the likely ones first, then those with one assumption false."""
    known = {choice.question.key for choice in way.choices}
    own = not any(choice.off_default for choice in way.choices)
    groups: dict[str, tuple[dict[str, Choice], list[End]]] = {"": ({}, [])}
    for end in ends:
        new = [c for c in end.branch.choices[settled:] if c.question.default is not None]
        off = [c for c in new if c.off_default]
        if not off or (own and len(off) == 1 and off[0].question.key not in known):
            choices, group = groups.setdefault(off[0].question.key if off else "", ({}, []))
            choices.update({c.question.key: c for c in new if c.question.key not in known})
            group.append(end)
    for choices, group in groups.values():
        yield (*way.choices, *choices.values()), group


def _each(scene: Scene, past: Past, way: Way, likely: list[End]) -> Iterator[Way]:
    """The ways of the answer: several, with odds, where it has several next hops."""
    if len(likely) > 1 and sum(e.branch.odds for e in likely) == 1:
        for end in likely:
            yield _judged(scene, past, replace(way, odds=way.odds * end.branch.odds), [end])
    else:
        yield _judged(scene, past, way, likely)


def _judged(scene: Scene, past: Past, way: Way, likely: list[End]) -> Way:
    """The way with the reply's fate: translated back, lost, wrongly addressed, or not known. ``past``: the question's."""
    asked = past.flow.packet
    problems: list[tuple[End, str, str]] = []
    for end in likely:
        packet = end.branch.flight.packet
        if end.verdict == UNKNOWN and not _returns_to_translator(scene, asked, way):
            # The client may get its answer from another address than it asked: that would be no answer.
            known = "whether the answer comes back translated is not known"
            reason = f"the packet reaches {way.packet.dst}, but {known}: {end.reason}"
            return replace(way, verdict=UNKNOWN, reason=reason, reached=None, source=None, reply_known=False)
        if end.verdict == UNKNOWN:
            return replace(
                way,
                reply_known=False,
                reply_hops=end.past.hops,
                assumptions=_more(way, f"the answer: {end.reason}"),
            )
        if end.verdict != DELIVERED:
            problems.append((end, end.reason, ""))
        elif not _errors.recognised(asked, packet):
            problems.append((end, _errors.wrong_address(asked, end), ""))
        elif (lost := _later.lost(scene, way, end, len(past.entries)))[0]:
            problems.append((end, lost[1], lost[0]))
        else:
            there, back = way.hops, end.past.hops
            if way.verdict == DELIVERED and not any(choice.off_default for choice in way.choices):
                there, back = _sizes.marked(scene, way, end, len(past.entries))
            return replace(way, hops=there, reply_hops=back, assumptions=_more(way, *end.branch.assumptions))
    if not problems:
        return replace(way, reply_known=False)
    end, why, later = problems[0]
    where = targets.endpoint_text(way.packet.dst, way.packet.dport)
    stranger = end.verdict == DELIVERED and why == _errors.wrong_address(asked, end)
    sees = _errors.seen_of_a_stranger(asked, end) if stranger else ""
    failed = f"the packet reaches {where}, but the answer does not come back: {why}{sees}"
    if later:
        failed = f"the packet reaches {where} and the answer comes back, but {why}"
    if way.verdict == REFUSED:
        failed = f"{way.reason}; the refusal does not come back: {why}"
    return replace(
        way, verdict=later or DROPPED, reason=failed, reply=why, reply_hops=end.past.hops,
        assumptions=_more(way, *end.branch.assumptions), reached=way.reached, source=way.source,
    )  # fmt: skip


def _returns_to_translator(scene: Scene, asked: Packet, way: Way) -> bool:
    """Whether the answer is addressed to the node that translated the packet last, or nobody translated it."""
    packet = way.packet
    if (packet.dst, packet.dport) == (asked.dst, asked.dport):
        return True
    return any(netns.is_local(packet.src) for netns in scene.netns.values())


def _more(way: Way, *texts: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*way.assumptions, *texts)))
