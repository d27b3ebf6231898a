"""What is new in a checkup since an earlier one of the same cluster: findings that came and went, flows that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from netk8s.checkup import Checkup, Line, only
from netk8s.comparison import VERDICT, Difference, Row, difference, rows
from netk8s.problems import Problem
from netk8s.survey import Answer, Question


class News(Struct, frozen=True):
    """``ports_new`` and ``ports_gone`` are Service ports, in words; their flows have nothing to be held against."""

    appeared: tuple[Problem, ...] = ()
    gone: tuple[Problem, ...] = ()
    flows: tuple[Difference, ...] = ()
    rows: tuple[Row, ...] = ()
    ports_new: tuple[str, ...] = ()
    ports_gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.appeared or self.gone or self.rows or self.ports_new or self.ports_gone)


_Asked = tuple[Question, Answer]
_Kind = tuple[object, ...]


def news(before: Checkup, after: Checkup) -> News:
    """What differs. A finding that reaches other Services or nodes than before is new for these, and gone for those."""
    flows = tuple(_flows(before, after))
    if before.told is not None and after.told is not None:
        made = tuple(_of_lines(before.told, after.told))
    else:
        made = tuple(rows(flows))
    had, have = ({port.key: str(port) for port in found.ports} for found in (before, after))
    return News(
        only(after, before=before).problems,
        only(before, before=after).problems,
        flows,
        made,
        tuple(name for key, name in have.items() if key not in had),
        tuple(name for key, name in had.items() if key not in have),
    )


def _flows(before: Checkup, after: Checkup) -> Iterator[Difference]:
    asked: dict[_Kind, list[_Asked]] = {}
    for each in before.asked:
        asked.setdefault(_kind(each.question), []).append((each.question, each.answer))
    for each in after.asked:
        for question, answer in asked.get(_kind(each.question), ()):
            fits = _fits(question, each.question)
            if fits:
                kind = difference(answer, each.answer)
                # A node that another stood for has other endpoints of its own than that one: the verdict alone counts.
                if kind and (fits == _SAME or kind == VERDICT):
                    yield Difference(kind, each.question, answer, each.answer)
                break


_Failing = dict[tuple[str, str], dict[str, int]]
"""By (what is dialled, client): how the flows fail that do, and how many."""


def _of_lines(before: Sequence[Line], after: Sequence[Line]) -> Iterator[Row]:
    """Where flows do not travel: which of them fail, and how, by Service port."""
    had = {line.port.key: _failing(line) for line in before}
    alike: dict[tuple[str, str, str], tuple[dict[str, None], dict[str, None], list[int]]] = {}
    for line in after:
        old = had.get(line.port.key)
        if old is None:
            continue
        new = _failing(line)
        for key in dict.fromkeys((*old, *new)):
            a, b = old.get(key, {}), new.get(key, {})
            if a.keys() != b.keys():
                clients, services, flows = alike.setdefault((key[0], _how(a), _how(b)), ({}, {}, []))
                clients[key[1]] = services[str(line.port)] = None
                flows.append(max(sum(a.values()), sum(b.values())))
    for (dialled, how, now), (clients, services, flows) in alike.items():
        yield Row(VERDICT, dialled, tuple(clients), tuple(services), how, now, None, None, (), sum(flows))


def _failing(line: Line) -> _Failing:
    out: _Failing = {}
    for each in line.exceptions:
        kinds = [(dialled, client) for dialled, clients in each.dialled for client in clients]
        for kind in kinds:
            out.setdefault(kind, {})[each.what] = max(each.flows // len(kinds), 1)
    return out


def _how(failing: Mapping[str, int]) -> str:
    return " or ".join(sorted(failing)) or "none fails"


def _kind(question: Question) -> _Kind:
    return question.port.key, question.dialled, question.address, question.client


_SAME, _ALIKE = 2, 1


def _fits(old: Question, new: Question) -> int:
    """Whether a question is asked at the same nodes, or at nodes that another one stood for; else 0."""
    fits = _SAME
    for a, b in ((old.at, new.at), (old.sender, new.sender)):
        if (a is None) != (b is None):
            return 0
        if a is not None and b is not None and a.node != b.node:
            if b.node not in a.stands_for:
                return 0
            fits = _ALIKE
    return fits
