"""Pods whose device is a macvlan or ipvlan slave of a device of their node: what they send, and what is taken for them.

Sources: Linux drivers/net/macvlan.c (macvlan_queue_xmit, macvlan_handle_frame), drivers/net/ipvlan/ipvlan_core.c
(ipvlan_queue_xmit, ipvlan_process_v4_outbound, ipvlan_handle_frame), ipvlan_l3s.c (ipvlan_l3_rcv, ipvlan_nf_input).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from msgspec.structs import replace

from netk8s.kernel import attachment, links
from netk8s.kernel.attachment import Attachment
from netk8s.kernel.flight import Branch
from netk8s.kernel.netns import Netns
from netk8s.model import Addr, NextHop, Question
from netk8s.trace import _passing, _sending
from netk8s.trace._delivery import pod_end, pod_on
from netk8s.trace._state import (
    DELIVERED,
    DROPPED,
    UNKNOWN,
    UNREACHABLE,
    Arriving,
    End,
    OnLink,
    Past,
    Scene,
    Walk,
    decision,
    hop_done,
    on_wire,
    passed_by,
    tracked,
)

MOST_ENTRIES = 4
"""So many nodes are tried as the one that the network may route a ClusterIP to."""


def settled(branch: Branch, netns: Netns, hung: Attachment) -> Iterator[tuple[Branch, Attachment]]:
    """A pod's attachment with what it assumes, and the others that the dumps do not rule out."""
    if not hung.shared:
        yield branch, hung
        return
    for other in hung.doubts:
        for answer, there in list(branch.ask(attachment.doubt(netns.name, hung, other))):
            if answer:
                yield there, replace(hung, kind=other)
            else:
                branch = there
    yield branch if hung.proven else branch.assume(attachment.told(netns.name, hung)), hung


# ---------------------------------------------------------------- what a pod sends


def leave(scene: Scene, branch: Branch, netns: Netns, past: Past, hung: Attachment) -> Walk:
    """A packet on its way out of a pod with a macvlan or ipvlan device."""
    dst = branch.flight.packet.dst
    sibling = pod_on(scene, netns, dst) is not None and scene.around.attachment(netns, dst).dev == hung.dev
    if sibling and hung.kind != attachment.LINK:
        known = None if hung.apart is None else [(not hung.apart, branch)]
        for together, there in known or branch.ask(attachment.apart(netns.name, hung)):
            if together:
                crossed = passed_by(netns, past, hung.dev, hung.dev, f"from pod to pod on {hung.dev}, past every hook")
                yield pod_end(scene, there, crossed, dst, scene.pod_by_ip[dst])
            else:
                yield End(there, past, UNREACHABLE, attachment.apart(netns.name, hung).if_false)
    elif hung.kind in attachment.BY_ROUTE:
        yield from _by_route(scene, branch, netns, past, hung)
    else:
        yield from _onto_link(scene, branch, netns, past, hung)


def _by_route(scene: Scene, branch: Branch, netns: Netns, past: Past, hung: Attachment) -> Walk:
    """Modes l3 and l3s: the node looks for a route by the parent, then OUTPUT and POSTROUTING as if it had sent it."""
    refused = _passing.unread(netns, branch, past)
    if refused is not None:
        yield refused
        return
    flight = tracked(scene, branch.flight, netns, past)
    packet = flight.packet
    found = netns.fib(packet.family).lookup(
        packet.dst, packet.src, iif="lo", oif=hung.dev, protocol=packet.protocol, sport=packet.sport, dport=packet.dport
    )
    ways = found.ways
    if found.kind == "none" and packet.family == 4:
        # ip_route_output_key_hash_rcu: with an outgoing device and no route the destination is taken to be on its link.
        ways = ((Fraction(1), NextHop(hung.dev)),)
    elif found.kind not in ("unicast", "local"):
        reason = f"ipvlan on {hung.dev} of {netns.name} drops a packet to {packet.dst}: no route ({found.kind})"
        done = branch.step(decision("routing", reason, found.at))
        yield End(done, hop_done(done, netns, past), DROPPED, reason)
        return
    for odds, hop in ways:
        dev = "lo" if found.kind == "local" else hop.dev
        via = f" via {hop.gateway}" if hop.gateway else ""
        step = decision("routing", f"ipvlan hands it to the node, which sends it by {dev}{via}", found.at)
        leaving = flight.with_(oif=dev, nexthop=hop.gateway if found.kind == "unicast" else None, route_mtu=hop.mtu)
        yield from _sending.output(branch.dice(odds).step(step).fly(leaving), netns, past, (hung.dev, True))


