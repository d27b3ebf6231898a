"""A packet on its way out of a pod."""

from __future__ import annotations

from ipaddress import IPv4Address

from msgspec.structs import replace

from netk8s.kernel import attachment, carrier, links
from netk8s.kernel.attachment import Attachment
from netk8s.kernel.flight import Branch
from netk8s.kernel.netns import Netns
from netk8s.model import Packet, Pod, Reached
from netk8s.trace import _arp, _slaves
from netk8s.trace._delivery import carries
from netk8s.trace._state import (
    DELIVERED,
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
)


def leave_pod(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    """A packet on its way out of a pod that hangs on ``netns``."""
    packet = branch.flight.packet
    pod = scene.pod_by_ip.get(packet.src)
    if packet.dst.is_loopback or (pod is not None and packet.dst in pod.ips):
        yield _inside(branch, netns, past, pod)
        return
    for there, hung in _slaves.settled(branch, netns, scene.around.attachment(netns, packet.src)):
        if hung.dev is None and netns.routes_known(packet.family):
            yield End(there, past, UNKNOWN, hung.why)
        elif hung.dev is None:
            there = there.assume(f"{hung.why}: the pod's packets are taken to come in like those of any pod")
            yield Arriving(there.fly(there.flight.with_(iif=None, iif_known=False)), netns, past)
        elif hung.kind == attachment.ROUTED and (dead := carrier.lost(netns, hung.dev)):
            yield End(there, past, UNREACHABLE, f"{dead}, so nobody hears pod {packet.src}")
        elif hung.kind == attachment.ROUTED and (silent := _no_proxy(netns, hung.dev, packet)):
            yield End(there, past, UNREACHABLE, silent)
        elif hung.kind == attachment.ROUTED:
            inward = there.fly(there.flight.with_(iif=hung.dev, iif_known=True))
            # The gateway of IPv4 is nobody's address: proxy_arp answers for it, or did not above.
            if packet.family == 4:
                yield Arriving(inward, netns, past)
            else:
                yield from _to_node(netns, past, hung.dev, inward, back=scene.back)
        elif hung.kind == attachment.BRIDGE:
            for carried, dead in carries(scene, there, netns, hung, packet.src):
                if dead:
                    yield End(carried, past, UNREACHABLE, f"{dead}, so nobody hears pod {packet.src}")
                else:
                    yield from _over_bridge(carried, netns, past, hung, hung.dev, back=scene.back)
        else:
            yield from _slaves.leave(scene, there, netns, past, hung)


def _to_node(netns: Netns, past: Past, dev: str, onward: Branch, *, back: bool) -> Walk:
    """A packet to the node's own MAC address, which the pod asks for on ``dev``, or knows."""
    for there, silent in _arp.answers(onward, _arp.of_gateway(netns, dev, onward.flight.packet.src, back=back)):
        if silent:
            yield End(there, past, UNREACHABLE, silent)
        else:
            yield Arriving(there, netns, past)


_PROXIED = IPv4Address("169.254.1.1")
"""The gateway that pods on routed devices have by Calico's convention: no address of the node, which answers for it."""


def _no_proxy(netns: Netns, dev: str, packet: Packet) -> str:
    """Why a node does not answer a routed pod's ARP for its gateway, "" when it does (arp_process, arp_fwd_proxy).

    Only where the device answers for others (proxy_arp) and has no address of its own that would be the gateway.
    """
    own = any(address.ip.version == 4 for address in netns.addresses.get(dev, ()))
    if packet.family == 6 or own or not netns.dev_setting("proxy_arp", dev):
        return ""
    silent = f"{netns.name} does not answer its pod {packet.src}'s ARP for {_PROXIED}"
    if netns.forwards(4, dev) is False:
        return f"{silent}: it does not forward packets (net.ipv4.conf.{dev}.forwarding = 0), so proxy_arp does nothing"
    found = netns.fib(4).lookup(_PROXIED, packet.src, iif=dev)
    if found.kind not in ("unicast", "unknown"):
        return f"{silent}: it has no route to it for the pod ({found.kind}), so proxy_arp does nothing"
    return ""


def _inside(branch: Branch, netns: Netns, past: Past, pod: Pod | None) -> End:
    """A pod that asks itself: the packet stays on its own lo, and so does the answer."""
    packet = branch.flight.packet
    if packet.dst.is_loopback and not packet.src.is_loopback:
        # A socket without an address gets the local one that it asks (fib_result_prefsrc).
        packet = packet.replace(src=packet.dst)
        past = replace(past, flow=replace(past.flow, packet=packet))
        branch = branch.fly(branch.flight.with_(packet=packet))
    name = f"{pod.namespace}/{pod.name}" if pod is not None else None
    reached = Reached(packet.dst, packet.dport, name, netns.name)
    return End(branch, past, DELIVERED, "", "pod", reached, netns.name, check_reply=False)


def _over_bridge(branch: Branch, netns: Netns, past: Past, hung: Attachment, bridge: str, *, back: bool) -> Walk:
    flight = branch.flight
    packet = flight.packet
    nf = netns.bridge_netfilter(packet.family, bridge)
    if nf is None:
        branch = branch.assume(f"bridge-nf-call-iptables of {netns.name} is not in a dump and taken as 1")
        nf = True
    inward = flight.with_(
        iif=bridge, iif_known=True, physin=hung.port if nf else None, has_physin=nf, from_pod=packet.src
    )
    if not links.same_subnet(netns, bridge, packet.dst):
        yield from _to_node(netns, past, bridge, branch.fly(inward), back=back)
    elif nf:
        onward = branch.fly(inward)
        # Who answers was asked by who asked.
        doubt = None if back else _arp.across_bridge(netns, bridge, packet.src, packet.dst)
        for there, silent in _arp.answers(onward, doubt):
            if silent:
                yield End(there, past, UNREACHABLE, silent)
            else:
                yield Arriving(there, netns, past, direct=True)
    else:
        step = decision("bridge", f"frame crosses {bridge} and passes no hook of the node")
        there = branch.fly(flight.with_(iif=bridge, oif=bridge, bridged=True)).step(step)
        yield OnLink(there, netns, hop_done(there, netns, past), bridge, packet.dst)
