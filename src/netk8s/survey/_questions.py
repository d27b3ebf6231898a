"""The questions to ask of a cluster: every way to dial × every kind of client, with one node for those that are alike.

The number is linear in Services: per port and address one question for each kind of client, of nodes only one of each
kind (``_alike``), whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from msgspec import Struct, field
from msgspec.structs import replace

from netk8s import dialects
from netk8s.model import TCP, Addr, Ask, Flow, Programmed, World, service_ranges
from netk8s.surroundings import Surroundings
from netk8s.survey import _alike
from netk8s.survey._ports import CLUSTER_IP, EXTERNAL, HOST_PORT, NODE_PORT, Dialled, Key, Port, ports
from netk8s.survey._sites import Sites, inhabitants, stands_in

OUTSIDE, IN_RANGE, BESIDE, NODE, OTHER_NODE, POD, OTHER_POD, ITSELF = (
    "outside", "outside, in the source ranges", "outside, on the nodes' network", "the node itself", "another node",
    "a pod", "a pod of another node", "an endpoint itself",
)  # fmt: skip

PRIMARY, OTHER, LOCALHOST = "", "another address", "127.0.0.1"

_LOOPBACK: Mapping[int, Addr] = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}


class Stop(Struct, frozen=True):
    """A node with those that it stands for, itself left out. ``beside``: it has an endpoint of the port."""

    node: str
    beside: bool
    stands_for: tuple[str, ...] = ()


class Question(Struct, frozen=True):
    """One question: what is dialled, by whom.

    ``at`` is the node whose address is dialled, or that a packet from outside enters at; None where the client is inside
    and dials a virtual address. ``address`` tells addresses of a node apart: PRIMARY, OTHER (with the device's name),
    LOCALHOST. ``sender`` is the node that the client is on, None for one outside.
    """

    port: Port
    dialled: Dialled
    address: str
    client: str
    ask: Ask
    at: Stop | None = None
    sender: Stop | None = None

    @property
    def kind(self) -> str:
        """What is dialled: ``NodePort``, ``NodePort at 127.0.0.1``."""
        return f"{self.dialled.kind} at {self.address}" if self.address else self.dialled.kind

    @property
    def who(self) -> str:
        """The client in words that hold for every Service."""
        if self.client == ITSELF or not self.port.endpoints:
            return self.client
        if self.client in (OUTSIDE, IN_RANGE, BESIDE):
            entry = "" if self.at is None else f" through a node {'with' if self.at.beside else 'without'} endpoint"
            return f"{self.client}{entry}"
        if self.client in (OTHER_NODE, OTHER_POD) and self.at is not None:
            # What decides is the node that is dialled, not the one that the client is on.
            return f"{self.client} (the dialled node has {'an' if self.at.beside else 'no'} endpoint)"
        there = self.sender is not None and self.sender.beside
        return f"{self.client} ({'endpoint' if there else 'no endpoint'} there)"


class Ground(Struct, frozen=True, eq=False):
    """What a world is made of as far as questions go; made once."""

    world: World
    ports: tuple[Port, ...]
    environments: Mapping[str, object]
    programmed: tuple[Programmed, ...] = ()
    _around: dict[object, Surroundings] = field(default_factory=dict)
    _by_key: dict[Key, Port] = field(default_factory=dict)

    def port(self, key: Key) -> Port | None:
        """The port of a key as this world has it."""
        if not self._by_key:
            self._by_key.update((port.key, port) for port in self.ports)
        return self._by_key.get(key)

    def around(self, flow: Flow) -> Surroundings:
        """The surroundings of a flow; flows with the same stand-ins share what is derived from the nodes' facts."""
        key = (flow.owned, flow.stand_ins)
        if key not in self._around:
            self._around[key] = Surroundings(self.world, flow)
        return self._around[key].of(flow)

    @classmethod
    def of(cls, world: World) -> Ground:
        """The ground of a completed world (``dialects.complete``)."""
        environments = {name: _alike.environment(node, world) for name, node in world.nodes.items()}
        programmed = dialects.programmed(world)
        return cls(world, ports(world, programmed), environments, programmed)


def questions(
    grounds: Sequence[Ground], wanted: Iterable[Key] | None = None, only: Iterable[str] | None = None
) -> Iterator[Question]:
    """The questions that tell the grounds apart if anything does: those of the first, with nodes that are alike in all.

    A node that any of them lacks is left out. ``wanted``: these ports only; ``only``: packets that enter or are sent at
    these nodes.
    """
    first = grounds[0]
    keys = None if wanted is None else set(wanted)
    nodes = [name for name in first.world.nodes if all(name in ground.world.nodes for ground in grounds)]
    if only is not None:
        nodes = [name for name in nodes if name in set(only)]
    sites = Sites(first.world)
    for port in (*first.ports, *_nobodys(first.world)):
        if keys is not None and port.key not in keys:
            continue
        same = [port, *(ground.port(port.key) or replace(port, rows=()) for ground in grounds[1:])]
        yield from _of_port(sites, grounds, same, nodes)


def _of_port(sites: Sites, grounds: Sequence[Ground], same: Sequence[Port], nodes: Sequence[str]) -> Iterator[Question]:
    port = same[0]
    stops = _stops(grounds, same, nodes)
    for dialled in port.dialled:
        if any(dialled not in other.dialled for other in same[1:]):
            continue
        if dialled.ip is None:
            for family in port.families:
                yield from _at_nodes(sites, port, dialled, family, stops, nodes)
        else:
            yield from _at_address(sites, port, dialled, dialled.ip, stops, nodes)


def _stops(grounds: Sequence[Ground], same: Sequence[Port], nodes: Sequence[str]) -> tuple[Stop, ...]:
    """One node of each kind, those with endpoints first."""
    kinds: dict[object, list[str]] = {}
    for name in nodes:
        # One node alone is like no other, whatever it holds.
        kind: object = len(nodes) > 1 and tuple(
            (
                ground.environments[name],
                _alike.programming([r for r in port.rows if r.node == name], name, port),
                _alike.hosts(port, name, ground.world.nodes[name]),
            )
            for ground, port in zip(grounds, same, strict=False)
        )
        kinds.setdefault(kind, []).append(name)
    beside = {place.node for place in same[0].endpoints}
    out = [Stop(names[0], names[0] in beside, tuple(names[1:])) for names in kinds.values()]
    return tuple(sorted(out, key=lambda stop: (not stop.beside, stop.node)))


NOBODYS_PORT, NOBODYS_ADDRESS = "a port without Service", "an address without Service"


def _nobodys(world: World) -> Iterator[Port]:
    """What lies in the Services' networks and is no Service's: a port of one ClusterIP, which stands for all, and an
    address.
    """
    services = world.cluster.services
    for net in service_ranges(services):
        taken = {ip for s in services for ip in s.cluster_ips if ip.version == net.version}
        ip = min(taken, key=int)
        used = {s.port for s in services if ip in s.cluster_ips}
        number = next(n for n in range(9, 65536) if n not in used)
        yield Port("(no Service)", "", TCP, (Dialled(f"{CLUSTER_IP}, {NOBODYS_PORT}", ip, number),), (), (net.version,))
        free = next((one for one in (net[n] for n in range(1, net.num_addresses)) if one not in taken), None)
        if free is not None:
            yield Port(
                "(no Service)", "", TCP, (Dialled(f"{CLUSTER_IP}, {NOBODYS_ADDRESS}", free, 80),), (), (net.version,)
            )


def _besides(stop: Stop, node: str) -> Stop | None:
    """The stop with another node than ``node`` in its place, None when there is none."""
    if stop.node != node:
        return stop
    if not stop.stands_for:
        return None
    return replace(stop, node=stop.stands_for[0], stands_for=stop.stands_for[1:])


# ---------------------------------------------------------------- addresses of nodes


def _at_nodes(
    sites: Sites, port: Port, dialled: Dialled, family: int, stops: Sequence[Stop], nodes: Sequence[str]
) -> Iterator[Question]:
    for stop in stops:
        if dialled.kind == HOST_PORT and stop.node != port.node:
            continue
        site = sites.of(stop.node, family)
        if site.primary is None:
            continue
        yield from _at_primary(sites, port, dialled, site.primary, stop, stops, nodes)
        for ip, name, reachable in site.others:
            base = _Base(sites, port, dialled, f"{OTHER} ({name})", ip, stop)
            if reachable:
                yield from base.outside()
            yield base.node(NODE, stop)
            yield from base.pod(POD, stop)
        loopback = _LOOPBACK[family]
        yield _Base(sites, port, dialled, str(loopback), loopback, stop).node(NODE, stop)


def _at_primary(
    sites: Sites, port: Port, dialled: Dialled, ip: Addr, stop: Stop, stops: Sequence[Stop], nodes: Sequence[str]
) -> Iterator[Question]:
    base = _Base(sites, port, dialled, PRIMARY, ip, stop, stands_in(sites.world, stop.node))
    yield from base.outside()
    yield base.node(NODE, stop)
    yield from base.pod(POD, stop)
    for each in stops:
        other = _besides(each, stop.node)
        if other is not None:
            yield base.node(OTHER_NODE, other)
            yield from base.pod(OTHER_POD, other)
    yield from base.itself(nodes)


# ---------------------------------------------------------------- virtual addresses


def _at_address(
    sites: Sites, port: Port, dialled: Dialled, ip: Addr, stops: Sequence[Stop], nodes: Sequence[str]
) -> Iterator[Question]:
    for stop in stops:
        base = _Base(sites, port, dialled, PRIMARY, ip, stop)
        yield from base.outside()
        # The client's own node is what decides: no node is dialled.
        inside = _Base(sites, port, dialled, PRIMARY, ip, None)
        yield inside.node(NODE, stop)
        yield from inside.pod(POD, stop)
    yield from _Base(sites, port, dialled, PRIMARY, ip, None).itself(nodes)


# ---------------------------------------------------------------- clients


class _Base(Struct, frozen=True):
    """A question without its client."""

    sites: Sites
    port: Port
    dialled: Dialled
    address: str
    ip: Addr
    at: Stop | None
    stand_in: bool = False
    """No dump tells the node's address: the Service is asked for by its name."""

    def _asked(self, client: str, source: str, sender: Stop | None, via: str | None = None) -> Question:
        target = f"[{self.ip}]:{self.dialled.port}" if self.ip.version == 6 else f"{self.ip}:{self.dialled.port}"
        protocol = {6: "tcp", 17: "udp", 132: "sctp"}.get(self.port.protocol)
        node = sender.node if sender is not None and source == "pod" else None
        port = None
        if self.stand_in and self.at is not None:
            named = "/" in self.port.service
            target, port, via = (
                f"svc/{self.port.service}" if named else f"node/{self.at.node}",
                str(self.dialled.port),
                self.at.node,
            )
        ask = Ask(target, port, protocol, source, via, node)
        return Question(self.port, self.dialled, self.address, client, ask, self.at, sender)

    def outside(self) -> Iterator[Question]:
        """Clients outside the cluster: any, one that source ranges let in, one whom pods answer past the node."""
        via = self.at.node if self.at is not None else None
        yield self._asked(OUTSIDE, "client", None, via)
        neighbour = self.sites.of(via, self.ip.version).neighbour if via is not None else None
        if neighbour is not None:
            yield self._asked(BESIDE, str(neighbour), None, via)
        if self.port.source_ranges and self.dialled.kind not in (CLUSTER_IP, NODE_PORT, HOST_PORT, EXTERNAL):
            inside = self.sites.address_in(self.port.source_ranges, self.ip.version)
            if inside is not None:
                yield self._asked(IN_RANGE, str(inside), None, via)

    def node(self, client: str, sender: Stop) -> Question:
        """A process of a node."""
        return self._asked(client, f"node/{sender.node}", sender)

    def pod(self, client: str, sender: Stop) -> Iterator[Question]:
        """A pod on a node that is no endpoint of the port."""
        known = inhabitants(self.sites.world.cluster)
        mine = {place.ip for place in self.port.endpoints} if known.clients else set()
        for name in (sender.node, *sender.stands_for):
            if self.at is not None and client == OTHER_POD and name == self.at.node:
                continue
            for pod in known.clients.get((name, self.ip.version), ()):
                if not mine.isdisjoint(pod.ips):
                    continue
                stop = sender if name == sender.node else _swapped(sender, name)
                if self.at is not None and client == POD and name != self.at.node:
                    return
                yield self._asked(client, f"pod/{pod.namespace}/{pod.name}", stop)
                return
        if not self.sites.world.cluster.knows_pods:
            yield self._asked(client, "pod", sender)

    def itself(self, nodes: Sequence[str]) -> Iterator[Question]:
        """An endpoint that dials its own Service, on the node that is dialled if there is one there."""
        pods = inhabitants(self.sites.world.cluster).by_ip
        if not pods:
            return
        places = [
            p for p in self.port.endpoints if p.ip in pods and p.node in nodes and p.ip.version == self.ip.version
        ]
        if self.at is not None:
            here = [place for place in places if place.node == self.at.node]
            places = here or ([] if self.at.beside else places)
        for place in places[:1]:
            pod = pods[place.ip]
            sender = Stop(place.node or "", beside=True)
            yield self._asked(ITSELF, f"pod/{pod.namespace}/{pod.name}", sender)


def _swapped(stop: Stop, node: str) -> Stop:
    rest = tuple(name for name in (stop.node, *stop.stands_for) if name != node)
    return replace(stop, node=node, stands_for=rest)
