"""The other half of a flow between nodes: packets that come to a node's endpoints from nodes of which there is no dump.

Each node of a large cluster is asked by itself. What it sends to another one is followed to its own edge; from there on
the other one answers for it, for packets as they come in: from a pod, and from the node, whose address masquerading takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from netk8s.model import PROTOCOL_NAMES, Addr, Ask, Cluster, ClusterNode, Net, Node
from netk8s.survey._ports import Dialled, Key
from netk8s.survey._questions import OTHER_NODE, OTHER_POD, PRIMARY, Ground, Question, Stop

ENDPOINT = "endpoint"
"""The kind of address that is dialled: an endpoint's own."""


def arrivals(
    ground: Ground, wanted: Iterable[Key] | None = None, only: Iterable[str] | None = None
) -> Iterator[Question]:
    """A question for each endpoint on a node with dumps and each kind of sender on nodes without.

    Senders are of one kind where the node has the same sort of route to them, and NetworkPolicies see the same in them.
    """
    world = ground.world
    keys = None if wanted is None else set(wanted)
    names = set(world.nodes if only is None else only)
    absent = [item for item in world.cluster.nodes if item.name not in world.nodes]
    pods = _Pods(world.cluster)
    for name, node in world.nodes.items():
        if name not in names:
            continue
        senders = {version: _senders(node, absent, version, pods) for version in (4, 6)} if absent else {}
        asked: set[tuple[Addr, int | None, int]] = set()
        for port in ground.ports if absent else ():
            if keys is not None and port.key not in keys:
                continue
            serving = {place.ip for place in port.endpoints} if pods.clients else set()
            for place in port.endpoints:
                end = (place.ip, place.port, port.protocol)
                if place.node != name or place.port is None or end in asked:
                    continue
                asked.add(end)
                host = f"[{place.ip}]" if place.ip.version == 6 else str(place.ip)
                for client, sources in senders[place.ip.version]:
                    source = next((ip for ip in sources if ip not in serving), None)
                    if source is not None:
                        ask = Ask(f"{host}:{place.port}", None, PROTOCOL_NAMES[port.protocol], str(source), name)
                        dialled = Dialled(ENDPOINT, place.ip, place.port)
                        yield Question(port, dialled, PRIMARY, client, ask, Stop(name, True))


_ENOUGH = 4
"""Senders of one kind, of which one is to be no endpoint of the Service that is asked for."""


def _senders(node: Node, absent: Iterable[ClusterNode], version: int, pods: _Pods) -> list[tuple[str, list[Addr]]]:
    """(client, addresses of some such), an item for each kind."""
    routes = {r.dst: (r.kind, tuple((hop.dev, hop.gateway is None) for hop in r.nexthops)) for r in node.routes}
    told: dict[object, tuple[str, list[Addr]]] = {}
    for item in absent:
        for client, ip, route in _addresses(item, version, pods):
            kind = (client, routes.get(route) if route is not None else None, pods.seen.get(ip))
            _, found = told.setdefault(kind, (client, []))
            if len(found) < _ENOUGH:
                found.append(ip)
    return list(told.values())


def _addresses(item: ClusterNode, version: int, pods: _Pods) -> Iterator[tuple[str, Addr, Net | None]]:
    for what, text in item.addresses:
        try:
            ip = ip_address(text)
        except ValueError:
            continue
        if what == "InternalIP" and ip.version == version:
            yield OTHER_NODE, ip, None
            break
    cidrs = [cidr for cidr in item.pod_cidrs if cidr.version == version]
    if pods.listed:
        for ip in pods.clients.get(item.name, ()):
            if ip.version == version:
                yield OTHER_POD, ip, next((cidr for cidr in cidrs if ip in cidr), None)
        return
    for cidr in cidrs:
        if cidr.num_addresses > 4:
            free = next((cidr[-n] for n in range(3, min(cidr.num_addresses, 1024)) if cidr[-n] not in pods.taken), None)
            if free is not None:
                yield OTHER_POD, free, cidr
                break


class _Pods:
    """The pods of nodes without dumps. ``seen`` is what policies' ingress rules tell the senders apart by.

    ``listed``: those of each node that send something are known; else an address of nobody stands for them.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.listed = bool(cluster.elsewhere)
        known = {ip for there in cluster.elsewhere for ip in there.addresses}
        self.taken = known | {ip for pod in cluster.pods for ip in pod.ips}
        self.clients: dict[str, list[Addr]] = {}
        self.seen: dict[Addr, object] = {}
        rules = (rule for policy in cluster.policies for rule in policy.ingress)
        blocks = list(
            dict.fromkeys((peer.block, peer.excluded) for rule in rules for peer in rule.peers or () if peer.block)
        )
        for pod in (pod for there in cluster.elsewhere for pod in there.clients):
            for ip in pod.ips:
                self.clients.setdefault(pod.node or "", []).append(ip)
                within = tuple(_within(ip, block, excluded) for block, excluded in blocks)
                self.seen[ip] = (pod.namespace, pod.labels, within)


def _within(ip: Addr, block: Net | None, excluded: tuple[Net, ...]) -> bool:
    return block is not None and ip in block and not any(ip in part for part in excluded)


__all__ = ["ENDPOINT", "arrivals"]
