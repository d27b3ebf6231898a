"""Two snapshots of one cluster, flow by flow: which outcomes differ, how, and which rule or setting is why.

What differs is folded: the same difference of many Services and clients is one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s.model import Addr, World
from netk8s.survey import Answer, Because, Ground, Key, Port, Question, Result, answer, questions

VERDICT, ENDPOINTS, ODDS, AFFINITY, SOURCE = "outcome", "endpoints", "odds", "affinity", "source seen"
KINDS = (VERDICT, ENDPOINTS, AFFINITY, ODDS, SOURCE)
"""What a difference may be of, the weightiest first; a flow is told under the first that fits."""


class Difference(Struct, frozen=True):
    """One flow that differs."""

    kind: str
    question: Question
    a: Answer
    b: Answer


class Row(Struct, frozen=True):
    """Flows that differ alike. ``a`` and ``b`` say what becomes of them in words that hold for all of them.

    ``because_a`` and ``because_b`` are those of the first flow. ``told``: how many flows, where they do not travel.
    """

    kind: str
    dialled: str
    clients: tuple[str, ...]
    services: tuple[str, ...]
    a: str
    b: str
    because_a: Because | None
    because_b: Because | None
    flows: tuple[Difference, ...]
    told: int = 0

    @property
    def number(self) -> int:
        """How many flows."""
        return self.told or len(self.flows)


class Comparison(Struct, frozen=True):
    """Everything that was asked of two snapshots. ``only_a``: what only the first has, in words."""

    asked: int
    flows: tuple[Difference, ...]
    rows: tuple[Row, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    unknown: int = 0
    stands_for: tuple[tuple[str, tuple[str, ...]], ...] = ()


Wanted = Callable[[Sequence[Port]], Iterable[Key] | None]
"""Which of the ports to ask about, None for all of them."""


def compare(
    a: World, b: World, wanted: Wanted | None = None, tick: Callable[[int, int], None] | None = None
) -> Comparison:
    """Asks everything of both and keeps what differs. ``tick`` is told how many of how many are asked."""
    return between((Ground.of(a), Ground.of(b)), wanted, tick)


def between(
    grounds: tuple[Ground, Ground], wanted: Wanted | None = None, tick: Callable[[int, int], None] | None = None
) -> Comparison:
    """:func:`compare` of grounds that are made already. Pods of one snapshot alone send nothing."""
    keys = wanted(grounds[0].ports) if wanted is not None else None
    keys = None if keys is None else list(keys)
    asked = list(questions(_both(grounds), keys))
    found: list[Difference] = []
    unknown = 0
    for number, question in enumerate(asked):
        if tick is not None:
            tick(number, len(asked))
        left, right = (answer(ground, question)[0] for ground in grounds)
        if "unknown" in left.verdicts | right.verdicts:
            unknown += 1
        kind = difference(left, right)
        if kind:
            found.append(Difference(kind, question, left, right))
    stood: dict[str, set[str]] = {}
    for stop in (stop for question in asked for stop in (question.at, question.sender) if stop is not None):
        stood.setdefault(stop.node, set()).update(stop.stands_for)
    return Comparison(
        len(asked),
        tuple(found),
        tuple(rows(found)),
        tuple(_lacking(*grounds, keys)),
        tuple(_lacking(grounds[1], grounds[0], keys)),
        unknown,
        tuple((node, tuple(sorted(others))) for node, others in sorted(stood.items()) if others),
    )


def _both(grounds: tuple[Ground, Ground]) -> tuple[Ground, Ground]:
    """The grounds as far as questions go, with the pods that both have."""
    a, b = (
        {(pod.namespace, pod.name, pod.node, pod.ips, pod.phase) for pod in ground.world.cluster.pods}
        for ground in grounds
    )
    if a == b or not all("pods" in ground.world.cluster.covered for ground in grounds):
        return grounds
    pods = tuple(
        pod for pod in grounds[0].world.cluster.pods if (pod.namespace, pod.name, pod.node, pod.ips, pod.phase) in a & b
    )
    world = grounds[0].world
    return replace(grounds[0], world=replace(world, cluster=replace(world.cluster, pods=pods))), grounds[1]


def difference(a: Answer, b: Answer) -> str:
    """What two answers differ in first, "" when they do not."""
    if a.verdicts != b.verdicts:
        return VERDICT
    if a.endpoints != b.endpoints:
        return ENDPOINTS
    if any(r.sticky for r in a.results) != any(r.sticky for r in b.results):
        return AFFINITY
    if _odds(a) != _odds(b):
        return ODDS
    return SOURCE if _sources(a) != _sources(b) else ""


def _odds(found: Answer) -> dict[tuple[str, Addr | None, int | None], Fraction | None]:
    out: dict[tuple[str, Addr | None, int | None], Fraction | None] = {}
    for r in found.results:
        key = (r.verdict, r.ip, r.port)
        before = out.get(key, Fraction(0))
        out[key] = None if r.odds is None or before is None else before + r.odds
    return out


def _sources(found: Answer) -> frozenset[tuple[object, ...]]:
    return frozenset((r.ip, r.port, r.source or r.seen) for r in found.results if r.verdict == "delivered")


def _lacking(one: Ground, other: Ground, keys: list[Key] | None) -> Iterator[str]:
    """What one ground has and the other has not: nodes, ports, ways to dial a port."""
    yield from (f"node {name}" for name in one.world.nodes if name not in other.world.nodes)
    there = {port.key: port for port in other.ports}
    for port in one.ports:
        if keys is not None and port.key not in keys:
            continue
        same = there.get(port.key)
        if same is None:
            yield f"{port}"
            continue
        for dialled in port.dialled:
            if dialled not in same.dialled:
                yield f"{port} {dialled.kind} {dialled.ip or '*'}:{dialled.port}"


# ---------------------------------------------------------------- folding


def rows(found: Sequence[Difference]) -> Iterator[Row]:
    """Rows by what differs and how, the weightiest kind and the most flows first."""
    alike: dict[tuple[str, str, str, str], list[Difference]] = {}
    for each in found:
        a, b = shape(each.a, each), shape(each.b, each)
        alike.setdefault((each.kind, each.question.kind, a, b), []).append(each)
    made = [_row(key, flows) for key, flows in alike.items()]
    yield from sorted(made, key=lambda row: (KINDS.index(row.kind), -len(row.flows), row.dialled, row.a))


def _row(key: tuple[str, str, str, str], flows: list[Difference]) -> Row:
    kind, dialled, a, b = key
    clients = tuple(dict.fromkeys(each.question.who for each in flows))
    services = tuple(dict.fromkeys(str(each.question.port) for each in flows))
    first = flows[0]
    return Row(kind, dialled, clients, services, a, b, _first(first.a), _first(first.b), tuple(flows))


def _first(found: Answer) -> Because | None:
    """Why it came out so: of several outcomes that of the one that did not arrive."""
    failed = [
        because for because, result in zip(found.because, found.results, strict=False) if result.verdict != "delivered"
    ]
    return failed[0] if failed else found.because[0] if found.because else None


def shape(found: Answer, each: Difference) -> str:
    """What becomes of a flow in words that hold for any Service."""
    place = each.question.at or each.question.sender
    here = place.node if place is not None else None
    delivered = [r for r in found.results if r.verdict == "delivered"]
    if (
        found.verdicts == {"delivered"}
        and each.kind == VERDICT
        and "delivered" not in (each.a.verdicts & each.b.verdicts)
    ):
        # The other side delivers nothing: which of the endpoints these are makes no difference.
        return "delivered"
    rest = sorted(found.verdicts - {"delivered"})
    words = []
    if delivered and each.kind == SOURCE:
        words.append(f"sees {_seen(delivered)}")
    elif delivered and each.kind == AFFINITY:
        words.append("sticky" if any(r.sticky for r in delivered) else "not sticky")
    elif delivered and each.kind == ODDS:
        words.append(f"odds {_shares(delivered)}")
    elif delivered:
        words.append(f"delivered, {_which(delivered, each, here)}")
    for verdict in rest:
        share = sum((r.odds or Fraction(0) for r in found.results if r.verdict == verdict), Fraction(0))
        words.append(verdict if not delivered else f"{verdict} ({share})")
    return ", or ".join(words)


def _which(delivered: Sequence[Result], each: Difference, here: str | None) -> str:
    """On which nodes those of the port's endpoints are."""
    mine = {(r.ip, r.port) for r in delivered}
    known: dict[tuple[Addr | None, int | None], str | None] = {
        (place.ip, place.port): place.node for place in each.question.port.endpoints
    }
    if not mine & set(known):
        return "to what is no endpoint"
    if not mine <= set(known):
        return "also to what is no endpoint"
    local = {key for key in mine if known[key] == here}
    if local == mine and here is not None:
        return "same node"
    return "other nodes" if not local and here is not None else "any node"


def _seen(delivered: Sequence[Result]) -> str:
    words = sorted({r.seen for r in delivered})
    return " or ".join("the client" if word == "kept" else word for word in words)


def _shares(delivered: Sequence[Result]) -> str:
    shares = sorted({"unknown" if r.odds is None else str(r.odds) for r in delivered})
    return ", ".join(shares[:4]) + (", …" if len(shares) > 4 else "")