def _onto_link(scene: Scene, branch: Branch, netns: Netns, past: Past, hung: Attachment) -> Walk:
    """macvlan and ipvlan in mode l2: the frame leaves by the parent, and no hook of the node sees it."""
    packet = branch.flight.packet
    dev, target = hung.dev or "", packet.dst
    if not links.same_subnet(netns, dev, packet.dst) and not netns.is_local(packet.dst):
        gateway = _gateway(netns, dev, packet.family)
        if gateway is None:
            why = f"no dump has the routes inside pod {packet.src}, nor a gateway on {dev} of {netns.name}"
            yield End(branch, past, UNKNOWN, why)
            return
        target = gateway
        branch = branch.assume(f"pods on {dev} are taken to have the default gateway {target}, as their nodes have")
    past = passed_by(netns, past, None, dev, f"the pod's frame leaves by {dev} past every hook of the node")
    if netns.is_local(target):
        inside = _own_entry(netns, hung, target)
        if inside is None:
            yield End(branch, past, UNREACHABLE, unheard(netns, dev, f"pod {packet.src}", target))
        else:
            yield Arriving(on_wire(branch, inside), netns, past)
        return
    if scene.around.only_inside(packet.dst):
        yield from _untranslated(scene, branch, netns, past, dev, target)
    else:
        yield OnLink(branch, netns, past, dev, target, foreign=True)


def _untranslated(scene: Scene, branch: Branch, netns: Netns, past: Past, dev: str, target: Addr) -> Walk:
    """A ClusterIP on the bare network: some routers send the Service range to a node, most know nothing of it."""
    packet = branch.flight.packet
    for node in list(scene.netns.values())[:MOST_ENTRIES]:
        question = Question(
            f"network:{packet.dst}:{node.name}",
            f"the network routes {packet.dst} to {node.name}",
            f"the network outside the cluster has no route to {packet.dst}",
            default=False,
        )
        for answer, there in list(branch.ask(question)):
            if answer:
                found = node.fib(packet.family).lookup(packet.src, None, iif="lo")
                iif = found.ways[0][1].dev if found.ways else None
                yield Arriving(on_wire(there, iif), node, past)
            else:
                branch = there
    reason = (
        f"packets of pods on {dev} of {netns.name} pass no rule, so nothing translates {packet.dst}, and it goes to "
        f"{f'gateway {target}' if target != packet.dst else 'the link'}, where nobody has it"
    )
    yield End(branch, past, UNREACHABLE, reason)


def _own_entry(netns: Netns, hung: Attachment, target: Addr) -> str | None:
    """The device by which a pod's node hears it: one that is no parent, or a slave of the same parent."""
    for address in netns.node.addresses:
        link = netns.links.get(address.dev)
        if address.ip == target and link is not None:
            if link.kind in ("macvlan", "ipvlan") and link.parent == hung.dev:
                return address.dev
            if hung.kind == attachment.LINK:
                return hung.dev
    return None


def _gateway(netns: Netns, dev: str, family: int) -> Addr | None:
    for route in netns.node.routes:
        if route.dst.prefixlen == 0 and route.dst.version == family and route.table == "main":
            return next((hop.gateway for hop in route.nexthops if hop.dev == dev and hop.gateway is not None), None)
    return None


def unheard(netns: Netns, dev: str, sender: str, target: Addr) -> str:
    """Why a parent device and the pods on it do not reach each other."""
    return f"{sender} cannot reach {target}: {dev} of {netns.name} and the pods on it do not hear each other"


# ---------------------------------------------------------------- what is for a pod


