"""Everything of a snapshot at once: every flow of every Service asked, what became of it, and what is worth telling.

The same finding of many flows is one problem. Nothing is scored: what does not arrive is listed with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache

from msgspec import Struct
from msgspec.structs import replace

from netk8s import findings
from netk8s.drift import Drift, drift
from netk8s.model import Finding, Missing, World
from netk8s.problems import Folded, Problem, said
from netk8s.survey import (
    BESIDE,
    CLUSTER_IP,
    ENDPOINT,
    IN_RANGE,
    OUTSIDE,
    Answer,
    Ground,
    Key,
    Kindred,
    Names,
    Port,
    Question,
    Renaming,
    answer,
    arrivals,
    questions,
)

Wanted = Callable[[Sequence[Port]], Iterable[Key] | None]
"""Which of the ports to ask about, None for all of them."""


class Asked(Struct, frozen=True):
    """One flow with what came of it. ``problems`` are indexes of :attr:`Checkup.problems`.

    ``walked`` is the answer in the names of the flow that was walked, if another one that is like this one was; ``names``
    are those of that flow and of this one.
    """

    question: Question
    walked: Answer
    problems: tuple[int, ...] = ()
    names: tuple[Names, Names] | None = None

    @property
    def answer(self) -> Answer:
        """The answer in this flow's own names."""
        return self.walked if self.names is None else self.names[0].to(self.names[1]).answer(self.walked)

    @property
    def fate(self) -> str:
        """ "arrives" if everything does, "unknown" if the dumps do not tell, else "fails", if only in a share."""
        verdicts = self.walked.verdicts
        if verdicts == {"delivered"}:
            return "arrives"
        return "unknown" if not verdicts or "unknown" in verdicts else "fails"


class Line(Struct, frozen=True):
    """A Service port in one line: how many of its flows arrive, and how its endpoints see clients outside.

    ``outside`` is "kept", "changed", "both", or "" where nothing arrives from outside. ``unknown``: of how many flows the
    dumps do not tell.
    """

    port: Port
    asked: int
    arrive: int
    outside: str
    exceptions: tuple[Exceptional, ...]
    unknown: int = 0


class Exceptional(Struct, frozen=True):
    """Flows of one port that fail alike. ``dialled`` has each kind of address with its clients."""

    what: str
    codes: tuple[str, ...]
    dialled: tuple[tuple[str, tuple[str, ...]], ...]
    nodes: tuple[str, ...]
    flows: int
    example: Question


class Checkup(Struct, frozen=True):
    """What was asked and found. ``stands_for``: nodes that were asked for others that are alike.

    ``told``: the lines where the nodes were asked by themselves; ``asked`` is empty then, for flows do not travel.
    ``judged``: nodes whose rules could be held against what the API wants.
    """

    nodes: tuple[str, ...]
    ports: tuple[Port, ...]
    asked: tuple[Asked, ...]
    problems: tuple[Problem, ...]
    stands_for: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    told: tuple[Line, ...] | None = None
    judged: tuple[str, ...] = ()

    def count(self, fate: str) -> int:
        """How many flows have a fate (see :attr:`Asked.fate`)."""
        if self.told is None:
            return sum(each.fate == fate for each in self.asked)
        arrive, unknown = sum(line.arrive for line in self.told), sum(line.unknown for line in self.told)
        return {"arrives": arrive, "unknown": unknown}.get(fate, self.flows - arrive - unknown)

    @property
    def flows(self) -> int:
        """How many flows were asked."""
        return len(self.asked) if self.told is None else sum(line.asked for line in self.told)


def check(
    world: World,
    wanted: Wanted | None = None,
    nodes: Sequence[str] | None = None,
    tick: Callable[[int, int], None] | None = None,
    *,
    alone: bool = False,
) -> Checkup:
    """Asks everything of a completed world (``dialects.complete``). ``nodes``: what enters or is sent at these only.

    ``alone``: the other nodes are asked by themselves, so what they send to endpoints here is asked too (``arrivals``).
    ``tick`` is told how many of how many are asked. Raises DecodeError for a rule that cannot be decoded.
    """
    ground = Ground.of(world)
    keys = wanted(ground.ports) if wanted is not None else None
    keys = None if keys is None else set(keys)
    # What lies between the Services' addresses is no Service's, and nobody misses an answer there.
    todo = [q for q in questions([ground], keys, nodes) if ground.port(q.port.key) is not None]
    if alone:
        todo += arrivals(ground, keys, nodes)
    names = dict.fromkeys((*world.nodes, *(item.name for item in world.cluster.nodes)))
    folded = Folded(names, ground.ports)
    differs = drift(world, ground.programmed)
    for finding in findings.drifted(_meant(differs, keys, nodes)):
        folded.add(finding, None)
    graded = _Graded(differs)
    kindred = Kindred(ground)
    walked: dict[Hashable, _Walked] = {}
    asked = []
    for number, question in enumerate(todo):
        if tick is not None:
            tick(number, len(todo))
        like = kindred.of(question) if question.dialled.kind != ENDPOINT else None
        known = walked.get(like[0]) if like is not None else None
        again = known.again(folded, graded, question, like[1]) if known is not None and like is not None else None
        if known is None or again is None:
            found, trace = answer(ground, question)
            told = findings.check(world, trace)
            indexes = dict.fromkeys(folded.add(graded.of(finding, question), question) for finding in told)
            asked.append(Asked(question, found, tuple(indexes)))
            if like is not None and known is None:
                walked[like[0]] = _Walked(like[1], found, told, names)
        else:
            assert like is not None  # noqa: S101 - it was looked up by this
            asked.append(Asked(question, known.answer, again, (known.names, like[1])))
    problems, order = folded.sorted()

    @cache
    def moved(indexes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(order[i] for i in indexes))

    return Checkup(
        tuple(name for name in world.nodes if nodes is None or name in nodes),
        tuple(port for port in ground.ports if keys is None or port.key in keys),
        tuple(Asked(each.question, each.walked, moved(each.problems), each.names) for each in asked),
        problems,
        _stands_for(todo),
        world.notes,
        world.missing,
        judged=differs.judged,
    )


