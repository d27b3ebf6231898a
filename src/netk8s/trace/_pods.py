"""A packet on its way out of a pod, and one that has come to a pod."""

from __future__ import annotations

from netk8s.kernel import links
from netk8s.kernel.flight import Branch
from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Neighbour, Pod, Reached
from netk8s.trace._state import (
    DELIVERED,
    DROPPED,
    UNKNOWN,
    Arriving,
    End,
    OnLink,
    Past,
    Scene,
    Walk,
    decision,
    hop_done,
)


def leave_pod(branch: Branch, netns: Netns, past: Past) -> Walk:
    """A packet on its way out of a pod that hangs on ``netns``."""
    flight = branch.flight
    packet = flight.packet
    hung = links.attachment(netns, packet.src)
    if hung.dev is None:
        if netns.routes_known(packet.family):
            yield End(branch, past, UNKNOWN, hung.why)
            return
        branch = branch.assume(f"{hung.why}: the pod's packets are taken to come in like those of any pod")
        yield Arriving(branch.fly(flight.with_(iif=None, iif_known=False)), netns, past)
        return
    if not hung.bridge:
        yield Arriving(branch.fly(flight.with_(iif=hung.dev, iif_known=True)), netns, past)
        return
    nf = netns.bridge_netfilter(packet.family, hung.dev)
    if nf is None:
        branch = branch.assume(f"bridge-nf-call-iptables of {netns.name} is not in a dump and taken as 1")
        nf = True
    inward = flight.with_(
        iif=hung.dev, iif_known=True, physin=hung.port if nf else None, has_physin=nf, from_pod=packet.src
    )
    if not links.same_subnet(netns, hung.dev, packet.dst):
        yield Arriving(branch.fly(inward), netns, past)
    elif nf:
        yield Arriving(branch.fly(inward), netns, past, direct=True)
    else:
        step = decision("bridge", f"frame crosses {hung.dev} and passes no hook of the node")
        there = branch.fly(flight.with_(iif=hung.dev, oif=hung.dev, bridged=True)).step(step)
        yield OnLink(there, netns, hop_done(there, netns, past), hung.dev, packet.dst)


def pod_end(scene: Scene, branch: Branch, past: Past, ip: Addr, pod: Pod | None, node: str | None = None) -> End:
    packet = branch.flight.packet
    name = f"{pod.namespace}/{pod.name}" if pod is not None else None
    where = pod.node if pod is not None and pod.node else node
    reached = Reached(ip, packet.dport, name, where)
    # The pod's own namespace routes too: ip_route_input_slow drops what claims to come from itself.
    if branch.flight.src_known and (packet.src == ip or packet.src.is_loopback):
        whose = "its own address" if packet.src == ip else "a loopback address"
        martian = f"the pod drops a packet from {packet.src}, {whose}"
        return End(branch, past, DROPPED, martian)
    return End(branch, past, DELIVERED, "", "pod", reached, where, check_reply=where in scene.netns)


def unresolved(netns: Netns, dev: str, target: Addr) -> Neighbour | None:
    """The neighbour entry that says nobody answers for an address."""
    found = netns.neighbour(target, dev)
    failed = found is not None and found.mac is None and bool({"FAILED", "INCOMPLETE"} & set(found.states))
    return found if failed else None


def silent_on_bridge(scene: Scene, netns: Netns, bridge: str, target: Addr) -> bool:
    """Whether nobody on a bridge of the node answers for an address, as far as dumps tell."""
    if target in scene.pod_by_ip:
        return False
    return unresolved(netns, bridge, target) is not None or "pods" in scene.cluster.covered
