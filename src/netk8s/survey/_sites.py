"""Where questions are asked: the nodes' addresses, the pods that ask, and clients outside that a question needs."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network

from msgspec import Struct

from netk8s import dialects
from netk8s.model import Addr, Ask, Cluster, Net, Node, Pod, World

IPVS_DEVICE = "kube-ipvs0"


class Site(Struct, frozen=True):
    """A node's addresses of one family, as they are asked for. ``others``: see :func:`_other_addresses`.

    ``neighbour``: see :func:`_neighbour`.
    """

    primary: Addr | None
    others: tuple[tuple[Addr, str, bool], ...]
    neighbour: Addr | None


class Sites:
    """What is the same for every port that is asked for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._known: dict[tuple[str, int], Site] = {}
        self._inside: dict[tuple[tuple[str, ...], int], Addr | None] = {}
        self._taken: set[Addr] = set()

    def of(self, name: str, family: int) -> Site:
        known = self._known.get((name, family))
        if known is None:
            primary = primary_address(self.world, name, family)
            others = () if primary is None else tuple(_other_addresses(self.world, name, primary))
            known = self._known[name, family] = Site(primary, others, _neighbour(self.world, name, primary))
        return known

    def address_in(self, ranges: tuple[str, ...], family: int) -> Addr | None:
        """An address of the source ranges that is nobody's in the cluster, None when they hold only the cluster's own."""
        if (ranges, family) not in self._inside:
            self._taken = self._taken or _taken(self.world)
            self._inside[ranges, family] = _address_in(ranges, self.world.cluster, self._taken, family)
        return self._inside[ranges, family]


def primary_address(world: World, name: str, family: int) -> Addr | None:
    """The address a node is known by: its InternalIP, else the one that ``node/NAME`` means."""
    for item in world.cluster.nodes:
        for kind, text in item.addresses if item.name == name else ():
            if kind == "InternalIP":
                try:
                    ip = ip_address(text)
                except ValueError:
                    continue
                if ip.version == family:
                    return ip
    node = world.nodes[name]
    if stands_in(world, name):
        found = dialects.resolve(world, Ask(f"node/{name}", port="1")).packet.dst
        return found if found.version == family else None
    devices = [h.dev for r in node.routes if r.dst.prefixlen == 0 and r.dst.version == family for h in r.nexthops]
    for address in node.addresses:
        if address.dev in devices and address.ip.version == family and address.scope == "global":
            return address.ip
    return None


def stands_in(world: World, name: str) -> bool:
    """Whether no dump tells any address of a node, so that another stands in for it."""
    return not world.nodes[name].addresses and not any(item.name == name for item in world.cluster.nodes)


def _other_addresses(world: World, name: str, primary: Addr) -> Iterator[tuple[Addr, str, bool]]:
    """(address, its device, whether the world outside would send to it): one of each device."""
    node: Node = world.nodes[name]
    kinds = {link.name: link.kind for link in node.links}
    virtual = _virtual(world.cluster)
    told: set[str] = set()
    for a in node.addresses:
        usable = a.scope == "global" and a.ip.version == primary.version and not a.deprecated and not a.tentative
        if not usable or a.ip == primary or a.ip in virtual or a.dev == IPVS_DEVICE or a.dev in told:
            continue
        told.add(a.dev)
        yield a.ip, a.dev, kinds.get(a.dev, "") in ("", "veth", "vlan", "bond")


@lru_cache(maxsize=4)
def _virtual(cluster: Cluster) -> frozenset[Addr]:
    """The addresses at which Services are dialled."""
    return frozenset(ip for s in cluster.services for ip in (*s.cluster_ips, *s.lb_ips, *s.external_ips))


class Inhabitants(Struct, frozen=True):
    """The pods with networks of their own: by address, and as clients by (node, family), those that serve nothing first."""

    by_ip: Mapping[Addr, Pod]
    clients: Mapping[tuple[str, int], Sequence[Pod]]
    beside: dict[Net, Addr | None]
    """Of networks that were asked for: an address of nobody, None where no pod is."""


@lru_cache(maxsize=4)
def inhabitants(cluster: Cluster) -> Inhabitants:
    serving = {e.ip for e in cluster.endpoints}
    own = [pod for pod in cluster.pods if not pod.host_network]
    clients: dict[tuple[str, int], list[Pod]] = {}
    for pod in sorted(own, key=lambda p: (not serving.isdisjoint(p.ips), p.namespace, p.name)):
        if pod.node is not None and pod.phase not in ("Succeeded", "Failed"):
            for family in {ip.version for ip in pod.ips}:
                clients.setdefault((pod.node, family), []).append(pod)
    return Inhabitants({ip: pod for pod in own for ip in pod.ips}, clients, {})


def clients(cluster: Cluster) -> Mapping[tuple[str, int], Sequence[Pod]]:
    """The pods that Services are asked by, those that serve nothing first, by node and family."""
    return inhabitants(cluster).clients


def _neighbour(world: World, name: str, primary: Addr | None) -> Addr | None:
    """A client on the network of a node, where pods have addresses of that network: they answer it themselves."""
    for address in world.nodes[name].addresses:
        if address.ip == primary and address.prefixlen < address.ip.max_prefixlen - 2:
            net = ip_network(f"{address.ip}/{address.prefixlen}", strict=False)
            known = inhabitants(world.cluster).beside
            if net not in known:
                known[net] = _free_beside_pods(world, net)
            return known[net]
    return None


def _free_beside_pods(world: World, net: Net) -> Addr | None:
    """An address of a network that nobody has; None for a network without pods."""
    pods = {ip for ip in inhabitants(world.cluster).by_ip if ip.version == net.version and ip in net}
    if not pods:
        return None
    own = {a.ip for node in world.nodes.values() for a in node.addresses}
    own |= {hop.gateway for node in world.nodes.values() for r in node.routes for hop in r.nexthops if hop.gateway}
    used = pods | own | _virtual(world.cluster)
    last = net.num_addresses - 2
    return next((net[number] for number in range(last, max(last - 4096, 0), -1) if net[number] not in used), None)


def _taken(world: World) -> set[Addr]:
    """The addresses that somebody in the cluster has."""
    taken = {a.ip for node in world.nodes.values() for a in node.addresses}
    taken |= {ip for pod in world.cluster.pods for ip in pod.ips}
    services = world.cluster.services
    return taken | {ip for s in services for ip in (*s.cluster_ips, *s.lb_ips, *s.external_ips, *s.lb_ips_proxy)}


def _address_in(ranges: Sequence[str], cluster: Cluster, taken: Container[Addr], family: int) -> Addr | None:
    for text in ranges:
        try:
            net: Net = ip_network(text.strip(), strict=False)
        except ValueError:
            continue
        inside = any(cidr.version == net.version and cidr[0] in net for n in cluster.nodes for cidr in n.pod_cidrs)
        if net.version != family or net.prefixlen == 0 or inside:
            continue
        last = net.num_addresses - 2 if net.num_addresses > 2 else net.num_addresses - 1
        for number in range(last, max(last - 4096, -1), -1):
            if net[number] not in taken:
                return net[number]
    return None