def _meant(found: Drift, keys: set[Key] | None, nodes: Sequence[str] | None) -> Drift:
    """What differs for these ports on these nodes; of a node as a whole only where every port is meant."""
    services = None if keys is None else {service for service, *_ in keys}
    kept = (
        each
        for each in found.differences
        if (nodes is None or each.node in nodes)
        and (services is None or any(name.partition(":")[0] in services for name in each.service.split(", ")))
    )
    return replace(found, differences=tuple(kept))


class _Walked:
    """What was found of a flow that was walked, for those that are like it."""

    def __init__(self, names: Names, answer: Answer, told: Sequence[Finding], nodes: Mapping[str, object]) -> None:
        self.names, self.answer, self._told = names, answer, tuple(told)
        # What a flow's own names make a problem of its own is looked at anew in every flow.
        self._own = [any(word in said(finding.summary, nodes) for word in names.words) for finding in told]
        lines = {f"{origin}:{line}": place for place, (origin, line) in enumerate(names.rules)}
        self._evidence = [[(text, lines.get(text)) for text in finding.evidence] for finding in told]
        self._indexes: dict[tuple[int, bool], int] = {}

    def again(self, folded: Folded, graded: _Graded, question: Question, names: Names) -> tuple[int, ...] | None:
        """The problems of another flow, added to. None if it shows a new one, or if names cannot change places."""
        if not self.names.exchange(names):
            return None
        off = graded.is_off(question)
        renaming = self.names.to(names)
        out: list[tuple[int, int, Finding | None]] = []
        for number, finding in enumerate(self._told):
            index, told = None if self._own[number] else self._indexes.get((number, off)), None
            if index is None:
                told = graded.of(renaming.finding(finding), question)
                index = folded.place(told, question)
                if index is None:
                    # A problem is told in the words of its first flow, and a sentence may have names in parts.
                    return None
                self._indexes[number, off] = index
            out.append((number, index, told))
        for number, index, told in out:
            if told is not None:
                folded.add(told, question)
            else:
                folded.again(index, question, self._places(number, names, renaming))
        return tuple(dict.fromkeys(index for _, index, _ in out))

    def _places(self, number: int, names: Names, renaming: Renaming) -> Iterator[str]:
        for text, place in self._evidence[number]:
            yield renaming.text(text) if place is None else "{}:{}".format(*names.rules[place])


class _Graded:
    """Findings of what the API's objects ask for: no errors, where the nodes have what these ask for.

    Nor are those of addresses of a node that are asked for only because every address is.
    """

    def __init__(self, found: Drift) -> None:
        self._wanted: dict[str, str] = {m.CODE: m.WANTED for m in findings.modules() if hasattr(m, "WANTED")}
        self._unasked: dict[str, str] = {m.CODE: m.UNASKED for m in findings.modules() if hasattr(m, "UNASKED")}
        self._off = {name.partition(":")[0] for each in found.differences for name in each.service.split(", ")}

    def is_off(self, question: Question) -> bool:
        """Whether nodes lack what the objects of the question's Service ask for."""
        return question.port.service in self._off

    def of(self, finding: Finding, question: Question) -> Finding:
        severity = self._unasked.get(finding.code) if question.address else None
        if severity is None and not self.is_off(question):
            severity = self._wanted.get(finding.code)
        if severity is None:
            return finding
        return replace(finding, severity=max(severity, finding.severity, key=findings.SEVERITIES.index))


