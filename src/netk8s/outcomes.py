"""Folds the ways of a packet into outcomes: sums the dice, keeps the doubts apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from itertools import product

from netk8s.model import (
    Addr,
    Alternative,
    Flow,
    Missing,
    Outcome,
    Question,
    Reached,
    Reply,
    Rewrite,
    Trace,
    Way,
    World,
)

MOST_DOUBTS = 6
"""With more open questions than this (64 combinations) the part of the odds that depends on them is just unknown."""

Key = tuple[str, Reached | None, Addr | None, bool]


def fold(flow: Flow, ways: tuple[Way, ...], world: World) -> Trace:
    """Outcomes under what is assumed, and what they would be were one assumption false."""
    outcomes = _under(ways, {})
    alternatives = _alternatives(ways, outcomes)
    outcomes = _remembered(ways, outcomes)
    assumed = [
        c.question.if_true if c.answer else c.question.if_false
        for way in ways
        for c in way.choices
        if _follows(way, {}) and c.question.default is not None and c.answer == c.question.default
    ]
    texts = [
        *world.notes,
        *flow.assumptions,
        *(a for way in ways if _follows(way, {}) for a in way.assumptions),
        *assumed,
    ]
    missing: list[Missing] = list(world.missing)
    for way in ways:
        missing.extend(m for m in way.missing if m not in missing)
    return Trace(
        flow,
        ways,
        outcomes,
        alternatives,
        _reply(ways),
        tuple(dict.fromkeys(texts)),
        tuple(missing),
    )


def _follows(way: Way, answers: dict[str, bool]) -> bool:
    """Whether a way is one of those under the defaults, with some questions answered otherwise."""
    for choice in way.choices:
        question = choice.question
        if question.key in answers:
            if answers[question.key] != choice.answer:
                return False
        elif question.default is not None and choice.answer != question.default:
            return False
    return True


def _key(way: Way) -> Key:
    if way.verdict != "delivered":
        return (way.verdict, None, None, False)
    return (way.verdict, way.reached, way.source, way.source_known)


def _under(ways: tuple[Way, ...], answers: dict[str, bool]) -> tuple[Outcome, ...]:
    """The outcomes when questions with a default have it, but for ``answers``.

    An outcome's odds are those it has however the open questions are answered; what is left is unknown.
    """
    live = [(i, way) for i, way in enumerate(ways) if _follows(way, answers)]
    open_: dict[str, Question] = {}
    for _, way in live:
        for choice in way.choices:
            if choice.question.default is None and choice.question.key not in answers:
                open_.setdefault(choice.question.key, choice.question)
    keys: dict[Key, list[int]] = {}
    for i, way in live:
        keys.setdefault(_key(way), []).append(i)
    sure: dict[Key, Fraction]
    if not open_:
        sure = {key: sum((ways[i].odds for i in indexes), Fraction(0)) for key, indexes in keys.items()}
    elif len(open_) > MOST_DOUBTS:
        sure = {
            key: sum((ways[i].odds for i in indexes if not _doubts(ways[i], open_)), Fraction(0))
            for key, indexes in keys.items()
        }
    else:
        sure = {}
        worlds = list(product((True, False), repeat=len(open_)))
        names = list(open_)
        for key, indexes in keys.items():
            low = None
            for answer in worlds:
                given = dict(zip(names, answer, strict=True))
                mass = sum((ways[i].odds for i in indexes if _agrees(ways[i], given)), Fraction(0))
                low = mass if low is None else min(low, mass)
            sure[key] = low or Fraction(0)
    out = []
    for key, indexes in keys.items():
        if sure[key] > 0:
            out.append(_outcome(ways, key, indexes, sure[key]))
    total = sum(sure.values(), Fraction(0))
    if total < 1 and (open_ or not live):
        reason = "; ".join(f"not known: {q.if_true}" for q in open_.values()) or "no way was followed to its end"
        doubtful = tuple(i for i, way in live if _doubts(way, open_))
        out.append(Outcome("unknown", 1 - total if total else None, None, None, None, reason, doubtful))
    return tuple(out)


def _remembered(ways: tuple[Way, ...], outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """The outcomes with their odds taken back where they hold only for a client that the node does not remember."""
    memories = {c.question.key for way in ways for c in way.choices if c.question.memory}
    varied: set[Key] = set()
    usual = {_outcome_key(o): o.odds for o in outcomes}
    for key in memories:
        other = {_outcome_key(o): o.odds for o in _under(ways, {key: True})}
        if other:
            varied.update(k for k in {*usual, *other} if usual.get(k) != other.get(k))
    return tuple(_forgotten(o) if _outcome_key(o) in varied and o.verdict != "unknown" else o for o in outcomes)


def _forgotten(outcome: Outcome) -> Outcome:
    share = f"{outcome.odds} for a client that the node does not remember; one that it remembers stays where it is"
    reason = f"{outcome.reason}; {share}" if outcome.reason else share
    return replace(outcome, odds=None, first_odds=outcome.odds, reason=reason)


def _outcome_key(outcome: Outcome) -> Key:
    known = outcome.verdict == "delivered" and outcome.source is not None
    return (outcome.verdict, outcome.reached, outcome.source, known)


def _doubts(way: Way, open_: dict[str, Question]) -> bool:
    return any(c.question.key in open_ for c in way.choices)


def _agrees(way: Way, given: dict[str, bool]) -> bool:
    return all(given.get(c.question.key, c.answer) == c.answer for c in way.choices)


def _outcome(ways: tuple[Way, ...], key: Key, indexes: list[int], odds: Fraction) -> Outcome:
    verdict, reached, source, source_known = key
    first = ways[indexes[0]]
    reason = "; ".join(dict.fromkeys(ways[i].reason for i in indexes if ways[i].reason))
    preserved: bool | None = None
    if verdict == "delivered":
        preserved = source_known and (not first.rewrites or first.rewrites[0].before == source)
    assumed = any(ways[i].assumptions or any(c.question.default is not None for c in ways[i].choices) for i in indexes)
    return Outcome(
        verdict,
        odds,
        reached if verdict == "delivered" else None,
        source if verdict == "delivered" else None,
        preserved,
        reason,
        tuple(indexes),
        _same_rewrites(ways, indexes),
        assumed,
    )


def _same_rewrites(ways: tuple[Way, ...], indexes: Iterable[int]) -> tuple[Rewrite, ...]:
    seen: list[Rewrite] = []
    for i in indexes:
        seen.extend(r for r in ways[i].rewrites if r not in seen)
    return tuple(seen)


def _alternatives(ways: tuple[Way, ...], outcomes: tuple[Outcome, ...]) -> tuple[Alternative, ...]:
    """One for each assumption that the answer hangs on, and both answers of each open question."""
    questions: dict[str, Question] = {}
    for way in ways:
        for choice in way.choices:
            questions.setdefault(choice.question.key, choice.question)
    out = []
    shown = [_shape(o) for o in outcomes]
    for question in questions.values():
        answers = (True, False) if question.default is None else (not question.default,)
        for answer in answers:
            other = _under(ways, {question.key: answer})
            if other and [_shape(o) for o in other] != shown:
                out.append(Alternative(question.if_true if answer else question.if_false, other))
    return tuple(out)


def _shape(outcome: Outcome) -> tuple[object, ...]:
    return (outcome.verdict, outcome.odds, outcome.reached, outcome.source, outcome.reason)


def _reply(ways: tuple[Way, ...]) -> Reply:
    live = [way for way in ways if _follows(way, {}) and (way.verdict in ("delivered", "refused") or way.reply)]
    if not live:
        return Reply(None, "the packet is not delivered")
    broken = [way for way in live if way.reply]
    if broken:
        return Reply(False, broken[0].reply)
    unknown = [way for way in live if not way.reply_known]
    if unknown:
        return Reply(None, "the dumps do not show the way back")
    nodes = list(dict.fromkeys(r.node for way in live for r in way.rewrites))
    if nodes:
        return Reply(True, f"{', '.join(nodes)} translates the answer back")
    return Reply(True, "the answer passes every node that translated the packet")
