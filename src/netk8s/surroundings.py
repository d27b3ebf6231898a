"""What dumps and objects say of an address: whose it is, and whether the world outside knows it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import copy
from functools import cached_property
from ipaddress import ip_address, ip_network

from netk8s import objects
from netk8s.kernel.attachment import Attachment, Attachments
from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Cluster, Endpoint, Flow, Packet, Pod, World


class Surroundings:
    """Everything around the packet that is no hook: nodes' addresses, pods, Service addresses."""

    def __init__(self, world: World, flow: Flow) -> None:
        self.cluster: Cluster = world.cluster
        self.nodes = world.nodes
        self.dialled = (flow.packet.dst, flow.kind)
        self.owned = flow.owned
        self.stand_ins = dict(flow.stand_ins)
        self.pod_by_ip = _pods_by_ip(world)
        self._objects = _Objects(world)
        self.service_ips = frozenset(
            ip for s in world.cluster.services for ip in (*s.cluster_ips, *s.external_ips, *s.lb_ips, *s.lb_ips_proxy)
        )
        self.netns: Mapping[str, Netns] = self._namespaces()

    def of(self, flow: Flow) -> Surroundings:
        """The same world around another flow; what does not depend on the flow is not looked up again."""
        other = copy(self)
        other.dialled = (flow.packet.dst, flow.kind)
        if (flow.owned, dict(flow.stand_ins)) != (self.owned, self.stand_ins):
            other.owned, other.stand_ins = flow.owned, dict(flow.stand_ins)
            other.netns = other._namespaces()
        return other

    def _namespaces(self) -> dict[str, Netns]:
        owners: dict[Addr, set[str]] = {ip: set(names) for ip, names in self._objects.owners.items()}
        for ip, what in self.stand_ins.items():
            owners.setdefault(ip, set()).add(what.removeprefix("node/") if what.startswith("node/") else "")
        for ip, name in self.owned:
            owners.setdefault(ip, set()).add(name)
        own: dict[str, list[Addr]] = {}
        for ip, names in owners.items():
            for name in names:
                own.setdefault(name, []).append(ip)
        nobodys = self._objects.no_nodes
        return {
            name: Netns(node, own.get(name, ()), _Elsewhere(name, owners, nobodys)) for name, node in self.nodes.items()
        }

    def endpoint_at(self, packet: Packet) -> Endpoint | None:
        """The endpoint that a packet is addressed to, the first of those that share address and port."""
        return self._objects.endpoints.get((packet.dst, packet.dport, packet.protocol))

    def may_be_a_pod(self, ip: Addr) -> bool | None:
        """Whether a pod of a node without dumps may have an address that is no node's: None where no object tells."""
        if ip in self.pod_by_ip or ip in self._objects.endpoint_ips:
            return True
        if any(ip in there.addresses for there in self.cluster.elsewhere):
            return True
        if self.cluster.knows_pods:
            return False
        return None if "endpoints" in self.cluster.covered else True

    def attachment(self, netns: Netns, pod_ip: Addr) -> Attachment:
        """How the pod with this address hangs on its node."""
        return self._attachments.of(netns, pod_ip)

    @cached_property
    def _attachments(self) -> Attachments:
        return Attachments(
            self.netns,
            self._objects.nodes_of(self.pod_by_ip),
            lambda ip, port, protocol: (ip, port, protocol) in self._objects.endpoints,
        )

    def host_pod(self, netns: Netns, packet: Packet) -> str | None:
        """The hostNetwork pod that a local packet is for, by endpoints, then by declared ports."""
        endpoint = self.endpoint_at(packet)
        if endpoint is not None:
            return endpoint.pod
        for pod in self.cluster.pods:
            if pod.host_network and pod.node == netns.name:
                for _, port, protocol, _, _ in pod.ports:
                    if (port, protocol) == (packet.dport, packet.protocol):
                        return f"{pod.namespace}/{pod.name}"
        return None

    def reaches_network(self, netns: Netns, packet: Packet) -> bool:
        """Whether who sent a packet from outside surely has a way to where it is addressed: client and destination are
        in one subnet of the node, or the destination is in the one by which nodes themselves are reached.
        """
        networks = [(a.ip, ip_network(f"{a.ip}/{a.prefixlen}", strict=False)) for a in netns.node.addresses]
        outer = {text for node in self.cluster.nodes if node.name == netns.name for _, text in node.addresses}
        return any(
            packet.dst in net and (packet.src in net or str(own) in outer)
            for own, net in networks
            if net.prefixlen < net.max_prefixlen
        )

    def nodes_route_pods(self, family: int) -> bool:
        """Whether some node has a route to another node's pods, so that one without it has lost it."""
        if family not in self._objects.routed:
            self._objects.routed[family] = any(self._route_to_pods(family))
        return self._objects.routed[family]

    def _route_to_pods(self, family: int) -> Iterator[bool]:
        for name, node in self.nodes.items():
            routes = [r.dst for r in node.routes if r.dst.prefixlen > 0 and r.dst.version == family]
            lengths = {net.prefixlen for net in routes}
            bits = {(net.prefixlen, int(net.network_address) >> (net.max_prefixlen - net.prefixlen)) for net in routes}
            for ip, pod in self.pod_by_ip.items():
                if ip.version == family and pod.node not in (None, name) and not pod.host_network:
                    yield any((length, int(ip) >> (ip.max_prefixlen - length)) in bits for length in lengths)

    def owner_by_objects(self, target: Addr) -> str | None:
        """The node without dumps that an address belongs to, by the Node objects."""
        return self._objects.absent.get(str(target)) or self._objects.pod_network(target, absent=True)

    def is_address_of(self, node: str, ip: Addr) -> bool:
        """Whether the Node object of a node without dumps lists an address."""
        return self._objects.absent.get(str(ip)) == node

    def is_service_address(self, ip: Addr) -> bool:
        """Whether a Service is dialled by this address, its node ports left aside."""
        dialled, kind = self.dialled
        return ip in self.service_ips or (dialled == ip and kind in ("clusterip", "loadbalancer", "external-ip"))

    def only_inside(self, ip: Addr) -> bool:
        """Whether an address is a ClusterIP, or lies where they do and is nobody's."""
        if ip in self.pod_by_ip or any(netns.is_local(ip) for netns in self.netns.values()):
            return False
        if self.dialled == (ip, "clusterip"):
            return True
        return not self._objects.pod_network(ip) and any(
            ip in net for net in objects.of(self.cluster).service_ranges if net.version == ip.version
        )


