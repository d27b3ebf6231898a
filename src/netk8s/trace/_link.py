"""Who is at the other end of a link that a packet left a node by."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from netk8s import objects
from netk8s.kernel import attachment, carrier, conntrack, links
from netk8s.kernel.flight import Branch
from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Missing, Pod, Question, Reached
from netk8s.trace import _arp, _slaves, _tunnel
from netk8s.trace._delivery import carries, pod_end, pod_on
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
    Told,
    Walk,
    on_wire,
)


def cross(scene: Scene, event: OnLink, to_the_end: Callable[[Walk], Iterator[End]]) -> Walk:
    """Who is at the other end of a device. ``to_the_end`` walks what a tunnel sends."""
    branch, netns, past, dev, target = event.branch, event.netns, event.past, event.dev, event.target
    if dev is None:
        yield from _no_device(scene, branch, netns, past)
        return
    link = netns.links.get(dev)
    if link is not None and link.kind == "dummy":
        # drivers/net/dummy.c dummy_xmit: counted and freed.
        yield End(branch, past, DROPPED, f"{dev} of {netns.name} is a dummy device: what is sent by it is gone")
        return
    if dead := carrier.lost(netns, dev):
        # What has a MAC address already is thrown away in silence; for what has none nobody is told until ARP gives up.
        known = netns.neighbour(target, dev)
        if known is not None and known.mac is not None and "PERMANENT" in known.states:
            yield End(branch, past, DROPPED, f"{dead}: what is sent by it is gone")
            return
        told = _no_neighbour(netns, target) if not event.foreign else None
        yield End(branch, past, UNREACHABLE, f"{dead}, so nobody answers for {target} there", told=told)
        return
    if link is not None and (gone := _tunnel.lost(event, link, to_the_end)):
        yield End(branch, past, DROPPED, gone)
        return
    pod = scene.pod_by_ip.get(target)
    if pod_on(scene, netns, target) is not None:
        yield from _own_pod(scene, event)
        return
    told = _no_neighbour(netns, target) if not event.foreign else None
    if mute := _arp.mute(event):
        yield End(branch, past, UNREACHABLE, mute, told=told)
        return
    owner = scene.netns.get(pod.node or "") if pod is not None and not pod.host_network else None
    if owner is not None and scene.around.attachment(owner, target).shared:
        for there, verdict, why in _slaves.asked_on_link(scene, event, owner, target):
            if verdict == DELIVERED:
                yield pod_end(scene, there, past, target, pod)
            else:
                yield End(there, past, verdict, why, told=told if verdict == UNREACHABLE else None)
        return
    for other in scene.netns.values():
        if other.name != netns.name and (entered := _enters(netns, other, target, dev)):
            far = _tunnel.far_device(netns, link, other) if link is not None else None
            iif = far or (entered if entered != "?" else None)
            if dead := carrier.lost(other, iif):
                yield End(branch, past, UNREACHABLE, f"{dead}, so nobody answers for {target} there", told=told)
                return
            # Who was asked by a neighbour knows its MAC address: an answer goes back the way the question came.
            refused = None if scene.back else _arp.refused(event, other, iif)
            for there, silent in _arp.answers(branch, refused):
                if silent:
                    yield End(there, past, UNREACHABLE, silent, told=told)
                else:
                    yield Arriving(on_wire(there, iif), other, past)
            return
    far = _tunnel.far_device(netns, link, owner) if link is not None and owner is not None else None
    if owner is not None and far is not None:
        there = branch.assume(f"{dev} of {netns.name} sends packets for {target} to {owner.name}, where the pod is")
        yield Arriving(on_wire(there, far), owner, past)
        return
    yield from _beyond(scene, branch, netns, past, dev, target, pod, foreign=event.foreign)


def _no_neighbour(netns: Netns, target: Addr) -> Told:
    """What a node tells who sent it a packet for a next hop that does not answer (arp_error_report, ndisc_error_report)."""
    return Told(netns.name, 1 if target.version == 4 else 3)


def _own_pod(scene: Scene, event: OnLink) -> Walk:
    """A pod of the node itself, asked for on the device its route names."""
    branch, netns, past, target = event.branch, event.netns, event.past, event.target
    told = _no_neighbour(netns, target) if not event.foreign else None
    for there, hung in _slaves.settled(branch, netns, scene.around.attachment(netns, target)):
        if hung.dev is None:
            yield End(there, past, UNKNOWN, hung.why)
        elif hung.kind in attachment.BY_ROUTE:
            what = attachment.WORDS[hung.kind]
            reason = f"nobody answers for {target} on {hung.dev} of {netns.name}: {what} answers no ARP"
            yield End(there, past, UNREACHABLE, reason, told=told)
        elif hung.kind in attachment.ON_LINK and not event.foreign:
            reason = _slaves.unheard(netns, hung.dev, netns.name, target)
            yield End(there, past, UNREACHABLE, reason, told=told)
        elif (deaf := _slaves.not_heard(scene, event, hung))[0]:
            verdict, why = deaf
            yield End(there, past, verdict, why, told=told if verdict == UNREACHABLE else None)
        elif mute := _arp.mute(event):
            yield End(there, past, UNREACHABLE, mute, told=told)
        else:
            for carried, dead in carries(scene, there, netns, hung, target):
                if dead:
                    yield End(carried, past, UNREACHABLE, f"{dead}, so nobody answers for {target} there", told=told)
                    continue
                # A pod that asked is known to its node.
                for onward, silent in _arp.answers(carried, None if scene.back else _arp.of_own_pod(event)):
                    if silent:
                        yield End(onward, past, UNREACHABLE, silent, told=told)
                    else:
                        yield pod_end(scene, onward, past, target, scene.pod_by_ip[target])


def _enters(netns: Netns, other: Netns, target: Addr, dev: str) -> str | None:
    """The device of another node that takes packets for ``target``, "?" when it is not known which, None if none.

    A bridge's own address is not on the wire. Any other is answered for on every device (arp_ignore 0), so the one that
    is on the network of ``dev`` takes the packet.
    """
    for address in other.node.addresses:
        if address.ip == target:
            link = other.links.get(address.dev)
            if link is not None and link.kind == "bridge":
                continue
            if link is not None and link.kind == "dummy":
                # A virtual address: asked for on the wire unless arp_ignore keeps it to its own device (strictARP).
                if other.dev_setting("arp_ignore", "all"):
                    continue
                return "?"
            beside = links.on_network_of(netns, dev, other)
            if not beside or address.dev in beside:
                return address.dev
            if target.version == 4 and not other.dev_setting("arp_ignore", beside[0]):
                return beside[0]
            continue
    if not other.addresses_known and target in other.own:
        return "?"
    return None


def _beyond(
    scene: Scene, branch: Branch, netns: Netns, past: Past, dev: str, target: Addr, pod: Pod | None, *, foreign: bool
) -> Walk:
    """The next hop is none of the nodes and pods whose dumps are here."""
    packet = branch.flight.packet
    gateway = target != packet.dst
    owner = scene.around.owner_by_objects(target)
    if gateway and owner is None and (behind := _whose(scene, packet.dst)):
        yield from _by_gateway(scene, branch, netns, past, target, behind, foreign=foreign)
        return
    to_client = packet.dst == past.flow.packet.src and packet.dst not in scene.pod_by_ip
    if branch.flight.conn.direction == "REPLY" or to_client:
        yield End(branch, past, DELIVERED, "", "outside", Reached(packet.dst, packet.dport), None)
        return
    if owner is not None:
        past = past.lacks(Missing(f"every dump of {owner}", "what happens to the packet there", node=owner))
        lives = scene.around.may_be_a_pod(packet.dst)
        if not lives and not scene.around.is_address_of(owner, packet.dst):
            yield _to_nobody(branch, past, packet.dst, owner, sure=lives is not None)
            return
        there = branch.assume(f"no dump of {owner}: it is taken to pass the packet on unchanged and to deliver it")
        endpoint = scene.pod_by_ip.get(packet.dst)
        yield pod_end(scene, there, past, packet.dst, endpoint, owner)
        return
    if pod is not None and not pod.host_network:
        there = branch.assume(f"pod {pod.namespace}/{pod.name} is reached directly on the link of {dev}")
        yield pod_end(scene, there, past, target, pod)
        return
    link = netns.links.get(dev)
    on_bridge = link is not None and link.kind == "bridge"
    if not gateway and (on_bridge or scene.around.is_service_address(packet.dst)) and scene.cluster.knows_pods:
        what = "no pod has" if on_bridge else "no node and no pod has"
        reason = f"{what} the address {target}, so nobody answers for it on {dev} of {netns.name}"
        there = branch.assume("the lists of pods and nodes are complete")
        yield End(there, past, UNREACHABLE, reason, told=_no_neighbour(netns, target))
        return
    untranslated = conntrack.untranslated(branch.flight.conn, packet.dst, netns.name)
    if scene.around.only_inside(packet.dst):
        reason = (
            f"{untranslated}, an address of the Service range, and the packet "
            f"leaves by {dev}{f' to gateway {target}' if gateway else ''}, where nobody has it"
        )
        there = branch.assume(f"the network outside the cluster has no route to {packet.dst}")
        yield End(there, past, UNREACHABLE, reason)
        return
    if scene.around.is_service_address(packet.dst):
        reason = (
            f"{untranslated}, and the packet leaves by {dev} to gateway {target}: "
            "which node the network brings it to no dump tells; ask again with --via"
        )
        yield End(branch, past, UNKNOWN, reason)
        return
    # A node that is a container itself (kind) has a veth device to its network, with that network's subnet.
    veth = link is not None and link.kind == "veth" and not links.same_subnet(netns, dev, target)
    local_pod = not gateway and (on_bridge or link is None or veth)
    there = branch.assume(
        f"{packet.dst} is taken to answer; what is behind {dev} of {netns.name} is in no dump"
        if not local_pod
        else f"{packet.dst} on {dev} of {netns.name} is taken to be there and to answer"
    )
    place, node = ("pod", netns.name) if local_pod else ("outside", None)
    yield End(
        there,
        past,
        DELIVERED,
        "",
        place,
        Reached(packet.dst, packet.dport, None, node),
        node,
        check_reply=local_pod,
    )


def _to_nobody(branch: Branch, past: Past, dst: Addr, owner: str, *, sure: bool) -> End:
    """A packet to the pod network of a node without dumps, for an address that no object has."""
    if sure:
        there = branch.assume("the lists of pods and nodes are complete")
        return End(there, past, UNREACHABLE, f"no pod has the address {dst}, so nobody answers for it on {owner}")
    why = f"whether a pod of {owner} has {dst}, which is no endpoint, no dump tells"
    return End(branch, past, UNKNOWN, why)


def _whose(scene: Scene, dst: Addr) -> str:
    """The node that an address, or the pod with it, is of; "" for an address of nobody known."""
    pod = scene.pod_by_ip.get(dst)
    if pod is not None and pod.node is not None:
        return pod.node
    return next((name for name, netns in scene.netns.items() if netns.is_local(dst)), "")


def _by_gateway(
    scene: Scene, branch: Branch, netns: Netns, past: Past, gateway: Addr, behind: str, *, foreign: bool
) -> Walk:
    """A packet for a pod or node goes to a router that is no node.

    A router knows its own networks and those of nodes; some networks route pods, most leave that to the nodes. Where a
    pod's own device sends to it (``foreign``), the pods have no other way to each other, so it is taken to know it.
    """
    dst = branch.flight.packet.dst
    pod = scene.pod_by_ip.get(dst)
    inside = pod is not None and not pod.host_network
    own = inside and behind == netns.name
    if own and scene.around.attachment(netns, dst).kind not in (attachment.BRIDGE, attachment.ROUTED):
        yield from _back_to_pod(scene, branch, netns, past, gateway)
        return
    other_node = scene.netns.get(behind)
    hung = scene.around.attachment(other_node, dst) if inside and other_node is not None else None
    if other_node is not None and hung is not None and (hung.shared or hung.kind == attachment.LINK):
        dev = hung.dev or ""
        if links.same_subnet(other_node, dev, dst) and links.same_subnet(other_node, dev, gateway):
            # The router is on the pod's own network and asks for it there.
            yield OnLink(branch, other_node, past, dev, dst, foreign=True)
            return
    sender = "the pod has" if foreign else f"{netns.name} has"
    known = foreign or not scene.around.nodes_route_pods(dst.version)
    question = Question(
        f"{netns.name}:gateway:{gateway}:{dst}",
        f"gateway {gateway} routes {dst} to {behind}",
        f"{sender} no route of its own to {'pod ' if inside else ''}{dst}, and gateway {gateway} does not know where it is",
        default=known if inside else _on_network(other_node, dst, gateway),
    )
    for answer, other in branch.ask(question):
        if not answer:
            yield End(other, past, UNREACHABLE, question.if_false)
        elif other_node is None:
            yield pod_end(scene, other, past, dst, pod, behind)
        else:
            iif = _heard_by(other_node, gateway, other.flight.packet.src)
            yield Arriving(on_wire(other, iif), other_node, past)


def _heard_by(node: Netns, gateway: Addr, src: Addr) -> str | None:
    """The device by which a node hears a router: the one on the router's network, else the way back to the source."""
    for address in node.node.addresses:
        if links.within(address, gateway):
            return address.dev
    found = node.fib(src.version).lookup(src, None, iif="lo")
    return found.ways[0][1].dev if found.ways else None


