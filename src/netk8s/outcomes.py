"""Folds the ways of a packet into outcomes: sums the dice, keeps the doubts apart."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import product

from msgspec.structs import replace

from netk8s.model import (
    Addr,
    Alternative,
    Flow,
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

MOST_ALTERNATIVES = 64
"""More alternatives than this are listed by nobody."""

Key = tuple[str, Reached | None, Addr | None, bool]


REMEMBERED = "the node remembers the client from an earlier connection (session affinity): it stays where it was"
FORGOTTEN = "the nodes remember no earlier connection of the client (session affinity; the lists are in no dump)"


class _Ways:
    """The ways, looked up by what they assume: a large service with affinity has thousands of them."""

    def __init__(self, ways: tuple[Way, ...]) -> None:
        self.ways = ways
        self.usual: list[int] = []
        self.against: dict[str, list[int]] = {}
        self.questions: dict[str, Question] = {}
        for i, way in enumerate(ways):
            off = []
            for choice in way.choices:
                question = choice.question
                self.questions.setdefault(question.key, question)
                if question.default is not None and choice.answer != question.default:
                    off.append(question.key)
            if not off:
                self.usual.append(i)
            elif len(off) == 1:
                self.against.setdefault(off[0], []).append(i)

    def otherwise(self, key: str, answer: bool) -> list[int]:
        """The ways under the defaults, but with this question answered so."""
        against = self.against.get(key, []) if self.questions[key].default is not None else []
        agreeing = [i for i in self.usual if _answer(self.ways[i], key) in (None, answer)]
        return sorted((*against, *agreeing))

    @property
    def remembered(self) -> list[int]:
        """The ways of a client that some node remembers."""
        keys = (key for key, question in self.questions.items() if question.memory)
        return sorted(i for key in keys for i in self.against.get(key, ()))


def _answer(way: Way, key: str) -> bool | None:
    return next((c.answer for c in way.choices if c.question.key == key), None)


def fold(flow: Flow, ways: tuple[Way, ...], world: World) -> Trace:
    """Outcomes under what is assumed, and what they would be were one assumption false."""
    index = _Ways(ways)
    usual = [ways[i] for i in index.usual]
    outcomes = _of(ways, index.usual)
    alternatives = _alternatives(index, outcomes)
    outcomes = _remembered(index, outcomes)
    assumed = [
        FORGOTTEN if c.question.memory else c.question.if_true if c.answer else c.question.if_false
        for way in usual
        for c in way.choices
        if c.question.default is not None
    ]
    texts = [*world.notes, *flow.assumptions, *(a for way in usual for a in way.assumptions), *assumed]
    missing = dict.fromkeys((*world.missing, *(m for way in ways for m in way.missing)))
    return Trace(
        flow,
        ways,
        outcomes,
        alternatives,
        _reply(usual),
        tuple(dict.fromkeys(texts)),
        tuple(missing),
    )


def _key(way: Way) -> Key:
    if way.verdict != "delivered":
        return (way.verdict, None, None, False)
    return (way.verdict, way.reached, way.source, way.source_known)


def _of(ways: tuple[Way, ...], indexes: Iterable[int], answered: str = "") -> tuple[Outcome, ...]:
    """The outcomes of some ways. An outcome's odds are those it has however open questions are answered; the rest is
    unknown. ``answered``: a question that is not open here.
    """
    live = [(i, ways[i]) for i in indexes]
    open_: dict[str, Question] = {}
    for _, way in live:
        for choice in way.choices:
            if choice.question.default is None and choice.question.key != answered:
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


def _remembered(index: _Ways, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """The outcomes with their odds taken back where they hold only for a client that the node does not remember."""
    back = {_key(index.ways[i]) for i in index.remembered}
    if not back or (back == {_outcome_key(o) for o in outcomes} and len(outcomes) == 1):
        return outcomes
    return tuple(_forgotten(o) if o.verdict != "unknown" else o for o in outcomes)


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


def _alternatives(index: _Ways, outcomes: tuple[Outcome, ...]) -> tuple[Alternative, ...]:
    """One for each assumption that the answer hangs on, and both answers of each open question."""
    out: list[Alternative] = []
    shown = [_shape(o) for o in outcomes]
    for question in index.questions.values():
        if question.memory:
            continue
        if len(out) >= MOST_ALTERNATIVES:
            break
        for answer in (True, False) if question.default is None else (not question.default,):
            other = _of(index.ways, index.otherwise(question.key, answer), question.key)
            if [_shape(o) for o in other] not in (shown, []):
                out.append(Alternative(question.if_true if answer else question.if_false, other))
    back = index.remembered
    if back and {_key(index.ways[i]) for i in back} != {_outcome_key(o) for o in outcomes if o.odds == 1}:
        other = tuple(replace(o, odds=None) for o in _of(index.ways, back))
        out.append(Alternative(REMEMBERED, other))
    return tuple(out)


def _shape(outcome: Outcome) -> tuple[object, ...]:
    return (outcome.verdict, outcome.odds, outcome.reached, outcome.source, outcome.reason)


def _reply(ways: Iterable[Way]) -> Reply:
    live = [way for way in ways if way.verdict in ("delivered", "refused") or way.reply]
    if not live:
        return Reply(None, "the packet is not delivered")
    broken = [way for way in live if way.reply]
    if broken:
        return Reply(False, broken[0].reply)
    unknown = [way for way in live if not way.reply_known]
    if unknown:
        gaps = (gap for way in unknown for gap in way.missing)
        begins = dict.fromkeys(gap.node for gap in gaps if gap.what == f"every dump of {gap.node}")
        why = f"; it begins on {', '.join(begins)}, of which there is none" if begins else ""
        return Reply(None, f"the dumps do not show the way back{why}")
    nodes = list(dict.fromkeys(r.node for way in live for r in way.rewrites))
    apart = next((f"; {words}" for way in live if (words := _asymmetric(way))), "")
    if nodes:
        return Reply(True, f"{', '.join(nodes)} translates the answer back{apart}")
    return Reply(True, f"the answer passes every node that translated the packet{apart}")


def _asymmetric(way: Way) -> str:
    """That the answer passes the hooks of other nodes than the question, "" when it does not."""
    there, back = (
        [h.node for h in hops if any(s.hook != "device" for s in h.steps)] for hops in (way.hops, way.reply_hops)
    )
    if not there or not back or set(there) == set(back):
        return ""
    ways = (", ".join(dict.fromkeys(nodes)) for nodes in (there, back))
    return "asymmetric: it goes there over {} and comes back over {}".format(*ways)
