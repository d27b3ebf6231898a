"""A packet that has come to a pod, and whether somebody answers where it is sent."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.kernel import attachment, carrier
from netk8s.kernel.attachment import Attachment
from netk8s.kernel.flight import Branch
from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Neighbour, Pod, Question, Reached
from netk8s.trace._state import DELIVERED, DROPPED, End, Past, Scene


def pod_on(scene: Scene, netns: Netns, ip: Addr) -> Pod | None:
    """The pod of this node that has the address for itself."""
    pod = scene.pod_by_ip.get(ip)
    return pod if pod is not None and not pod.host_network and pod.node == netns.name else None


def pod_end(scene: Scene, branch: Branch, past: Past, ip: Addr, pod: Pod | None, node: str | None = None) -> End:
    """The packet has come to a pod, whose own kernel may still drop it."""
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


def carries(scene: Scene, branch: Branch, netns: Netns, hung: Attachment, ip: Addr) -> Iterator[tuple[Branch, str]]:
    """The branch with why a pod's port of its bridge carries nothing, "" where it does: both, where that is in doubt."""
    doubt = None
    if hung.kind == attachment.BRIDGE:
        pod = scene.pod_by_ip.get(ip)
        doubt = carrier.of_pod(netns, hung.dev or "", hung.port, ip, pod.ips if pod is not None else ())
    if isinstance(doubt, Question):
        for known, there in branch.ask(doubt):
            yield there, "" if known else doubt.if_false
    else:
        yield branch, doubt or ""


def unresolved(netns: Netns, dev: str, target: Addr) -> Neighbour | None:
    """The neighbour entry that says nobody answers for an address."""
    found = netns.neighbour(target, dev)
    return found if found is not None and found.silent else None


def silent_on_bridge(scene: Scene, netns: Netns, bridge: str, target: Addr) -> bool:
    """Whether nobody on a bridge of the node answers for an address, as far as dumps tell."""
    if target in scene.pod_by_ip:
        return False
    return unresolved(netns, bridge, target) is not None or scene.cluster.knows_pods