class _Elsewhere:
    """Addresses that are surely not a node's own: no node's at all, or of another one."""

    __slots__ = ("_name", "_nobodys", "_owners")

    def __init__(self, name: str, owners: Mapping[Addr, Collection[str]], nobodys: Collection[Addr]) -> None:
        self._name, self._owners, self._nobodys = name, owners, nobodys

    def __contains__(self, ip: object) -> bool:
        return ip in self._nobodys or any(owner != self._name for owner in self._owners.get(ip, ()))  # type: ignore[call-overload]


class _Objects:
    """What is looked up in the API's objects, put in order when it is first asked for, once for all flows of a world."""

    def __init__(self, world: World) -> None:
        self._cluster, self._nodes = world.cluster, world.nodes
        self._located: dict[Addr, str] | None = None
        self.routed: dict[int, bool] = {}
        """Whether some node has a route to another node's pods, by family."""

    @cached_property
    def endpoints(self) -> dict[tuple[Addr, int | None, int], Endpoint]:
        out: dict[tuple[Addr, int | None, int], Endpoint] = {}
        for endpoint in self._cluster.endpoints:
            out.setdefault((endpoint.ip, endpoint.port, endpoint.protocol), endpoint)
        return out

    @cached_property
    def endpoint_ips(self) -> frozenset[Addr]:
        return frozenset(endpoint.ip for endpoint in self._cluster.endpoints)

    @cached_property
    def owners(self) -> dict[Addr, list[str]]:
        """The nodes by the addresses that their objects list."""
        out: dict[Addr, list[str]] = {}
        for node in self._cluster.nodes:
            for _, text in node.addresses:
                try:
                    out.setdefault(ip_address(text), []).append(node.name)
                except ValueError:
                    continue
        return out

    @cached_property
    def no_nodes(self) -> frozenset[Addr]:
        """Addresses that are surely no node's: those of Services and of pods with networks of their own."""
        services = (ip for service in self._cluster.services for ip in service.cluster_ips)
        pods = (ip for pod in self._cluster.pods if not pod.host_network for ip in pod.ips)
        return frozenset((*services, *pods))

    def nodes_of(self, pods: Mapping[Addr, Pod]) -> Mapping[Addr, str]:
        """The nodes by the addresses of their pods. ``pods``: the same whenever it is asked."""
        if self._located is None:
            self._located = {ip: pod.node for ip, pod in pods.items() if pod.node is not None and not pod.host_network}
        return self._located

    @cached_property
    def absent(self) -> dict[str, str]:
        """The nodes without dumps by their addresses."""
        out: dict[str, str] = {}
        for node in self._cluster.nodes:
            if node.name not in self._nodes:
                for _, text in node.addresses:
                    out.setdefault(text, node.name)
        return out

    @cached_property
    def _pod_networks(self) -> dict[tuple[int, int], dict[int, list[str]]]:
        """The nodes by the first bits of their pod networks, by family and length."""
        out: dict[tuple[int, int], dict[int, list[str]]] = {}
        for node in self._cluster.nodes:
            for cidr in node.pod_cidrs:
                bits = int(cidr.network_address) >> (cidr.max_prefixlen - cidr.prefixlen)
                out.setdefault((cidr.version, cidr.prefixlen), {}).setdefault(bits, []).append(node.name)
        return out

    def pod_network(self, ip: Addr, *, absent: bool = False) -> str | None:
        """The node, ``absent``: of those without dumps, whose pod network an address is in."""
        for (version, length), known in self._pod_networks.items():
            if version == ip.version:
                for name in known.get(int(ip) >> (ip.max_prefixlen - length), ()):
                    if not (absent and name in self._nodes):
                        return name
        return None


def _pods_by_ip(world: World) -> dict[Addr, Pod]:
    """Running pods by address; a pod that is over has given its address back.

    Where the pods are not all listed, EndpointSlices tell of some more: those that are endpoints.
    """
    cluster = world.cluster
    out: dict[Addr, Pod] = {}
    for pod in cluster.pods:
        if pod.phase not in ("Succeeded", "Failed"):
            for ip in pod.ips:
                if not pod.host_network or ip not in out:
                    out[ip] = pod
    if "pods" not in cluster.covered:
        own = {text for node in cluster.nodes for _, text in node.addresses}
        own |= {str(address.ip) for node in world.nodes.values() for address in node.addresses}
        for end in cluster.endpoints:
            if end.pod is not None and end.node is not None and end.ip not in out and str(end.ip) not in own:
                space, _, name = end.pod.partition("/")
                out[end.ip] = Pod(space, name, end.node, (end.ip,))
    return out