def _on_network(node: Netns | None, dst: Addr, gateway: Addr) -> bool:
    """Whether a router is likely to know an address of a node: one that the Node object has, or on its own network."""
    if node is None or dst in node.own:
        return True
    for address in node.node.addresses:
        if address.ip == dst and address.prefixlen < dst.max_prefixlen:
            link = node.links.get(address.dev)
            inner = link is not None and link.kind in ("bridge", "dummy")
            return not inner and (links.same_subnet(node, address.dev, gateway) or not node.own)
    return False


def _back_to_pod(scene: Scene, branch: Branch, netns: Netns, past: Past, gateway: Addr) -> Walk:
    """A packet for a pod of the node itself goes to a gateway: in ipvlan's l3 modes routers know the way to pods."""
    dst = branch.flight.packet.dst
    for there, hung in _slaves.settled(branch, netns, scene.around.attachment(netns, dst)):
        if hung.kind not in attachment.BY_ROUTE:
            yield End(there, past, UNKNOWN, hung.why or f"{netns.name} has no route to its pod {dst}")
            continue
        question = Question(
            f"{netns.name}:gateway:{gateway}:back",
            f"gateway {gateway} sends packets for pods of {netns.name} back to it",
            f"gateway {gateway} does not send packets for pods of {netns.name} back to it",
            default=True,
        )
        for answer, other in there.ask(question):
            if answer:
                yield Arriving(on_wire(other, hung.dev), netns, past)
            else:
                yield End(other, past, UNREACHABLE, question.if_false)