def _stands_for(asked: Iterable[Question]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    stood: dict[str, set[str]] = {}
    for stop in (stop for question in asked for stop in (question.at, question.sender) if stop is not None):
        stood.setdefault(stop.node, set()).update(stop.stands_for)
    return tuple((node, tuple(sorted(others))) for node, others in sorted(stood.items()) if others)


# ---------------------------------------------------------------- what is told


def only(found: Checkup, codes: Sequence[str] = (), severity: str = "info", before: Checkup | None = None) -> Checkup:
    """The checkup with fewer problems: of these codes, at least so severe, and not ones that ``before`` had already.

    A problem that has spread since to other Services or nodes is told with these alone.
    """
    most = findings.SEVERITIES.index(severity)
    had: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for problem in before.problems if before is not None else ():
        had.setdefault(_kind(problem.finding), set()).update(_reach(problem))
    kept: dict[int, Problem] = {}
    for index, problem in enumerate(found.problems):
        if codes and problem.finding.code not in codes:
            continue
        if findings.SEVERITIES.index(problem.finding.severity) > most:
            continue
        fresh = [each for each in _reach(problem) if each not in had.get(_kind(problem.finding), ())]
        if fresh:
            services = tuple(dict.fromkeys(service for service, _ in fresh if service))
            nodes = tuple(dict.fromkeys(node for _, node in fresh if node))
            kept[index] = replace(problem, services=services, nodes=nodes)
    place = {index: number for number, index in enumerate(kept)}
    asked = tuple(replace(each, problems=tuple(place[i] for i in each.problems if i in place)) for each in found.asked)
    told = None if found.told is None else tuple(_with_codes(line, kept.values()) for line in found.told)
    return replace(found, asked=asked, problems=tuple(kept.values()), told=told)


def _with_codes(line: Line, problems: Iterable[Problem]) -> Line:
    """A line whose exceptions name the codes of these problems only."""
    codes = {problem.finding.code for problem in problems}
    exceptions = (replace(each, codes=tuple(c for c in each.codes if c in codes)) for each in line.exceptions)
    return replace(line, exceptions=tuple(exceptions))


def _kind(finding: Finding) -> tuple[str, str]:
    return finding.code, finding.severity


def _reach(problem: Problem) -> list[tuple[str, str]]:
    return [(service, node) for service in problem.services or ("",) for node in problem.nodes or ("",)]


# ---------------------------------------------------------------- lines


def lines(found: Checkup) -> Iterator[Line]:
    """A line for each port, in the ports' order."""
    if found.told is not None:
        yield from found.told
        return
    flows: dict[Key, list[Asked]] = {}
    for each in found.asked:
        flows.setdefault(each.question.port.key, []).append(each)
    for port in found.ports:
        mine = flows.get(port.key, [])
        arrive = sum(each.fate == "arrives" for each in mine)
        unknown = sum(each.fate == "unknown" for each in mine)
        yield Line(port, len(mine), arrive, _outside(mine), tuple(_exceptions(found, mine)), unknown)


def _outside(flows: Iterable[Asked]) -> str:
    """How clients outside are seen at the addresses that are meant for them."""
    seen = {
        result.seen == "kept"
        for each in flows
        if each.question.client in (OUTSIDE, IN_RANGE, BESIDE) and not each.question.dialled.kind.startswith(CLUSTER_IP)
        for result in each.walked.results
        if result.verdict == "delivered"
    }
    if len(seen) > 1:
        return "both"
    return "" if not seen else "kept" if True in seen else "changed"


def _exceptions(found: Checkup, flows: Iterable[Asked]) -> Iterator[Exceptional]:
    alike: dict[tuple[str, tuple[str, ...]], list[Asked]] = {}
    for each in flows:
        if each.fate == "arrives":
            continue
        told = (found.problems[i].finding for i in each.problems)
        codes = tuple(sorted({f.code for f in told if f.severity != "info"}))
        alike.setdefault((_what(each.walked), codes), []).append(each)
    for (what, codes), group in sorted(alike.items(), key=lambda item: (item[0][0], -len(item[1]))):
        dialled: dict[str, dict[str, None]] = {}
        nodes: dict[str, None] = {}
        for each in group:
            dialled.setdefault(each.question.kind, {})[each.question.who] = None
            stop = each.question.at or each.question.sender
            if stop is not None:
                nodes.update(dict.fromkeys((stop.node, *stop.stands_for)))
        kinds = tuple((kind, tuple(clients)) for kind, clients in dialled.items())
        yield Exceptional(what, codes, kinds, tuple(nodes), len(group), group[0].question)


def _what(found: Answer) -> str:
    """The verdicts but delivered, with their odds where something is delivered too."""
    failed = sorted(found.verdicts - {"delivered"})
    if "delivered" not in found.verdicts:
        return " or ".join(failed) or "unknown"
    words = []
    for verdict in failed:
        odds = [result.odds for result in found.results if result.verdict == verdict]
        known = [each for each in odds if each is not None]
        share = f" in {sum(known, Fraction(0))} of cases" if known and len(known) == len(odds) else ""
        words.append(f"{verdict}{share}")
    return " or ".join(words)
