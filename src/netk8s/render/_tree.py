"""The ways of a packet as one tree: what ways have in common is there once, and they part where they part."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from msgspec import Struct, field

from netk8s.model import Choice, Hop, Step, Way


class Enter(Struct, frozen=True):
    """The packet comes to a node."""

    node: str
    iif: str | None


class Leave(Struct, frozen=True):
    """The packet leaves a node for another."""

    oif: str | None


class End(Struct, frozen=True):
    """A way is over. ``way`` is its index."""

    way: int


Event = Enter | Step | Leave | End


class Branch(Struct, eq=False):
    """A stretch without a fork: its events, whether each matters, and the branches after it."""

    ways: list[int]
    events: list[tuple[Event, bool]] = field(default_factory=list)
    children: list[Branch] = field(default_factory=list)


class _Node(Struct, eq=False):
    ways: list[int] = field(default_factory=list)
    matters: bool = False
    children: dict[Event, _Node] = field(default_factory=dict)


_PASSING = frozenset({"", "jump", "goto", "return", "continue"})


def matters(steps: Sequence[Step]) -> list[bool]:
    """For each step of a hop, whether it had a part in the outcome.

    A jump has none if nothing in the chain it led to has one. A RETURN of nat has: it is why a packet is
    *not* translated, the question most people come with.
    """
    kept = [False] * len(steps)
    calls: list[tuple[str, int]] = []
    where: tuple[str, str] | None = None
    for index, step in enumerate(steps):
        if (step.hook, step.table) != where:
            where = (step.hook, step.table)
            calls.clear()
        while calls and calls[-1][0] != step.chain:
            calls.pop()
        words = step.action.split()
        verb = words[0].lower() if words else ""
        own = (
            step.rule is None
            or verb not in _PASSING
            or bool(step.changes or step.unknown or step.assumed)
            or step.odds != 1
            or (verb == "return" and step.table == "nat")
        )
        if own:
            kept[index] = True
            for _, caller in calls:
                kept[caller] = True
        if verb in ("jump", "goto") and len(words) > 1:
            calls.append((words[1], index))
    return kept


def tree(ways: Sequence[Way], chosen: Iterable[int]) -> Branch:
    """The ways with the indexes ``chosen`` as a tree of stretches."""
    root = _Node()
    for index in chosen:
        at = root
        at.ways.append(index)
        for event, kept in _events(ways[index].hops, index):
            following = at.children.get(event)
            if following is None:
                following = at.children[event] = _Node()
            following.ways.append(index)
            following.matters |= kept
            at = following
    top = Branch(root.ways)
    todo = [(root, top)]
    while todo:
        node, branch = todo.pop()
        while len(node.children) == 1:
            ((event, node),) = node.children.items()
            branch.events.append((event, node.matters))
        for event, child in node.children.items():
            below = Branch(child.ways, [(event, child.matters)])
            branch.children.append(below)
            todo.append((child, below))
    return top


def _events(hops: Sequence[Hop], way: int) -> Iterator[tuple[Event, bool]]:
    for number, hop in enumerate(hops):
        yield Enter(hop.node, hop.iif), True
        yield from zip(hop.steps, matters(hop.steps), strict=True)
        if number + 1 < len(hops):
            yield Leave(hop.oif), True
    yield End(way), True


def total(ways: Sequence[Way], members: Iterable[int]) -> Fraction | None:
    """The odds of these ways together, None where they depend on a question nobody can answer.

    Dice add up; the two answers of a question do not. So the sum is taken for each set of answers, and told
    if they agree.
    """
    sums: dict[frozenset[Choice], Fraction] = {}
    for index in members:
        key = frozenset(ways[index].choices)
        sums[key] = sums.get(key, Fraction(0)) + ways[index].odds
    found = set(sums.values())
    return found.pop() if len(found) == 1 else None


def conditions(ways: Sequence[Way], members: Sequence[int], parent: Sequence[int]) -> list[str]:
    """What has to be so for these ways to be taken, as against the others of the fork: "if …" clauses."""
    here = frozenset[Choice].intersection(*(frozenset(ways[index].choices) for index in members))
    above = frozenset[Choice].intersection(*(frozenset(ways[index].choices) for index in parent))
    told = (choice.question.if_true if choice.answer else choice.question.if_false for choice in here - above)
    return sorted(text for text in told if text)


# Names that differ from endpoint to endpoint and mean the same: kube-proxy's hashes, addresses, pods' devices.
_OWN = re.compile(
    r"(?P<sep>KUBE-SEP-)[A-Z2-7]{16}|(?P<endpoint>endpoint-)[A-Z2-7]{8}-\S+|(?P<dev>\b(?:veth|cali|lxc|eni|tap))[0-9a-f]+\b"
    r"|(?P<ip>\[?(?:\d+\.\d+\.\d+\.\d+|[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F]*)\]?(?::\d+)?(?:/\d+)?)"
)


def _same(text: str) -> str:
    return _OWN.sub(lambda found: f"{found.lastgroup}", text)


def shape(branch: Branch, ways: Sequence[Way]) -> tuple[object, ...] | None:
    """What a branch looks like but for the endpoint it leads to: equal shapes need telling only once.

    None for a branch that forks again.
    """
    if branch.children:
        return None
    parts: list[object] = []
    for event, _ in branch.events:
        if isinstance(event, Step):
            changes = tuple(name for name, _ in event.changes)
            parts.append((event.hook, event.table, _same(event.chain), _same(event.action), changes, event.assumed))
            parts.append(_same(event.unknown))
        elif isinstance(event, End):
            way = ways[event.way]
            node = way.reached.node if way.reached else None
            port = way.reached.port if way.reached else None
            parts.append((way.verdict, _same(way.reason), way.source, node, port, _same(way.reply)))
            parts.append(frozenset(way.choices))
        elif isinstance(event, Leave):
            parts.append(("leave", _same(event.oif or "")))
        else:
            parts.append((event.node, _same(event.iif or "")))
    return tuple(parts)
