"""What can be dialled: every Service port and hostPort, with its addresses and endpoints.

From the API's objects where a dump has them, else from what the rules program.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from netk8s.model import Addr, Cluster, ComparedInPart, Endpoint, Net, Programmed, World

CLUSTER_IP, NODE_PORT, LOAD_BALANCER, EXTERNAL_IP, EXTERNAL, HOST_PORT = (
    "ClusterIP", "NodePort", "LoadBalancer", "ExternalIP", "External", "hostPort",
)  # fmt: skip
PROXIED = "LoadBalancer (ipMode Proxy)"

Key = tuple[str, str, int]
"""(namespace/name, port name, protocol)."""


class Dialled(Struct, frozen=True):
    """An address of a port: ``ip`` None is a NodePort or hostPort, which nodes answer at their own addresses."""

    kind: str
    ip: Addr | None
    port: int


class Place(Struct, frozen=True):
    """An endpoint as far as the choice of questions needs it. ``node`` None: on no node that is known."""

    ip: Addr
    port: int | None
    node: str | None
    pod: str | None


class Port(ComparedInPart, frozen=True, eq=False):
    """One port of a Service, or a pod's hostPort (``service`` is pod/NAMESPACE/NAME then)."""

    service: str
    name: str
    protocol: int
    dialled: tuple[Dialled, ...]
    endpoints: tuple[Place, ...]
    families: tuple[int, ...]
    source_ranges: tuple[str, ...] = ()
    node: str | None = None
    rows: tuple[Programmed, ...] = ()

    def _compared(self) -> tuple[object, ...]:
        """Everything but ``rows``: a port is the same whatever is programmed for it."""
        return (
            self.service, self.name, self.protocol, self.dialled, self.endpoints, self.families, self.source_ranges,
            self.node,
        )  # fmt: skip

    @property
    def key(self) -> Key:
        return (self.service, self.name, self.protocol)

    def __str__(self) -> str:
        return f"{self.service}:{self.name}" if self.name else self.service


def ports(world: World, programmed: Iterable[Programmed]) -> tuple[Port, ...]:
    """Every Service port and hostPort of a world, by name. ``programmed`` is what its nodes' rules have."""
    rows: dict[Key, list[Programmed]] = {}
    for row in programmed:
        name = row.service or (f"{row.ip}:{row.port}" if row.ip is not None else f"*:{row.port}")
        rows.setdefault((name, row.port_name, row.protocol), []).append(row)
    if "services" in world.cluster.covered:
        found = [*_of_objects(world, rows), *_of_pods(world.cluster)]
    else:
        near = _Near(world)
        found = [_of_rows(near, key, some) for key, some in rows.items()] + _of_pods(world.cluster)
    return tuple(sorted(found, key=lambda p: p.key))


def _of_objects(world: World, rows: dict[Key, list[Programmed]]) -> list[Port]:
    endpoints: dict[Key, list[Endpoint]] = {}
    for e in world.cluster.endpoints:
        endpoints.setdefault((f"{e.namespace}/{e.service}", e.port_name, e.protocol), []).append(e)
    out = []
    # The API server's own EndpointSlice names no node.
    nodes = {text: node.name for node in world.cluster.nodes for _, text in node.addresses}
    for s in world.cluster.services:
        key = (f"{s.namespace}/{s.service}", s.name, s.protocol)
        dialled = [Dialled(CLUSTER_IP, ip, s.port) for ip in s.cluster_ips]
        dialled += [Dialled(LOAD_BALANCER, ip, s.port) for ip in s.lb_ips]
        dialled += [Dialled(PROXIED, ip, s.port) for ip in s.lb_ips_proxy]
        dialled += [Dialled(EXTERNAL_IP, ip, s.port) for ip in s.external_ips]
        dialled += [Dialled(NODE_PORT, None, s.node_port)] if s.node_port is not None else []
        if not dialled:
            continue
        places = tuple(Place(e.ip, e.port, e.node or nodes.get(str(e.ip)), e.pod) for e in endpoints.get(key, ()))
        families = tuple(sorted({ip.version for ip in s.cluster_ips})) or (4,)
        out.append(Port(*key, tuple(dialled), places, families, s.lb_source_ranges, rows=tuple(rows.get(key, ()))))
    return out


