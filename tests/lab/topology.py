"""What a lab cluster is to be: small frozen values. :mod:`.cluster` builds one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network


def of_family(addresses: tuple[str, ...], family: int) -> tuple[str, ...]:
    """Those of the addresses, networks or interfaces that are of IPv4 or IPv6."""
    return tuple(a for a in addresses if ip_interface(a).version == family)


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node. ``addresses`` with prefix length, the first of a family is its InternalIP.

    ``wiring`` of its pods: "bridge" (cni0), "routed" (a veth and a host route each, as calico does), "macvlan"
    (mode bridge, or "macvlan-private", "-vepa", "-passthru", "-source"), or "ipvlan-l2", "ipvlan-l3" and "ipvlan-l3s"; "none" leaves that to the test. Pods on ipvlan are in the LAN's subnet or, in l3, in the node's pod subnet.
    """

    name: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    wiring: str = "bridge"
    hairpin: bool = True
    bridge_nf: bool = True
    zone: str = ""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    """More ``ip`` commands, run last."""
    back: tuple[str, ...] = ()
    """Addresses on a second network, that only nodes are on (device eth1)."""

    def ip(self, family: int) -> str:
        """Its address of a family, "" if it has none."""
        found = of_family(self.addresses, family)
        return found[0].split("/")[0] if found else ""

    def pod_cidr(self, family: int) -> str:
        found = of_family(self.pod_cidrs, family)
        return found[0] if found else ""


@dataclass(frozen=True, slots=True)
class PodSpec:
    """A pod. One with ``host_network`` has its node's addresses. ``ports`` are (protocol, port) it answers on."""

    name: str
    node: str
    ips: tuple[str, ...] = ()
    ports: tuple[tuple[str, int], ...] = (("tcp", 8080), ("udp", 8080))
    namespace: str = "default"
    host_network: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def calico_device(self) -> str:
        """The host side's name with wiring "routed": calico has "cali" and a part of a hash of the pod's name."""
        name = f"{self.namespace}.{self.name}".encode()
        return "cali" + hashlib.sha1(name, usedforsecurity=False).hexdigest()[:11]


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """A host outside the cluster, on the LAN or (``far``) behind the router."""

    name: str
    addresses: tuple[str, ...]
    far: bool = False
    routes: tuple[str, ...] = ()
    """More routes, as in ``ip route add``: to ClusterIPs or LoadBalancer addresses through a node."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A Service with one port. ``pods`` are the keys of its endpoints."""

    name: str
    cluster_ips: tuple[str, ...]
    port: int
    target_port: int
    pods: tuple[str, ...]
    protocol: str = "tcp"
    node_port: int | None = None
    namespace: str = "default"
    external_policy: str = "Cluster"
    internal_policy: str = "Cluster"
    external_ips: tuple[str, ...] = ()
    affinity: int = 0
    """For how many seconds a client keeps its endpoint, 0 for none."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole cluster. ``router`` are the router's addresses on the LAN, ``far_router`` those towards far clients."""

    nodes: tuple[NodeSpec, ...]
    pods: tuple[PodSpec, ...] = ()
    clients: tuple[ClientSpec, ...] = ()
    services: tuple[ServiceSpec, ...] = ()
    cluster_cidrs: tuple[str, ...] = ("10.244.0.0/16", "fd00:10:244::/48")
    router: tuple[str, ...] = ("192.168.52.1/24", "fd00:52::1/64")
    far_router: tuple[str, ...] = ("203.0.113.1/24", "2001:db8:113::1/64")
    overlay: str = ""
    """"" for host routes between the nodes, "vxlan" for a flannel.1 device as flannel makes it."""
    device: str = "ens33"

    def node(self, name: str) -> NodeSpec:
        return next(node for node in self.nodes if node.name == name)

    def pod(self, key: str) -> PodSpec:
        return next(pod for pod in self.pods if pod.key == key)

    def pod_ips(self, pod: PodSpec, family: int) -> tuple[str, ...]:
        if not pod.host_network:
            return of_family(pod.ips, family)
        ip = self.node(pod.node).ip(family)
        return (ip,) if ip else ()

    def endpoints(self, service: ServiceSpec, family: int) -> tuple[tuple[str, PodSpec], ...]:
        """(address, pod) of the Service's endpoints of a family."""
        return tuple((ip, pod) for key in service.pods for pod in (self.pod(key),) for ip in self.pod_ips(pod, family))


def first_host(network: str) -> str:
    """The first host address of a network with its prefix length: what a bridge or gateway has."""
    net = ip_network(network)
    return f"{net.network_address + 1}/{net.prefixlen}"


def same_family(a: str, b: str) -> bool:
    return ip_address(a.split("/")[0]).version == ip_address(b.split("/")[0]).version


def two_nodes(**changes: object) -> Topology:
    """The usual small cluster: two nodes, an nginx with three pods, a host-network pod, a client near and one far."""
    nodes = (
        NodeSpec("k8s-node1", ("192.168.52.201/24", "fd00:52::201/64"), ("10.244.1.0/24", "fd00:10:244:1::/64")),
        NodeSpec("k8s-node2", ("192.168.52.202/24", "fd00:52::202/64"), ("10.244.2.0/24", "fd00:10:244:2::/64")),
    )
    nginx = (("tcp", 80),)
    pods = (
        PodSpec("nginx-a", "k8s-node1", ("10.244.1.5", "fd00:10:244:1::5"), nginx),
        PodSpec("nginx-b", "k8s-node1", ("10.244.1.6", "fd00:10:244:1::6"), nginx),
        PodSpec("nginx-c", "k8s-node2", ("10.244.2.5", "fd00:10:244:2::5"), nginx),
        PodSpec("toolbox", "k8s-node1", ("10.244.1.120", "fd00:10:244:1::120"), ()),
        PodSpec("dns-a", "k8s-node2", ("10.244.2.9", "fd00:10:244:2::9"), (("udp", 5353),)),
        PodSpec("exporter", "k8s-node1", (), (("tcp", 9100),), host_network=True),
    )
    services = (
        ServiceSpec(
            "nginx",
            ("10.96.120.30", "fd00:10:96::30"),
            80,
            80,
            ("default/nginx-a", "default/nginx-b", "default/nginx-c"),
            node_port=30000,
        ),
        ServiceSpec("self", ("10.96.120.31", "fd00:10:96::31"), 80, 80, ("default/nginx-a",), node_port=30001),
        ServiceSpec("dns", ("10.96.53.53", "fd00:10:96::53"), 53, 5353, ("default/dns-a",), "udp", 30053),
        ServiceSpec("exporter", ("10.96.91.0", "fd00:10:96::91"), 9100, 9100, ("default/exporter",), node_port=30910),
        ServiceSpec("empty", ("10.96.99.99", "fd00:10:96::99"), 80, 80, (), node_port=30099),
    )
    clients = (
        ClientSpec("client", ("192.168.52.50/24", "fd00:52::50/64")),
        ClientSpec("client-far", ("203.0.113.7/24", "2001:db8:113::7/64"), far=True),
    )
    made: dict[str, object] = {"nodes": nodes, "pods": pods, "clients": clients, "services": services, **changes}
    return Topology(**made)  # type: ignore[arg-type]
