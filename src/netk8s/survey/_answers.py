"""A trace reduced to what two answers are compared by: verdicts, endpoints with odds, the source seen, and why."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property

from msgspec import Struct

from netk8s.model import Addr, Hop, Outcome, Step, Trace, Way, World

KEPT, CHANGED, NOT_KNOWN = "kept", "changed", "not known"


class Result(Struct, frozen=True):
    """One outcome. ``odds`` None: not known, for the node may remember the client (``sticky``) or nobody knows.

    ``source`` is the address seen, ``seen`` what it is: the client's own (KEPT), or whose it is.
    """

    verdict: str
    ip: Addr | None = None
    port: int | None = None
    pod: str | None = None
    node: str | None = None
    odds: Fraction | None = None
    sticky: bool = False
    source: Addr | None = None
    seen: str = ""


class Because(Struct, frozen=True):
    """Why it came out so: a sentence, and the rule or setting that decided with its place."""

    text: str
    rule: str = ""
    at: str = ""


class Answer(Struct, frozen=True, dict=True):
    """What became of a question. ``assumed``: it rests on something that no dump tells."""

    results: tuple[Result, ...]
    because: tuple[Because, ...]
    assumed: bool = False

    @cached_property
    def verdicts(self) -> frozenset[str]:
        # Many flows have the answer of one, and each is asked for its verdicts several times.
        return frozenset(result.verdict for result in self.results)

    @property
    def endpoints(self) -> frozenset[tuple[Addr | None, int | None]]:
        """Where it is delivered."""
        return frozenset((r.ip, r.port) for r in self.results if r.verdict == "delivered")


def reduced(world: World, trace: Trace, note: str = "") -> Answer:
    """The answer of a trace whose steps are labelled (``dialects.label``). ``note``: why what fails fails, besides."""
    results = tuple(sorted((_result(world, trace, o) for o in trace.outcomes), key=in_order))
    why = tuple(dict.fromkeys(_because(trace, outcome, note) for outcome in trace.outcomes))
    return Answer(results, why, any(outcome.assumed for outcome in trace.outcomes))


def in_order(result: Result) -> tuple[object, ...]:
    """What the results of an answer are sorted by."""
    return (result.verdict, str(result.ip), result.port or 0, str(result.source))


def _result(world: World, trace: Trace, outcome: Outcome) -> Result:
    sticky = outcome.first_odds is not None
    odds = outcome.first_odds if sticky else outcome.odds
    if outcome.verdict != "delivered" or outcome.reached is None:
        return Result(outcome.verdict, odds=odds, sticky=sticky)
    to = outcome.reached
    return Result(
        outcome.verdict, to.ip, to.port, to.pod, to.node, odds, sticky, outcome.source, _seen(world, trace, outcome)
    )  # fmt: skip


def _seen(world: World, trace: Trace, outcome: Outcome) -> str:
    """Whose the source address is that the endpoint sees, in words that hold for every node."""
    if outcome.preserved:
        return KEPT
    if outcome.source is None:
        return NOT_KNOWN if outcome.preserved is None else CHANGED
    for name, node in world.nodes.items():
        for address in node.addresses:
            if address.ip == outcome.source:
                whose = "the endpoint's node" if outcome.reached and outcome.reached.node == name else "another node"
                if name == trace.flow.node:
                    whose = "the first node" + (", the endpoint's" if whose == "the endpoint's node" else "")
                return f"{address.dev} of {whose}"
    return CHANGED


def _because(trace: Trace, outcome: Outcome, note: str) -> Because:
    ways = [trace.ways[i] for i in outcome.ways]
    way = ways[0] if ways else None
    step = _decisive(way) if way is not None else None
    rule = (step.rule or "") if step is not None else ""
    at = str(step.at) if step is not None and step.at is not None else ""
    if outcome.verdict == "delivered":
        return Because(step.means if step is not None else "", rule, at)
    return Because(f"{outcome.reason}; {note}" if note else outcome.reason, rule, at)


def _decisive(way: Way) -> Step | None:
    """The step that decided: of a packet that arrived the choice of the endpoints, else the last thing done to it."""
    steps = list(_steps(way.hops))
    if way.verdict == "delivered":
        # "Service default/web: all endpoints" names a choice, "Service lookup" is on the way to one.
        chosen = [s for s in steps if (s.means.startswith("Service ") and ":" in s.means) or s.table == "ipvs"]
        return chosen[-1] if chosen else next((s for s in steps if "dnat" in s.action.lower()), None)
    for step in reversed(steps):
        # A rule that ended it, else the decision of routing or a device, which may name a setting.
        if step.rule is None or step.action.split(" ")[0].lower() in ("drop", "reject"):
            return step
    return None


def _steps(hops: tuple[Hop, ...]) -> Iterator[Step]:
    for hop in hops:
        yield from hop.steps
