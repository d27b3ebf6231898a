"""What NetworkPolicies intend for the ways of a trace, beside what the rules made of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address

from msgspec import Struct
from msgspec.structs import replace

from netk8s import policies
from netk8s.findings._reading import several, steps
from netk8s.model import Addr, Cluster, NetworkPolicy, Pod, Policed, Recognised, Step, Trace, Way, World
from netk8s.policies import EGRESS, INGRESS, Intent, Party


class Side(Struct, frozen=True):
    """A pod at one end of a way, and what its policies want of the connection.

    ``seen`` is the other end's address where the pod's node asks its rules, ``as_seen`` what policies want of that one.
    """

    direction: str
    pod: Pod
    other: Party
    intent: Intent
    seen: Addr
    as_seen: Intent

    @property
    def rewritten(self) -> bool:
        """Whether rules see another sender than the one who sent it."""
        return self.seen != self.other.ip


def sides(world: World, trace: Trace, way: Way) -> Iterator[Side]:
    """The pods at the ends of a way that have a network of their own; the sending one first.

    The receiver is where the packet was delivered or was on its way to when it was stopped. Pods of nodes that are asked
    by themselves (:class:`netk8s.model.Elsewhere`) are told of there.
    """
    flow, cluster = trace.flow, world.cluster
    if not cluster.policies:
        return
    packet = way.packet
    stand_ins = dict(flow.stand_ins)
    sent_by = flow.node if flow.origin == "node" else None
    source = _party(world, flow.packet.src, stand_ins, flow.pod, sent_by)
    end = _party(world, packet.dst, stand_ins, way.reached.pod if way.reached is not None else None)
    sender, receiver = _listed(cluster, source), _listed(cluster, end)
    if sender is not None:
        intent = policies.intended(cluster, EGRESS, source, end, packet.protocol, packet.dport)
        yield Side(EGRESS, sender, end, intent, end.ip, intent)
    if receiver is not None:
        intent = policies.intended(cluster, INGRESS, end, source, packet.protocol, packet.dport)
        seen = _seen(way, flow.packet.src, receiver)
        as_seen = intent
        if seen != source.ip:
            there = _party(world, seen, stand_ins)
            as_seen = policies.intended(cluster, INGRESS, end, there, packet.protocol, packet.dport)
        yield Side(INGRESS, receiver, source, intent, seen, as_seen)


def _listed(cluster: Cluster, party: Party) -> Pod | None:
    """The pod of a party, where it has a network of its own and is not elsewhere."""
    pod = party.pod
    if pod is None or pod.host_network or (pod.ips and _elsewhere(cluster).get(pod.ips[0]) is pod):
        return None
    return pod


def _party(
    world: World, ip: Addr, stand_ins: dict[Addr, str], pod: str | None = None, node: str | None = None
) -> Party:
    found = _by_name(world.cluster).get(pod) if pod is not None else _by_ip(world.cluster).get(ip)
    found = found or _elsewhere(world.cluster).get(ip)
    owner = node or _owners(world).get(ip)
    if found is not None and found.host_network:
        owner = owner or found.node
    return Party(ip, found, owner, stand_ins.get(ip) != "client")


def _seen(way: Way, source: Addr, pod: Pod) -> Addr:
    """The sender's address at the pod's node: masquerade there comes behind the rules of policies."""
    for rewrite in way.rewrites:
        if rewrite.node != pod.node and rewrite.after is not None:
            source = rewrite.after
    return source


@lru_cache(maxsize=4)
def _by_name(cluster: Cluster) -> dict[str, Pod]:
    return {f"{pod.namespace}/{pod.name}": pod for pod in cluster.pods}


@lru_cache(maxsize=4)
def _by_ip(cluster: Cluster) -> dict[Addr, Pod]:
    """The pod of an address; a pod that is over has given its address back."""
    living = (pod for pod in cluster.pods if not pod.host_network and pod.phase not in ("Succeeded", "Failed"))
    return {ip: pod for pod in living for ip in pod.ips}


@lru_cache(maxsize=4)
def _elsewhere(cluster: Cluster) -> dict[Addr, Pod]:
    """Pods of which this world is not told more than what policies see of them; EndpointSlices have their names."""
    out: dict[Addr, Pod] = {}
    if cluster.elsewhere:
        named = {e.ip: (e.pod.partition("/")[2], e.node) for e in cluster.endpoints if e.pod is not None}
        for there in cluster.elsewhere:
            for pod in (*there.peers, *there.clients):
                known = next((named[ip] for ip in pod.ips if ip in named), ("", None)) if not pod.name else None
                whole = pod if known is None else replace(pod, name=known[0], node=known[1])
                out.update(dict.fromkeys(pod.ips, whole))
    return out


@lru_cache(maxsize=4)
def _owners(world: World) -> dict[Addr, str]:
    """The node that has an address on one of its devices, or by its object."""
    out = {a.ip: name for name, node in world.nodes.items() for a in node.addresses if not a.ip.is_loopback}
    for node in world.cluster.nodes:
        known = {text for _, text in node.addresses}
        out |= {ip: node.name for ip in _parsed(known) if ip not in out}
    return out


def _parsed(texts: set[str]) -> Iterator[Addr]:
    for text in texts:
        try:
            yield ip_address(text)
        except ValueError:
            continue


# ---------------------------------------------------------------- who enforces


def enforcers(trace: Trace, node: str | None) -> tuple[Recognised, ...]:
    """The components of a node that enforce policies, by rules or where no dump shows it."""
    return tuple(one for one in trace.recognised if one.node == node and one.enforces)


def surveyed(world: World, node: str | None, family: int) -> bool:
    """Whether a node's dumps would show whoever enforces policies there: rules, nftables and devices."""
    found = world.nodes.get(node or "")
    return found is not None and {f"rules{family}", "nft", "link"} <= found.covered


def denial(way: Way) -> tuple[str, Step, Policed] | None:
    """The node and the step at which policies stopped the packet."""
    for hop, step in reversed(list(steps(way))):
        if step.policed is not None:
            return None if step.policed.allowed else (hop.node, step, step.policed)
    return None


# ---------------------------------------------------------------- words


def names(found: tuple[NetworkPolicy, ...]) -> str:
    """ "shop/deny-all", "shop/a and shop/b", "shop/a, shop/b and 3 more"."""
    return several([f"{p.namespace}/{p.name}" for p in found])


def name(pod: Pod) -> str:
    return f"{pod.namespace}/{pod.name}"


def who(party: Party) -> str:
    """ "pod shop/web-1", "node n1 (192.0.2.11)", "198.51.100.7"."""
    if party.pod is not None and not party.pod.host_network:
        return f"pod {name(party.pod)}"
    return f"node {party.node} ({party.ip})" if party.node else str(party.ip)
