"""The ways of a packet as a graph: chains and decisions, the order they are passed in, and where ways end."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from msgspec import Struct, field

from netk8s.model import Report, Step, Trace, Way
from netk8s.render._tree import matters, total
from netk8s.render._words import address, changed, leg_title, percent, protocol, sender, stand_in


class Vertex(Struct):
    """A chain, a decision, the sender or an end. ``kind``: source, chain, decision, delivered or failed."""

    name: str
    kind: str
    lines: tuple[str, ...]


class Edge(Struct):
    """Packets pass from one vertex to another; the lines say how many of them and changed how."""

    tail: str
    head: str
    lines: tuple[str, ...]


class Cluster(Struct):
    """The vertices of one hop."""

    name: str
    label: str
    vertices: list[Vertex] = field(default_factory=list)


class Graph(Struct):
    """What both picture languages draw."""

    title: str
    loose: list[Vertex]
    clusters: list[Cluster]
    edges: list[Edge]


def graph(report: Report) -> Graph:
    """The ways of the answer (not those of its alternatives) as a graph; rules without effect are left out.

    Legs stand side by side, each with its title at its sender.
    """
    if not report.legs:
        return _of(report.trace)
    whole = Graph(report.trace.flow.target, [], [], [])
    for number, leg in enumerate(report.legs):
        one = _of(leg.trace)
        count = len(whole.loose) + sum(len(cluster.vertices) for cluster in whole.clusters)
        for vertex in (*one.loose, *(v for cluster in one.clusters for v in cluster.vertices)):
            vertex.name = _later(vertex.name, count)
            if vertex.kind == "source":
                vertex.lines = (leg_title(report.legs, number), *vertex.lines)
        for cluster in one.clusters:
            cluster.name = f"{int(cluster.name) + len(whole.clusters)}"
        for edge in one.edges:
            edge.tail, edge.head = _later(edge.tail, count), _later(edge.head, count)
        whole.loose += one.loose
        whole.clusters += one.clusters
        whole.edges += one.edges
    return whole


def _later(name: str, by: int) -> str:
    return f"v{int(name[1:]) + by}"


def _of(trace: Trace) -> Graph:
    flow, packet = trace.flow, trace.flow.packet
    target = address(packet.dst, packet.dport)
    loose: dict[Hashable, Vertex] = {}
    clusters: dict[Hashable, Cluster] = {}
    names: dict[Hashable, str] = {}
    passed: dict[tuple[str, str], dict[int, None]] = {}
    notes: dict[tuple[str, str], dict[str, None]] = {}

    def name(key: Hashable) -> str:
        return names.setdefault(key, f"v{len(names)}")

    what = stand_in(flow, packet.src)
    own = f"{what} ({packet.src} stands for it)" if what else address(packet.src, packet.sport)
    loose["source"] = Vertex(name("source"), "source", (sender(flow), own, f"dials {protocol(packet)} {target}"))
    answer = {index for outcome in trace.outcomes for index in outcome.ways}
    for index, way in enumerate(trace.ways):
        if index not in answer:
            continue
        at, pending = name("source"), list[str]()
        for hop, lines, step in _stops(way):
            if (hop, lines) not in names:
                cluster = clusters.setdefault(hop, Cluster(f"{len(clusters)}", hop[1]))
                cluster.vertices.append(Vertex(name((hop, lines)), "chain" if step.chain else "decision", lines))
            there = name((hop, lines))
            if there != at:
                passed.setdefault((at, there), {})[index] = None
                notes.setdefault((at, there), {}).update(dict.fromkeys(pending))
                at, pending = there, []
            pending += [changed(*change) for change in step.changes]
            pending += [f"not known: {step.unknown}"] if step.unknown else []
        end, kind, ending = _end(way)
        loose.setdefault(end, Vertex(name(end), kind, ending))
        passed.setdefault((at, name(end)), {})[index] = None
        notes.setdefault((at, name(end)), {}).update(dict.fromkeys(pending))
    edges = []
    for pair, members in passed.items():
        odds = total(trace.ways, members)
        share = [percent(odds)] if odds is not None and odds < 1 else []
        edges.append(Edge(*pair, (*share, *notes[pair])))
    return Graph(f"{flow.target}: {protocol(packet)} to {target}", list(loose.values()), list(clusters.values()), edges)


def _stops(way: Way) -> Iterator[tuple[tuple[int, str], tuple[str, ...], Step]]:
    """Where a way stops over: the hop by number and label, the stop's lines, and the step."""
    for number, hop in enumerate(way.hops):
        label = f"{hop.node}, in by {hop.iif}" if hop.iif else hop.node
        for step, kept in zip(hop.steps, matters(hop.steps), strict=True):
            if kept:
                where = f"{step.table} {step.chain}".strip() if step.chain else step.action
                yield (number, label), (step.hook, where), step


def _end(way: Way) -> tuple[Hashable, str, tuple[str, ...]]:
    if way.verdict == "delivered" and way.reached:
        reached = way.reached
        place = [f"pod {reached.pod}"] if reached.pod else []
        place += [f"on {reached.node}"] if reached.node else []
        sees = f"sees {way.source}" if way.source else "sees an address that no dump tells"
        return (reached, way.source), "delivered", (address(reached.ip, reached.port), *place, sees)
    return (way.verdict, way.reason), "failed", (way.verdict, *([way.reason] if way.reason else []))
