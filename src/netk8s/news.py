"""What is new in a checkup since an earlier one of the same cluster: findings that came and went, flows that changed."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from netk8s.checkup import Checkup, only
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
        return bool(self.appeared or self.gone or self.flows or self.ports_new or self.ports_gone)


_Asked = tuple[Question, Answer]
_Kind = tuple[object, ...]


def news(before: Checkup, after: Checkup) -> News:
    """What differs. A finding that reaches other Services or nodes than before is new for these, and gone for those."""
    flows = tuple(_flows(before, after))
    had, have = ({port.key: str(port) for port in found.ports} for found in (before, after))
    return News(
        only(after, before=before).problems,
        only(before, before=after).problems,
        flows,
        tuple(rows(flows)),
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
