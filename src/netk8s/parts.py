"""A checkup of one node as it travels, and the checkup of a cluster that such parts are folded to.

Each node is asked beside its data: what its rules lack of what the API wants, what it does with packets that enter it or
are sent there, up to its own edge, and what it does with those that other nodes send to its endpoints. A part has what
does not arrive, the findings, and numbers: its size grows with what is wrong, not with Services.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import accumulate, groupby

from msgspec import Struct
from msgspec.structs import replace

from netk8s import findings
from netk8s.checkup import Checkup, Exceptional, Line, lines
from netk8s.drift import Drift, lagging
from netk8s.model import Ask, At, Finding, Missing
from netk8s.problems import Folded, Problem
from netk8s.survey import Dialled, Key, Port, Question, Stop

Ranges = tuple[tuple[int, int], ...]
"""Ports by their places in the list of Service ports, first and last of each run."""

BEHIND = frozenset({"NK604", "NK605", "NK606", "NK607", "NK608"})
"""The codes of a Service that is not on the node as the API has it, of which NK601 is made."""


class Example(Struct, frozen=True):
    """A question without what both sides know. ``port``: its place, ``at`` and ``sender``: nodes."""

    port: int
    kind: str
    ip: str | None
    number: int
    address: str
    client: str
    ask: Ask
    at: tuple[str, bool] | None
    sender: tuple[str, bool] | None


class Numbers(Struct, frozen=True):
    """Ports with the same numbers: flows asked, those that arrive, those not known; how clients outside are seen."""

    asked: int
    arrive: int
    unknown: int
    outside: str
    ports: Ranges


class Alike(Struct, frozen=True):
    """Ports of which so many flows fail alike."""

    what: str
    codes: tuple[str, ...]
    dialled: tuple[tuple[str, tuple[str, ...]], ...]
    flows: int
    example: Example
    ports: Ranges


class Found(Struct, frozen=True):
    """A problem. ``services``: those that are no Service ports of the list."""

    code: str
    severity: str
    summary: str
    evidence: tuple[str, ...]
    remedy: str
    proven: bool
    nodes: tuple[str, ...]
    flows: int
    ports: Ranges
    services: tuple[str, ...]
    example: Example | None


class Part(Struct, frozen=True):
    """What was found of one node. ``ports``: a digest of the list that places are of, ``more``: what follows it there.

    ``judged``: its rules could be held against the API's objects.
    """

    node: str
    ports: str
    more: tuple[Key, ...]
    judged: bool
    numbers: tuple[Numbers, ...]
    exceptions: tuple[Alike, ...]
    findings: tuple[Found, ...]
    notes: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()


def digest(ports: Iterable[Port]) -> str:
    """What two sides compare to know that they mean the same ports, in the same order."""
    return hashlib.sha256("\n".join(map(repr, (port.key for port in ports))).encode()).hexdigest()[:16]


def _is_shared(port: Port) -> bool:
    return port.node is None and not port.service.startswith("pod/")


def shared(ports: Iterable[Port]) -> list[Port]:
    """The ports that every node knows: hostPorts are those of a node's own pods."""
    return [port for port in ports if _is_shared(port)]


def part(found: Checkup) -> Part:
    """A checkup of one node (``checkup.check`` with ``alone``) as it travels."""
    known = shared(found.ports)
    own = [port for port in found.ports if not _is_shared(port)]
    place = {port.key: number for number, port in enumerate((*known, *own))}
    named = {str(port): number for number, port in reversed(list(enumerate((*known, *own))))}
    numbers: dict[tuple[int, int, int, str], list[int]] = {}
    alike: dict[object, list[int]] = {}
    first: dict[object, Exceptional] = {}
    for line in lines(found):
        here = place[line.port.key]
        numbers.setdefault((line.asked, line.arrive, line.unknown, line.outside), []).append(here)
        for each in line.exceptions:
            same = (each.what, each.codes, each.dialled, each.flows)
            alike.setdefault(same, []).append(here)
            first.setdefault(same, each)
    name = found.nodes[0] if found.nodes else ""
    return Part(
        name,
        digest(known),
        tuple(port.key for port in own),
        name in found.judged,
        tuple(Numbers(*same, _ranges(places)) for same, places in numbers.items()),
        tuple(
            Alike(e.what, e.codes, e.dialled, e.flows, _example(e.example, place), _ranges(alike[same]))
            for same, e in first.items()
        ),
        tuple(_found(problem, place, named) for problem in found.problems),
        found.notes,
        tuple((gap.what, gap.needed_for) for gap in found.missing if not gap.absent),
    )


