"""From the question to its ends: where the packet starts, and what comes after what."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from msgspec.structs import replace

from netk8s.kernel import attachment, carrier, links
from netk8s.kernel.flight import Branch, Conn
from netk8s.kernel.netns import Netns
from netk8s.model import Choice, Missing, Packet, Question
from netk8s.trace import _arp, _link, _pods, _receiving, _sending
from netk8s.trace._delivery import pod_on
from netk8s.trace._state import (
    UNKNOWN,
    UNREACHABLE,
    Arriving,
    End,
    Looping,
    OnLink,
    Past,
    Scene,
    Walk,
    fresh,
    tracked,
)


def to_the_end(scene: Scene, walk: Walk) -> Iterator[End]:
    """The ends of a walk: whatever is to be walked next is walked."""
    for event in walk:
        match event:
            case End():
                yield event
            case Arriving():
                yield from to_the_end(scene, _receiving.receive(scene, event))
            case Looping():
                yield from to_the_end(scene, _receiving.loop(scene, event))
            case OnLink():
                # The tunnel's packet is no answer, whatever is in it.
                there = partial(to_the_end, replace(scene, back=False))
                yield from to_the_end(scene, _link.cross(scene, event, there))


def start(scene: Scene, entries: tuple[tuple[str, Conn], ...] = (), choices: tuple[Choice, ...] = ()) -> Iterator[End]:
    """The ways of the packet that the question is about.

    ``entries`` and ``choices``: what nodes know of its connection, and what was asked and answered, for a later packet.
    """
    flow = scene.flow
    packet = flow.packet
    past = Past(flow, entries=entries)
    branch = Branch(fresh(packet), choices=choices)
    start = scene.netns.get(flow.node)
    if start is None:
        past = past.lacks(Missing(f"every dump of {flow.node}", "where the packet starts", node=flow.node))
        yield End(branch, past, UNKNOWN, f"no dump of {flow.node}, where the packet starts")
    elif flow.origin == "node":
        conn = tracked(scene, branch.flight, start, past).conn
        yield from to_the_end(scene, _sending.send(packet, start, past, conn if entries else None, choices))
    elif flow.origin == "pod":
        yield from to_the_end(scene, _pods.leave_pod(scene, branch, start, past))
    else:
        yield from to_the_end(scene, _arrive_from_outside(scene, branch, start, past))


def _arrive_from_outside(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    packet = branch.flight.packet
    if not scene.flow.routed:
        question = Question(
            f"network:{packet.dst}",
            f"the network routes {packet.dst} to {netns.name}",
            f"the network outside the cluster has no route to {packet.dst} (give --via NODE if it has)",
            default=scene.around.reaches_network(netns, packet),
        )
        for answer, other in branch.ask(question):
            if answer:
                yield from _enter(scene, other, netns, past)
            else:
                yield End(other, past, UNREACHABLE, question.if_false)
        return
    yield from _enter(scene, branch, netns, past)


def _asked_on_link(scene: Scene, packet: Packet, netns: Netns) -> Netns:
    """The node of a pod that the client asks its own link for, else the node that the question names."""
    pod = scene.pod_by_ip.get(packet.dst)
    owner = scene.netns.get(pod.node or "") if pod is not None and not pod.host_network else None
    if owner is None or not scene.around.reaches_network(owner, packet):
        return netns
    hung = scene.around.attachment(owner, packet.dst)
    return owner if hung.shared or hung.kind == attachment.LINK else netns


def _network_of(netns: Netns, packet: Packet) -> str | None:
    """The device on whose network the dialled address is: routers ask for it there, whatever the way back is.

    Of a packet for a virtual address that a router sends to the node it is the device of the node's own address.
    """
    asked = {packet.dst} if netns.is_local(packet.dst) else set(netns.own)
    for address in netns.node.addresses:
        if address.ip in asked and address.ip.version == packet.family and address.prefixlen < address.ip.max_prefixlen:
            link = netns.links.get(address.dev)
            return address.dev if link is None or link.kind not in ("bridge", "dummy") else None
    return None


def _enter(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    packet = branch.flight.packet
    netns = netns if scene.flow.routed else _asked_on_link(scene, packet, netns)
    pod = pod_on(scene, netns, packet.dst)
    hung = scene.around.attachment(netns, packet.dst) if pod is not None else None
    on_wire = hung is not None and (hung.shared or hung.kind == attachment.LINK)
    if hung is not None and on_wire and links.same_subnet(netns, hung.dev or "", packet.dst):
        yield OnLink(branch, netns, past, hung.dev, packet.dst, foreign=True)
        return
    if dead := carrier.cut_off(netns):
        yield End(branch, past, UNREACHABLE, f"{dead}, so nobody answers for {netns.name} there")
        return
    iif, known = scene.flow.iif, scene.flow.iif is not None
    refused = None
    if iif is None and netns.routes_known(packet.family):
        found = netns.fib(packet.family).lookup(packet.src, None, iif="lo")
        if found.kind == "unicast" and found.ways:
            back = found.ways[0][1]
            iif, known = back.dev, True
            refused = _arp.refused_outside(netns, packet, back)
            inside = packet.src in scene.pod_by_ip or scene.around.owner_by_objects(packet.src) is not None
            dialled = None if inside or back.gateway is None else _network_of(netns, packet)
            if dialled not in (None, iif):
                branch = branch.assume(
                    f"the packet comes in by {dialled}, on whose network routers ask for it; back to {packet.src} it is {iif}"
                )
                iif, refused = dialled, None
            elif len(found.ways) > 1:
                branch = branch.assume(f"the packet comes in by {iif}, one of several ways back to {packet.src}")
        else:
            branch = branch.assume(
                f"{netns.name} has no route back to {packet.src}; the device it comes in by is not known"
            )
    if dead := carrier.lost(netns, iif):
        yield End(branch, past, UNREACHABLE, f"{dead}, so nobody answers for {netns.name} there")
        return
    for there, silent in _arp.answers(branch, refused):
        if silent:
            yield End(there, past, UNREACHABLE, silent)
        else:
            yield Arriving(there.fly(there.flight.with_(iif=iif, iif_known=known)), netns, past)
