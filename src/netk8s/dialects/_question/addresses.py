"""Addresses of nodes, pods and clients: from dumps, from objects, or one that stands for what no dump tells."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from netk8s import objects, plugins
from netk8s.dialects import kube_proxy_ipvs
from netk8s.dialects._question.names import near, node_names
from netk8s.errors import NotFound, UsageError
from netk8s.model import Addr, ClusterNode, Node, Pod, World

# Documentation networks (RFC 5737, RFC 3849): addresses that stand for one no dump tells, and are nobody's.
CLIENT: dict[int, Addr] = {4: ip_address("198.51.100.10"), 6: ip_address("2001:db8:c::10")}
OUTSIDE: dict[int, Addr] = {4: ip_address("203.0.113.200"), 6: ip_address("2001:db8:e::200")}
NODE: dict[int, Addr] = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8:a::1")}
POD: dict[int, Addr] = {4: ip_address("192.0.2.250"), 6: ip_address("2001:db8:b::250")}


def owner_of(world: World, ip: Addr) -> str | None:
    """The node that has an address, by its dumps, else by the Node objects."""
    for name, node in world.nodes.items():
        # Every node has the virtual addresses that IPVS balances: they say nothing of whose an address is.
        if any(a.ip == ip and a.dev != kube_proxy_ipvs.DEVICE for a in node.addresses):
            return name
    for item in world.cluster.nodes:
        if any(text == str(ip) for _, text in item.addresses):
            return item.name
    return None


def node_object(world: World, name: str) -> ClusterNode | None:
    return next((n for n in world.cluster.nodes if n.name == name), None)


def node_address(world: World, name: str, family: int | None, notes: list[str]) -> Addr:
    """A node's own address: InternalIP, else the first address of the device of its default route, else a stand-in."""
    item = node_object(world, name)
    if item is None and name not in world.nodes:
        raise NotFound(f"node {name}", [f"node/{n}" for n in near(name, node_names(world))])
    for kind in ("InternalIP", "ExternalIP"):
        for what, text in item.addresses if item else ():
            if what == kind:
                try:
                    ip = ip_address(text)
                except ValueError:
                    continue
                if family in (None, ip.version):
                    return ip
    node = world.nodes.get(name)
    if node is not None:
        devices = [h.dev for r in node.routes if r.dst.prefixlen == 0 and r.table == "main" for h in r.nexthops]
        for device in devices:
            for address in node.addresses:
                if address.dev == device and address.scope == "global" and family in (None, address.ip.version):
                    return address.ip
        for ip in programmed_addresses(node) if not node.addresses else ():
            if family in (None, ip.version):
                return ip
        for address in node.addresses:
            virtual = address.scope != "global" or address.dev == kube_proxy_ipvs.DEVICE
            if not virtual and family in (None, address.ip.version):
                notes.append(f"{address.ip} is taken as the address of {name}: it has no default route")
                return address.ip
        if node.addresses and "addr" in node.covered and family is not None:
            raise NotFound(f"node {name}", (), f"node {name} has no IPv{family} address")
    return NODE[family or 4]


def client_address(world: World, name: str, family: int, notes: list[str]) -> Addr:
    """An outside address: a documentation address; for a node without default route a free one of its own network."""
    node = world.nodes.get(name)
    routes = [r for r in node.routes if r.dst.version == family and r.table == "main"] if node else []
    if routes and not any(r.dst.prefixlen == 0 for r in routes) and node is not None:
        taken = {a.ip for n in world.nodes.values() for a in n.addresses}
        mine = node_address(world, name, family, [])
        for address in node.addresses:
            if address.ip == mine and address.prefixlen < address.ip.max_prefixlen - 2:
                net = ip_network(f"{address.ip}/{address.prefixlen}", strict=False)
                for i in range(2, min(net.num_addresses - 1, 4096)):
                    ip = net[-i]
                    if ip not in taken:
                        notes.append(f"{ip} stands for a client in {net}: {name} has no default route")
                        return ip
    notes.append(f"{CLIENT[family]} stands for a client outside the cluster; give its address with --from")
    return CLIENT[family]


def pod_address(world: World, node: str, pod: Pod | None, dst: Addr, notes: list[str]) -> Addr:
    if pod is not None:
        for ip in pod.ips:
            if ip.version == dst.version:
                return ip
        raise UsageError(f"pod {pod.namespace}/{pod.name} has no IPv{dst.version} address, and {dst} is one")
    network = _own_network(world, node, dst.version) or _pod_network(world.nodes[node], dst.version)
    address = POD[dst.version]
    if network is not None:
        net = ip_network(network, strict=False)
        if net.num_addresses > 4:
            address = net[-3]
    notes.append(f"{address} stands for a pod on {node} that is none of the endpoints; give one with --from")
    return address


def _own_network(world: World, node: str, family: int) -> str | None:
    """A node's pod network by its Node object."""
    item = node_object(world, node)
    return next((str(cidr) for cidr in (item.pod_cidrs if item is not None else ()) if cidr.version == family), None)


def _pod_network(node: Node, family: int) -> str | None:
    found = (d.pod_network(node, family) for d in plugins.modules("netk8s.dialects") if hasattr(d, "pod_network"))
    return next((network for network in found if network is not None), None)


def owned(world: World) -> tuple[tuple[Addr, str], ...]:
    """The addresses that rules say are a node's, where no dump lists them."""
    return tuple(
        (ip, name)
        for name, node in world.nodes.items()
        if "addr" not in node.covered
        for ip in programmed_addresses(node)
    )


def programmed_addresses(node: Node) -> list[Addr]:
    dialects = [d for d in plugins.modules("netk8s.dialects") if hasattr(d, "node_addresses")]
    return [ip for dialect in dialects for ip in dialect.node_addresses(node)]


def in_service_range(world: World, ip: Addr) -> bool:
    return any(ip.version == net.version and ip in net for net in objects.of(world.cluster).service_ranges)


def family_of_nodes(world: World) -> int:
    for node in world.cluster.nodes:
        for _, text in node.addresses:
            try:
                return ip_address(text).version
            except ValueError:
                continue
    families = {t.family for n in world.nodes.values() for t in n.tables}
    families |= {{"ip": 4, "ip6": 6}.get(t.family, 4) for n in world.nodes.values() for t in n.nft}
    return 6 if families == {6} else 4