def _of_rows(near: _Near, key: Key, rows: list[Programmed]) -> Port:
    dialled = tuple(dict.fromkeys(Dialled(row.kind, row.ip, row.port) for row in rows))
    # Many ways lead to the same endpoints.
    backends = {id(row.backends): row.backends for row in rows}.values()
    places = dict.fromkeys(Place(end.ip, end.port, near.node_of(end.ip), end.pod) for ends in backends for end in ends)
    families = {d.ip.version for d in dialled if d.ip is not None} | {place.ip.version for place in places}
    return Port(*key, dialled, tuple(places), tuple(sorted(families)) or (4,), rows=tuple(rows))


def _of_pods(cluster: Cluster) -> list[Port]:
    out = []
    for pod in cluster.pods:
        if pod.host_network or pod.phase in ("Succeeded", "Failed"):
            continue
        for name, port, protocol, host_port, host_ip in pod.ports:
            if host_port is not None and host_ip not in ("127.0.0.1", "::1"):
                full = f"{pod.namespace}/{pod.name}"
                places = tuple(Place(ip, port, pod.node, full) for ip in pod.ips)
                families = tuple(sorted({ip.version for ip in pod.ips}))
                out.append(
                    Port(f"pod/{full}", name, protocol, (Dialled(HOST_PORT, None, host_port),), places, families,
                         node=pod.node)
                )  # fmt: skip
    return out


_Prefix = tuple[int, int]
"""(length, the first bits) of a network."""


class _Near:
    """Which addresses are on which node: its own, or ones that a route without gateway leads to."""

    def __init__(self, world: World) -> None:
        self._local: dict[int, dict[_Prefix, list[str]]] = {4: {}, 6: {}}
        self._links: dict[int, dict[_Prefix, list[str]]] = {4: {}, 6: {}}
        self._shared: dict[int, dict[_Prefix, list[str]]] = {4: {}, 6: {}}
        self._order = {name: place for place, name in enumerate(world.nodes)}
        for name, node in world.nodes.items():
            for route in node.routes:
                version = route.dst.version
                if not route.dst.prefixlen:
                    continue
                if route.kind == "local":
                    self._add(self._local[version], route.dst, name)
                elif route.kind == "unicast" and all(hop.gateway is None for hop in route.nexthops):
                    self._add(self._shared[version], route.dst, name)
                    if all(hop.dev for hop in route.nexthops):
                        self._add(self._links[version], route.dst, name)
        self._found: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}
        for version in (4, 6):
            found = self._found[version]
            for length, number in dict.fromkeys((*self._local[version], *self._links[version])):
                net = (length, number)
                names = [*self._local[version].get(net, ())]
                # The nodes' own network is on every node: only a local route tells whose an address of it is.
                if len(self._shared[version].get(net, ())) == 1:
                    names += self._links[version].get(net, ())
                if names:
                    found.setdefault(length, {})[number] = min(names, key=self._order.__getitem__)

    def _add(self, known: dict[_Prefix, list[str]], net: Net, name: str) -> None:
        number = int(net.network_address) >> (net.max_prefixlen - net.prefixlen)
        names = known.setdefault((net.prefixlen, number), [])
        if name not in names:
            names.append(name)

    def node_of(self, ip: Addr) -> str | None:
        """The first node that an address is on, None when it is on none that is known."""
        bits, number = ip.max_prefixlen, int(ip)
        looked_up = (nets.get(number >> (bits - length)) for length, nets in self._found[ip.version].items())
        found = [name for name in looked_up if name is not None]
        return min(found, key=self._order.__getitem__) if found else None
