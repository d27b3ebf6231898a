"""From a question to its answer: one trace, or the legs of a question that takes several packets."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s import dialects, findings
from netk8s.model import (
    Addr,
    Ask,
    Finding,
    Flow,
    Leg,
    Outcome,
    Part,
    Reached,
    Reply,
    Report,
    Rewrite,
    Trace,
    World,
)
from netk8s.trace import trace

MOST_LEGS = 64
"""Legs that are walked; what more there are is said and not known."""


def answer(world: World, ask: Ask) -> Report:
    """The whole answer: the question, the ways of each of its packets, their meaning, the findings.

    Raises UsageError and NotFound.
    """
    parts = dialects.first_parts(world, ask)
    walk = _Walk(world, ask)
    walk.go(parts)
    if len(parts) == len(walk.legs) == 1 and not parts[0].name:
        leg = walk.legs[0]
        return Report(leg.trace, leg.findings, leg.notes)
    return walk.report()


class _Ended(Struct, frozen=True):
    """An outcome of the whole, and the odds of the way to it."""

    outcome: Outcome
    odds: Fraction | None


class _Walk:
    """Walks the parts, and what follows on each outcome, into legs and the outcomes of the whole."""

    def __init__(self, world: World, ask: Ask) -> None:
        self.world, self.ask = world, ask
        self.legs: list[Leg] = []
        self.ended: list[_Ended] = []
        self._known: dict[Flow, tuple[Trace, tuple[Finding, ...]]] = {}

    def go(
        self, parts: Iterable[Part], odds: Fraction | None = Fraction(1), after: tuple[int, int] | None = None
    ) -> None:
        for part in parts:
            share = None if odds is None or part.odds is None else odds * part.odds
            if part.flow is None:
                self._end(Outcome(part.verdict, None, None, None, None, part.reason, ()), share)
            elif len(self.legs) >= MOST_LEGS:
                reason = f"not walked: the question takes more than {MOST_LEGS} packets"
                self._end(Outcome("unknown", None, None, None, None, reason, ()), share)
            else:
                self._leg(part, part.flow, share, after)

    def _leg(self, part: Part, flow: Flow, share: Fraction | None, after: tuple[int, int] | None) -> None:
        if flow not in self._known:
            walked = dialects.label(self.world, trace(self.world, flow))
            self._known[flow] = (walked, findings.check(self.world, walked))
        walked, found = self._known[flow]
        index = len(self.legs)
        self.legs.append(Leg(part.name, walked, found, part.odds, after, part.besides, part.notes))
        if part.besides:
            return
        for number, outcome in enumerate(walked.outcomes):
            odds = None if share is None or outcome.odds is None else share * outcome.odds
            onward: tuple[Part, ...] = ()
            if outcome.verdict == "delivered" and outcome.reached is not None:
                onward = dialects.next_parts(self.world, self.ask, part, outcome)
            if onward:
                self.go(onward, odds, (index, number))
                continue
            outcome = replace(outcome, ways=())
            if outcome.verdict != "delivered" and part.name:
                outcome = replace(outcome, reason=f"{part.name}: {outcome.reason}")
            elif after is not None:
                outcome = replace(outcome, preserved=False)
            self._end(outcome, odds)

    def _end(self, outcome: Outcome, odds: Fraction | None) -> None:
        self.ended.append(_Ended(outcome, odds))

    def report(self) -> Report:
        first = self.legs[0].trace
        assumptions = dict.fromkeys(text for leg in self.legs for text in leg.trace.assumptions)
        missing = dict.fromkeys(gap for leg in self.legs for gap in leg.trace.missing)
        found = dict.fromkeys(finding for leg in self.legs for finding in leg.findings)
        notes = dict.fromkeys(note for leg in self.legs for note in leg.notes)
        flow = replace(first.flow, target=self.ask.target)
        whole = Trace(flow, (), self._outcomes(), (), self._reply(), tuple(assumptions), tuple(missing))
        return Report(whole, tuple(found), tuple(notes), tuple(self.legs))

    def _outcomes(self) -> tuple[Outcome, ...]:
        together: dict[tuple[str, Reached | None, Addr | None, bool | None, str], list[_Ended]] = {}
        for end in self.ended:
            one = end.outcome
            together.setdefault((one.verdict, one.reached, one.source, one.preserved, one.reason), []).append(end)
        return tuple(_sum(ends) for ends in together.values())

    def _reply(self) -> Reply:
        for wrong in (False, None):
            for leg in self.legs:
                if leg.trace.reply.symmetric is wrong:
                    return Reply(wrong, f"{leg.name}: {leg.trace.reply.why}" if leg.name else leg.trace.reply.why)
        return Reply(True, "; ".join(dict.fromkeys(leg.trace.reply.why for leg in self.legs)))


def _sum(ends: list[_Ended]) -> Outcome:
    """One outcome with the odds of all its ends; not known when those of one are not."""
    known = [end.odds for end in ends if end.odds is not None]
    rewrites: dict[Rewrite, None] = dict.fromkeys(r for end in ends for r in end.outcome.rewrites)
    return replace(
        ends[0].outcome,
        odds=sum(known, Fraction(0)) if len(known) == len(ends) else None,
        first_odds=None,
        rewrites=tuple(rewrites),
        assumed=any(end.outcome.assumed for end in ends),
    )
