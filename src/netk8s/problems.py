"""Findings of many flows, or of many nodes, folded: the same finding of the same cause is one problem."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from netk8s import findings
from netk8s.model import Finding
from netk8s.survey import Port, Question


class Problem(Struct, frozen=True):
    """A finding, in the words of the first flow that it was made in, and how far it reaches.

    ``flows``: how many flows show it. ``example`` is None for what is found without a packet.
    """

    finding: Finding
    services: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    flows: int = 0
    example: Question | None = None


_BESIDES = re.compile(r" \([^()]*\)")
_PARTICULAR = re.compile(
    r"\[?(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?:/\d{1,3})?\]?(?::\d+)?"
    r"|(?<![\w.-])(?:pod |svc/)?[a-z0-9.-]+/[a-z0-9.-]+(?::[a-z0-9-]+)?|\b\d+(?:\.\d+)?%?(?!\w)(?: endpoints)?"
)
_SEVERAL = re.compile(r"\*(?:(?:,| and|, and) \*)+|\* (?:has|have)\b")
_SERVICE = re.compile(r"[\w.-]+/[\w.-]+(?::[\w-]+)?")
_WORD = re.compile(r"[\w.-]+")


def said(summary: str, nodes: Mapping[str, object]) -> str:
    """A summary without what findings of one cause differ in: addresses, Services, pods, nodes, numbers."""
    text = _PARTICULAR.sub("*", _BESIDES.sub("", summary))
    text = _WORD.sub(lambda found: "*" if found[0] in nodes else found[0], text)
    return _SEVERAL.sub("*", text)


class Folded:
    """Findings that say the same but for the addresses and names made one problem."""

    def __init__(self, nodes: Mapping[str, object], ports: Iterable[Port]) -> None:
        self._all_nodes = nodes
        self._all_services = {str(port) for port in ports}
        self._index: dict[tuple[object, ...], int] = {}
        self._first: list[tuple[Finding, Question | None]] = []
        self._services: list[dict[str, None]] = []
        self._nodes: list[dict[str, None]] = []
        self._evidence: list[dict[str, None]] = []
        self._flows: list[int] = []

    def add(self, finding: Finding, question: Question | None) -> int:
        """The index of the finding's problem. ``question`` None: no packet shows it."""
        nodes = _nodes(finding, self._all_nodes)
        index = self._place(finding, question, nodes)
        if question is not None:
            self._services[index][str(question.port)] = None
            self._flows[index] += 1
        else:
            named = (name.rstrip(".:") for name in _SERVICE.findall(finding.summary))
            self._services[index].update(dict.fromkeys(name for name in named if name in self._all_services))
        for name in nodes:
            self._nodes[index].update(dict.fromkeys((name, *_alike(question, name))))
        self._seen_at(index, finding.evidence)
        return index

    def place(self, finding: Finding, question: Question) -> int | None:
        """The index of the problem that a finding of a flow is folded into, None for a new one."""
        return self._index.get(self._key(finding, question, _nodes(finding, self._all_nodes)))

    def again(self, index: int, question: Question, evidence: Iterable[str]) -> None:
        """Adds another flow that shows a problem, on the nodes that a flow like it has shown it on."""
        self._services[index][str(question.port)] = None
        self._flows[index] += 1
        self._seen_at(index, evidence)

    def joined(self, problem: Problem) -> int:
        """Takes over a problem that was found elsewhere, with all that it reaches. The index of what it is folded into."""
        finding = problem.finding
        index = self._place(finding, problem.example, problem.nodes)
        self._services[index].update(dict.fromkeys(problem.services))
        self._nodes[index].update(dict.fromkeys(problem.nodes))
        self._flows[index] += problem.flows
        self._seen_at(index, finding.evidence)
        return index

    def _place(self, finding: Finding, question: Question | None, nodes: tuple[str, ...]) -> int:
        key = self._key(finding, question, nodes)
        index = self._index.setdefault(key, len(self._first))
        if index == len(self._first):
            self._first.append((finding, question))
            self._services.append({})
            self._nodes.append({})
            self._evidence.append({})
            self._flows.append(0)
        return index

    def _key(self, finding: Finding, question: Question | None, nodes: tuple[str, ...]) -> tuple[object, ...]:
        # Without a packet it is the node that is wrong; each has its own remedy.
        same: object = nodes if question is None else said(finding.summary, self._all_nodes)
        return finding.code, finding.severity, finding.proven, same

    def _seen_at(self, index: int, evidence: Iterable[str]) -> None:
        if len(self._evidence[index]) < findings.MOST_EVIDENCE:
            self._evidence[index].update(dict.fromkeys(evidence))

    def sorted(self) -> tuple[tuple[Problem, ...], dict[int, int]]:
        """The problems, the worst and widest first, and the place of each index among them."""
        made = []
        for index, (finding, question) in enumerate(self._first):
            evidence = tuple(self._evidence[index])[: findings.MOST_EVIDENCE]
            made.append(
                Problem(
                    replace(finding, evidence=evidence), tuple(self._services[index]), tuple(self._nodes[index]),
                    self._flows[index], question,
                )
            )  # fmt: skip
        order = sorted(range(len(made)), key=lambda i: _weight(made[i]))
        return tuple(made[i] for i in order), {index: place for place, index in enumerate(order)}


def _nodes(finding: Finding, nodes: Mapping[str, object]) -> tuple[str, ...]:
    """The nodes that a finding names."""
    return tuple(dict.fromkeys(name for name in _WORD.findall(finding.summary) if name in nodes))


def _alike(question: Question | None, node: str) -> tuple[str, ...]:
    """The nodes that a node of a question stands for."""
    if question is None:
        return ()
    stops = [stop for stop in (question.at, question.sender) if stop is not None and stop.node == node]
    return stops[0].stands_for if stops else ()


def _weight(problem: Problem) -> tuple[object, ...]:
    """The worst first; of these what is wrong with a node, then what stops packets, then what is seen of it."""
    finding = problem.finding
    shown = problem.example is not None
    seen = finding.code in findings.symptoms()
    return (findings.SEVERITIES.index(finding.severity), shown, seen, -problem.flows, finding.code, finding.summary)
