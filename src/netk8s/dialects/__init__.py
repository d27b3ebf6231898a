"""What Kubernetes software means by its names. A dialect is a module of this package; its file being there is enough.

A dialect may offer ``programmed(node, cluster, mention, port)``, ``pod_network(node, family)``, ``node_addresses(node)``,
``complete(table)``, ``complete_node(node, cluster)`` and ``means(step)``, see ``kube_proxy_iptables``; and
``pod_devices(node, cluster)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

from netk8s import plugins
from netk8s.dialects._question import resolve
from netk8s.model import Cluster, Hop, Node, Programmed, Step, Trace, World


def dialects() -> list[ModuleType]:
    """Every dialect there is a module for."""
    return plugins.modules(__name__)


def complete(world: World) -> World:
    """The world with what a headless dump leaves out and its writer always has, each said in the notes."""
    nodes: dict[str, Node] = {}
    notes, missing = list(world.notes), list(world.missing)
    for name, node in world.nodes.items():
        tables = []
        for table in node.tables:
            for dialect in dialects():
                found = dialect.complete(table) if hasattr(dialect, "complete") else None
                if found is not None:
                    table, note = found
                    notes.append(note)
            tables.append(table)
        node = replace(node, tables=tuple(tables))
        for dialect in dialects():
            added = dialect.complete_node(node, world.cluster) if hasattr(dialect, "complete_node") else None
            if added is not None:
                node, note, gap = added
                notes.append(note)
                missing.append(gap)
        nodes[name] = node
    return replace(world, nodes=nodes, notes=tuple(notes), missing=tuple(missing))


def programmed(world: World) -> tuple[Programmed, ...]:
    """Every Service port that the rules of every node have: node after node, by Service, port and kind."""
    kinds = {"ClusterIP": 0, "NodePort": 1, "LoadBalancer": 2, "ExternalIP": 3, "External": 4}

    def order(p: Programmed) -> tuple[object, ...]:
        return (p.service, p.port_name, p.protocol, kinds.get(p.kind, 9), p.port, str(p.ip), p.at)

    return tuple(p for node in world.nodes.values() for p in sorted(_programmed(node, world.cluster), key=order))


def _programmed(node: Node, cluster: Cluster) -> Iterator[Programmed]:
    for dialect in dialects():
        if hasattr(dialect, "programmed"):
            yield from dialect.programmed(node, cluster)


def devices_of_pods(node: Node, cluster: Cluster) -> dict[str, str]:
    """The pod (namespace/name) that a device of the node belongs to by its name."""
    found: dict[str, str] = {}
    for dialect in dialects():
        if hasattr(dialect, "pod_devices"):
            found |= dialect.pod_devices(node, cluster)
    return found


def label(world: World, trace: Trace) -> Trace:
    """The trace with each step's meaning in the words of who wrote the rule."""
    del world
    known: dict[int, Step] = {}

    def named(step: Step) -> Step:
        found = known.get(id(step))
        if found is None:
            found = known[id(step)] = step if step.means else replace(step, means=_means(step))
        return found

    def hops(items: tuple[Hop, ...]) -> tuple[Hop, ...]:
        return tuple(replace(hop, steps=tuple(named(step) for step in hop.steps)) for hop in items)

    ways = tuple(replace(way, hops=hops(way.hops), reply_hops=hops(way.reply_hops)) for way in trace.ways)
    return replace(trace, ways=ways)


def _means(step: Step) -> str:
    for dialect in dialects():
        if hasattr(dialect, "means"):
            text: str = dialect.means(step)
            if text:
                return text
    return ""


__all__ = ["complete", "devices_of_pods", "dialects", "label", "programmed", "resolve"]