def _found(problem: Problem, place: Mapping[Key, int], named: Mapping[str, int]) -> Found:
    one = problem.finding
    ports = _ranges(sorted(named[name] for name in problem.services if name in named))
    others = tuple(name for name in problem.services if name not in named)
    example = None if problem.example is None else _example(problem.example, place)
    return Found(
        one.code, one.severity, one.summary, one.evidence, one.remedy, one.proven, problem.nodes, problem.flows, ports,
        others, example,
    )  # fmt: skip


def _example(question: Question, place: Mapping[Key, int]) -> Example:
    dialled = question.dialled
    at, sender = ((stop.node, stop.beside) if stop is not None else None for stop in (question.at, question.sender))
    ip = None if dialled.ip is None else str(dialled.ip)
    return Example(
        place[question.port.key], dialled.kind, ip, dialled.port, question.address, question.client, question.ask, at,
        sender,
    )  # fmt: skip


def _ranges(places: Sequence[int]) -> Ranges:
    """Sorted places as runs."""
    runs = (list(run) for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0]))
    return tuple((run[0][1], run[-1][1]) for run in runs)


# ---------------------------------------------------------------- the other side


class Fold:
    """Parts taken in one after another, in any order; none of them is kept."""

    def __init__(self, ports: Sequence[Port], nodes: Iterable[str]) -> None:
        """``ports``: all of the cluster's (``survey.ports`` of its objects). ``nodes``: the names of all nodes."""
        self._shared = shared(ports)
        self._by_key = {port.key: port for port in ports}
        self._digest = digest(self._shared)
        self._names = dict.fromkeys(nodes)
        self._folded = Folded(self._names, ports)
        self._nodes: list[str] = []
        self._judged: dict[str, dict[str, At | None]] = {}
        self._sums = {what: [0] * (len(self._shared) + 1) for what in ("asked", "arrive", "unknown", "kept", "changed")}
        self._own: dict[Key, list[Numbers]] = {}
        self._exceptions: dict[tuple[Key, str, tuple[str, ...]], _Exceptions] = {}
        self._notes: dict[str, None] = {}
        self._missing: dict[tuple[str, str], list[str]] = {}

    def add(self, one: Part) -> None:
        """Takes a part in. Raises ValueError for one that is of other ports, or speaks for a node that it is not of."""
        if one.ports != self._digest:
            raise ValueError("it was asked about other Services")
        keys = [*(port.key for port in self._shared), *one.more] if one.more else [p.key for p in self._shared]
        if any(key not in self._by_key for key in one.more):
            raise ValueError("it tells of pods that the API does not list")
        number = len(self._nodes)
        self._nodes.append(one.node)
        for each in one.numbers:
            self._add_numbers(each, keys)
        for kind in one.exceptions:
            for here in _places(kind.ports):
                same = (keys[here], kind.what, kind.codes)
                if same not in self._exceptions:
                    example = kind.example if kind.example.port == here else replace(kind.example, port=here)
                    self._exceptions[same] = _Exceptions(example)
                self._exceptions[same].add(kind, number)
        behind: dict[str, At | None] = {}
        for found in one.findings:
            names = [*(str(self._by_key[keys[here]]) for here in _places(found.ports)), *found.services]
            nodes = tuple(name for name in found.nodes if name in self._names)
            question = None if found.example is None else self._question(found.example, keys)
            told = Finding(
                found.code, found.severity, found.summary, found.evidence, found.remedy, found.proven
            )  # fmt: skip
            self._folded.joined(Problem(told, tuple(names), nodes, found.flows, question))
            if found.code in BEHIND and found.example is None:
                behind.update(dict.fromkeys(names, _first_place(found.evidence)))
        if one.judged:
            self._judged[one.node] = behind
        self._notes.update(dict.fromkeys(one.notes))
        for gap in one.missing:
            self._missing.setdefault(gap, []).append(one.node)

    def _add_numbers(self, each: Numbers, keys: Sequence[Key]) -> None:
        sums = {"asked": each.asked, "arrive": each.arrive, "unknown": each.unknown,
                "kept": int(each.outside in ("kept", "both")), "changed": int(each.outside in ("changed", "both"))}  # fmt: skip
        size = len(self._shared)
        for first, last in each.ports:
            if not 0 <= first <= last < len(keys):
                raise ValueError("it tells of ports that are not in the list")
            for here in range(max(first, size), last + 1):
                self._own.setdefault(keys[here], []).append(each)
            if first < size:
                for what, value in sums.items():
                    # What is added from one place on and taken away after another: the sums are made once, at the end.
                    self._sums[what][first] += value
                    self._sums[what][min(last + 1, size)] -= value

    def _question(self, example: Example, keys: Sequence[Key]) -> Question:
        port = self._by_key[keys[example.port]]
        dialled = Dialled(example.kind, None if example.ip is None else ip_address(example.ip), example.number)
        at, sender = (None if stop is None else Stop(*stop) for stop in (example.at, example.sender))
        return Question(port, dialled, example.address, example.client, example.ask, at, sender)

    def checkup(
        self, failed: Mapping[str, str] | None = None, gaps: Iterable[Missing] = (), notes: Iterable[str] = ()
    ) -> Checkup:
        """All that was taken in. ``failed``: the nodes that could not be asked, with the reasons."""
        # By name: in which order nodes answered means nothing.
        judged = dict(sorted(self._judged.items()))
        for finding in findings.drifted(Drift(tuple(lagging(judged)), tuple(judged))):
            self._folded.add(finding, None)
        problems, _ = self._folded.sorted()
        missing = [*gaps, *(Missing(what, why, node=", ".join(n)) for (what, why), n in self._missing.items())]
        missing += [
            Missing(f"node {name} ({why})", "every answer about this node", node=name)
            for name, why in (failed or {}).items()
        ]
        return Checkup(
            tuple(sorted(self._nodes)), tuple(self._by_key.values()), (), problems, notes=(*notes, *self._notes),
            missing=tuple(missing), told=tuple(self._lines()), judged=tuple(judged),
        )  # fmt: skip

    def _lines(self) -> Iterator[Line]:
        sums = {what: list(accumulate(values)) for what, values in self._sums.items()}
        numbers = {
            port.key: tuple(sums[what][here] for what in ("asked", "arrive", "unknown", "kept", "changed"))
            for here, port in enumerate(self._shared)
        }
        for key, told in self._own.items():
            outside = [each.outside for each in told]
            seen = (sum(o in ("kept", "both") for o in outside), sum(o in ("changed", "both") for o in outside))
            numbers[key] = (
                sum(e.asked for e in told), sum(e.arrive for e in told), sum(e.unknown for e in told), *seen,
            )  # fmt: skip
        exceptions: dict[Key, list[Exceptional]] = {}
        for (key, what, codes), each in self._exceptions.items():
            told_of = each.told(what, codes, self._nodes, self._question(each.example_of(key), [key]))
            exceptions.setdefault(key, []).append(told_of)
        for key, port in self._by_key.items():
            asked, arrive, unknown, kept, changed = numbers.get(key, (0, 0, 0, 0, 0))
            seen_as = "both" if kept and changed else "kept" if kept else "changed" if changed else ""
            mine = sorted(exceptions.get(key, ()), key=lambda e: (e.what, -e.flows))
            yield Line(port, asked, arrive, seen_as, tuple(mine), unknown)