def taken(scene: Scene, arriving: Arriving) -> Iterator[tuple[Branch, bool]]:
    """Whether the parent hands a packet that comes in to a pod before the node's IP sees it (rx_handler)."""
    branch, netns = arriving.branch, arriving.netns
    flight = branch.flight
    pod = pod_on(scene, netns, flight.packet.dst)
    hung = scene.around.attachment(netns, flight.packet.dst) if pod is not None else None
    if hung is None or not hung.shared or hung.dev != flight.iif:
        yield branch, False
        return
    for there, kind in settled(branch, netns, hung):
        yield there, kind.kind in (attachment.IPVLAN_L2, attachment.IPVLAN_L3)


def takes_all(scene: Scene, arriving: Arriving) -> str:
    """Why a packet never gets to the node because one pod has the device for itself, "" where none has."""
    netns, flight = arriving.netns, arriving.branch.flight
    pod = attachment.passed_through(netns, flight.iif or "")
    if pod is None:
        return ""
    mine = scene.pod_by_ip.get(flight.packet.dst)
    if mine is not None and f"{mine.namespace}/{mine.name}" == pod:
        return ""
    return f"pod {pod} gets every frame that comes in by {flight.iif} of {netns.name} (macvlan, mode passthru)"


def handed_over(scene: Scene, branch: Branch, netns: Netns) -> Iterator[tuple[Branch, bool]]:
    """Whether the routing decision is the pod's own (l3s: l3mdev_ip_rcv), and INPUT comes next."""
    flight = branch.flight
    pod = pod_on(scene, netns, flight.packet.dst)
    hung = scene.around.attachment(netns, flight.packet.dst) if pod is not None else None
    if hung is None or not hung.shared or hung.dev != flight.iif:
        yield branch, False
        return
    for there, kind in settled(branch, netns, hung):
        yield there, kind.kind == attachment.IPVLAN_L3S


def not_heard(scene: Scene, event: OnLink, hung: Attachment) -> tuple[str, str]:
    """(verdict, why) of a macvlan device of mode source that does not hear who sends (macvlan_handle_frame), else ""."""
    if hung.sources is None:
        return "", ""
    mac = _sender(scene, event)
    if mac is None:
        what = f"{event.target} hears some MAC addresses alone (macvlan, mode source)"
        return UNKNOWN, f"{what}, and no dump has that of who sends to it"
    if mac.lower() in (each.lower() for each in hung.sources):
        return "", ""
    return (
        UNREACHABLE,
        f"{event.target} does not hear {mac}: it is not among the sources of its macvlan device (mode source)",
    )


def _sender(scene: Scene, event: OnLink) -> str | None:
    """The MAC address that a frame comes from, None where no dump tells."""
    if not event.foreign:
        link = event.netns.links.get(event.dev or "")
        return link.mac if link is not None else None
    src = event.branch.flight.packet.src
    for netns in scene.netns.values():
        for inside in netns.node.pods.values():
            dev = next((a.dev for a in inside.addresses if a.ip == src), None)
            if dev is not None:
                return next((link.mac for link in inside.links if link.name == dev), None)
    found = event.netns.fib(src.version).lookup(src, None, iif="lo")
    by = next((hop.gateway for _, hop in found.ways if hop.gateway is not None), src)
    known = (n.mac for netns in scene.netns.values() for n in netns.node.neighbours if n.ip == by and n.mac is not None)
    return next(known, None)


def asked_on_link(scene: Scene, event: OnLink, netns: Netns, target: Addr) -> Iterator[tuple[Branch, str, str]]:
    """(branch, verdict, why): what comes of ARP for a pod of ``netns`` that is asked for on the network."""
    hung = scene.around.attachment(netns, target)
    for there, kind in settled(event.branch, netns, hung):
        verdict, why = not_heard(scene, event, kind)
        if verdict:
            yield there, verdict, why
        elif kind.kind in attachment.BY_ROUTE:
            what = attachment.WORDS[kind.kind]
            yield (
                there,
                UNREACHABLE,
                f"nobody answers for {target} on {kind.dev} of {netns.name}: {what} answers no ARP",
            )
        elif kind.kind in attachment.ON_LINK or kind.kind == attachment.LINK:
            yield there, DELIVERED, ""
        else:
            yield there, UNKNOWN, kind.why