def _no_device(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    """No dump has the routes: the packet is taken to come to where it is addressed."""
    packet = branch.flight.packet
    if branch.flight.conn.direction == "REPLY":
        yield End(branch, past, DELIVERED, "", "outside", Reached(packet.dst, packet.dport))
        return
    if (
        scene.around.is_service_address(packet.dst) or scene.around.only_inside(packet.dst)
    ) and not branch.flight.conn.dnat:
        reason = f"{packet.dst} is a Service address no rule of {netns.name} translates; where it goes no dump tells"
        yield End(branch, past, UNKNOWN, reason)
        return
    pod = scene.pod_by_ip.get(packet.dst)
    owner = pod.node if pod is not None else scene.around.owner_by_objects(packet.dst)
    endpoint = next((e for e in objects.of(scene.cluster).endpoints_at(packet.dst) if e.port == packet.dport), None)
    node = owner or (endpoint.node if endpoint else None)
    name = f"{pod.namespace}/{pod.name}" if pod else endpoint.pod if endpoint else None
    if node is not None and node != netns.name and node in scene.netns:
        there = branch.assume(f"{packet.dst} is reached by {node}, whose pod networks or objects have it")
        yield Arriving(on_wire(there, None), scene.netns[node], past)
        return
    yield End(branch, past, DELIVERED, "", "pod", Reached(packet.dst, packet.dport, name, node), node)
