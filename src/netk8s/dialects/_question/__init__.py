"""The words of the command line -> one flow: which packet, from where, entering which node."""

from __future__ import annotations

from netk8s.dialects._question.addresses import (
    CLIENT,
    NODE,
    POD,
    client_address,
    family_of_nodes,
    in_service_range,
    node_address,
    owned,
    pod_address,
)
from netk8s.dialects._question.dialled import Dialled
from netk8s.dialects._question.names import family_of, near, node_names, protocol_number
from netk8s.dialects._question.sender import default_source, entry_node, sender, with_source_port
from netk8s.dialects._question.target import dial
from netk8s.errors import NotFound, UsageError
from netk8s.model import TCP, UNSPECIFIED, Addr, Ask, Flow, Packet, World


def resolve(world: World, ask: Ask) -> Flow:
    """The flow that the words ask for.

    Raises UsageError for contradictory or ambiguous words, NotFound for a name that is not there.
    """
    notes: list[str] = []
    ask = with_source_port(ask)
    protocol = protocol_number(ask.protocol)
    for name in (ask.via, ask.node):
        if name is not None and name not in world.nodes and name not in {n.name for n in world.cluster.nodes}:
            raise NotFound(f"node {name}", near(name, node_names(world)))
    if ask.via and ask.node and ask.via != ask.node:
        raise UsageError(f"--via {ask.via} and --node {ask.node} name two nodes for the packet to start at; give one")
    dialled = dial(world, ask, protocol, notes)
    return flow_of(world, ask, dialled, notes)


def flow_of(world: World, ask: Ask, dialled: Dialled, notes: list[str]) -> Flow:
    source = ask.source or default_source(world, ask, dialled, notes)
    origin, start, src, pod = sender(world, ask, source)
    family = (
        dialled.ip.version
        if dialled.ip is not None
        else src.version
        if src is not None
        else family_of(ask) or _default_family(world, dialled)
    )
    stand_ins: list[tuple[Addr, str]] = []
    if dialled.ip is not None and dialled.stands_for:
        stand_ins.append((dialled.ip, dialled.stands_for))
    entry = ask.via or ask.node
    if origin == "outside":
        node = entry_node(world, ask, dialled, notes)
    else:
        assert start is not None  # noqa: S101 - sender names the node of everything but an outside sender
        node = start
    dst = dialled.ip
    if dst is None:
        at = (dialled.owner if dialled.kind == "hostport" and entry is None else entry) or node
        dst = node_address(world, at, family, notes)
        if dst == NODE[family]:
            notes.append(f"{dst} stands for an address of {at}, which no dump tells")
            stand_ins.append((dst, f"node/{at}"))
    if src is not None and src.version != dst.version:
        raise UsageError(f"{source} is of IPv{src.version} and {dst} of IPv{dst.version}")
    if src is None:
        if origin == "outside":
            src = client_address(world, node, dst.version, notes)
            stand_ins.append((src, "client"))
        elif origin == "pod":
            src = pod_address(world, node, pod, dst, notes)
            if pod is None:
                stand_ins.append((src, "pod"))
        else:
            src = UNSPECIFIED[dst.version]
    packet = Packet(dialled.protocol, src, dst, ask.sport, dialled.port)
    if dialled.protocol != TCP:
        packet = packet.replace(tcp_flags=frozenset())
    name = f"{pod.namespace}/{pod.name}" if pod is not None else None
    inside = dialled.kind in ("clusterip", "pod") or in_service_range(world, dst)
    routed = not (origin == "outside" and inside and entry is None)
    return Flow(
        ask.target, source, origin, node, packet, name, None, dialled.service, dialled.kind, tuple(notes),
        tuple(stand_ins), routed, owned(world),
    )  # fmt: skip


def _default_family(world: World, dialled: Dialled) -> int:
    """The nodes' family, unless the Service is of the other one alone."""
    family = family_of_nodes(world)
    return dialled.families[0] if dialled.families and family not in dialled.families else family


__all__ = ["CLIENT", "NODE", "POD", "resolve"]
