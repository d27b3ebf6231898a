"""What Kubernetes software means by its names. A dialect is a module of this package; its file being there is enough.

What a dialect may offer, each by itself:

- ``programmed(node, cluster, mention, node_port)``, ``pod_network(node, family)``, ``node_addresses(node)``,
  ``complete(table)``, ``complete_node(node, cluster)``: see ``kube_proxy_iptables`` and ``kube_proxy_ipvs``
- ``services(node, cluster)``: the names of what is programmed, where these are had for less than all of that
- ``means(step)``: what a step is for, "" where the rule is another's; ``owns(name)``: whether a chain, link, nftables
  table or ipset is of this component
- ``recognise(node, cluster)``: the component as :class:`~netk8s.model.Recognised`, with what it was recognised by
- ``opaque(node, cluster)``: why the node's rules do not tell what becomes of packets there, "" where they do
- ``policed(node, cluster, steps)``: what network policies said at which of a hop's steps, as (index, Policed)
- ``DEVICES``: what a component's devices are for, as (regular expression for the name, words); ``routed(route)``: what
  a route of its own that leads nowhere is for
- ``inside(pod)``: what a pod's own rules or processes do to packets that no node sees, "" for another's pod
- ``pod_devices(node, cluster)``: the pod (namespace/name) of each of the node's devices that is named after one
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from types import ModuleType

from msgspec.structs import replace

from netk8s import plugins
from netk8s.dialects._parts import first as first_parts
from netk8s.dialects._parts import onward as next_parts
from netk8s.dialects._question import resolve
from netk8s.model import Cluster, Hop, Node, Policed, Programmed, Recognised, Step, Trace, World


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
        why = next(filter(None, (d.opaque(node, world.cluster) for d in dialects() if hasattr(d, "opaque"))), "")
        nodes[name] = replace(node, opaque=why) if why else node
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


def recognised(world: World, names: Iterable[str] | None = None) -> tuple[Recognised, ...]:
    """The components at work on the nodes of these names (all nodes), node after node."""
    nodes = [world.nodes[name] for name in (world.nodes if names is None else names) if name in world.nodes]
    return tuple(one for node in nodes for one in _at_work(node, world.cluster))


@lru_cache(maxsize=256)
def _at_work(node: Node, cluster: Cluster) -> tuple[Recognised, ...]:
    found = (d.recognise(node, cluster) for d in dialects() if hasattr(d, "recognise"))
    return tuple(one for one in found if one is not None)


def label(world: World, trace: Trace) -> Trace:
    """The trace with each step's meaning in the words of who wrote the rule, and what policies said of the packet."""
    known: dict[tuple[int, str | None], Step] = {}
    names = dict.fromkeys(hop.node for way in trace.ways for hop in (*way.hops, *way.reply_hops))
    parts = recognised(world, names)
    enforcers = {one.name for one in parts if one.enforces == "rules"}
    enforcing = [d for d in dialects() if hasattr(d, "policed") and d.NAME in enforcers]

    here = {name: [d for d in dialects() if (d.NAME, name) in {(p.name, p.node) for p in parts}] for name in names}

    def named(step: Step, hop: Hop) -> Step:
        key = (id(step), hop.oif if step.hook == "routing" else None)
        found = known.get(key)
        if found is None:
            means = step.means or _means(step)
            if not means and step.hook == "routing":
                means = _routed(world.nodes.get(hop.node), here[hop.node], step, hop)
            found = known[key] = replace(step, means=means)
        return found

    def hops(items: tuple[Hop, ...]) -> tuple[Hop, ...]:
        return tuple(replace(hop, steps=_policed(world, enforcing, hop, named)) for hop in items)

    ways = tuple(replace(way, hops=hops(way.hops), reply_hops=hops(way.reply_hops)) for way in trace.ways)
    unseen = (*_unseen(world, parts), *_inside(world, trace))
    assumptions = tuple(dict.fromkeys((*trace.assumptions, *unseen)))
    return replace(trace, ways=ways, recognised=parts, assumptions=assumptions)


def _routed(node: Node | None, at_work: list[ModuleType], step: Step, hop: Hop) -> str:
    """What a routing decision means in the words of the components at work on the node: a route's, or its device's."""
    refused = node is not None and step.at is not None and "blackhole" in step.action
    for dialect in at_work:
        for route in node.routes if node is not None and refused and hasattr(dialect, "routed") else ():
            if route.at == step.at and (words := dialect.routed(route)):
                return str(words)
        for pattern, words in getattr(dialect, "DEVICES", ()):
            if hop.oif is not None and re.fullmatch(pattern, hop.oif):
                return str(words)
    return ""


def _unseen(world: World, parts: Iterable[Recognised]) -> Iterator[str]:
    """What components do where no dump shows it, or nobody here knows."""
    cluster = world.cluster
    no_policies = "policies" in cluster.covered and not cluster.policies and not cluster.other_policies
    for one in parts:
        if world.nodes[one.node].opaque:
            continue
        by = f"{one.name} is at work on {one.node} ({one.by[0].what}, {one.by[0].at})"
        if not one.modelled:
            yield f"{by}, which is known by name only: nothing but its rules in the dumps is taken to touch the packet"
        elif one.enforces == "hidden" and not no_policies:
            yield f"{by} and may enforce network policies where no dump shows it: they are taken to admit the packet"


def _inside(world: World, trace: Trace) -> Iterator[str]:
    """What pods at the ends of a packet's ways do with it before or behind all that nodes see."""
    known = told_of_pods(world.cluster)
    if known:
        yield from known.get(trace.flow.pod or "", ())
        for way in trace.ways:
            yield from known.get((way.reached.pod if way.reached is not None else None) or "", ())


@lru_cache(maxsize=4)
def told_of_pods(cluster: Cluster) -> dict[str, tuple[str, ...]]:
    offering = [d for d in dialects() if hasattr(d, "inside")]
    said = {f"{p.namespace}/{p.name}": tuple(filter(None, (d.inside(p) for d in offering))) for p in cluster.pods}
    return {name: words for name, words in said.items() if words}


def _policed(
    world: World, enforcing: list[ModuleType], hop: Hop, named: Callable[[Step, Hop], Step]
) -> tuple[Step, ...]:
    """A hop's steps with their meanings; where policies decided, that is the meaning."""
    steps = [named(step, hop) for step in hop.steps]
    node = world.nodes.get(hop.node)
    for dialect in enforcing if node is not None else ():
        for i, said in dialect.policed(node, world.cluster, hop.steps):
            steps[i] = replace(steps[i], policed=said, means=_verdict(said))
    return tuple(steps)


def _verdict(said: Policed) -> str:
    """ "calico policy default/deny-all denied this"."""
    names = ", ".join(said.policies)
    what = "policies" if len(said.policies) > 1 else "policy"
    who = f"{said.component} {what} {names}" if names else f"{said.component}: a network policy"
    side = f" ({said.direction})" if said.direction else ""
    return f"{who} {'admitted' if said.allowed else 'denied'} this{side}"


def _means(step: Step) -> str:
    for dialect in dialects():
        if hasattr(dialect, "means"):
            text: str = dialect.means(step)
            if text:
                return text
    return ""


__all__ = [
    "complete",
    "devices_of_pods",
    "dialects",
    "first_parts",
    "label",
    "next_parts",
    "programmed",
    "recognised",
    "resolve",
    "told_of_pods",
]