class _Exceptions:
    """Flows of a port that fail alike on any number of nodes: those are bits of a number, by their place."""

    def __init__(self, example: Example) -> None:
        self._example = example
        self._dialled: dict[str, dict[str, None]] = {}
        self._nodes = 0
        self._flows = 0

    def add(self, kind: Alike, node: int) -> None:
        for dialled, clients in kind.dialled:
            self._dialled.setdefault(dialled, {}).update(dict.fromkeys(clients))
        self._nodes |= 1 << node
        self._flows += kind.flows

    def example_of(self, key: Key) -> Example:
        return replace(self._example, port=0)

    def told(self, what: str, codes: tuple[str, ...], names: Sequence[str], example: Question) -> Exceptional:
        dialled = tuple((kind, tuple(clients)) for kind, clients in self._dialled.items())
        nodes = tuple(name for place, name in enumerate(names) if self._nodes >> place & 1)
        return Exceptional(what, codes, dialled, nodes, self._flows, example)


def _places(ranges: Ranges) -> Iterator[int]:
    for first, last in ranges:
        yield from range(first, last + 1)


def _first_place(evidence: Sequence[str]) -> At | None:
    for text in evidence:
        origin, _, line = text.rpartition(":")
        if origin and line.isdecimal():
            return At(origin, int(line))
    return None
