"""The other half of a flow between nodes: packets that come to a node's endpoints from nodes of which there is no dump.

Each node of a large cluster is asked by itself. What it sends to another one is followed to its own edge; from there on
the other one answers for it, for packets as they come in: from a pod, and from the node, whose address masquerading takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from netk8s.model import PROTOCOL_NAMES, Addr, Ask, ClusterNode, Net, Node
from netk8s.survey._ports import Dialled, Key
from netk8s.survey._questions import OTHER_NODE, OTHER_POD, PRIMARY, Ground, Question, Stop

ENDPOINT = "endpoint"
"""The kind of address that is dialled: an endpoint's own."""


def arrivals(
    ground: Ground, wanted: Iterable[Key] | None = None, only: Iterable[str] | None = None
) -> Iterator[Question]:
    """A question for each endpoint on a node with dumps and each kind of sender on nodes without.

    Senders are of one kind where the node has the same sort of route to them.
    """
    world = ground.world
    keys = None if wanted is None else set(wanted)
    names = set(world.nodes if only is None else only)
    absent = [item for item in world.cluster.nodes if item.name not in world.nodes]
    taken = {ip for pod in world.cluster.pods for ip in pod.ips}
    for name, node in world.nodes.items():
        if name not in names:
            continue
        senders = {version: list(_senders(node, absent, version, taken)) for version in (4, 6)} if absent else {}
        asked: set[tuple[Addr, int | None, int]] = set()
        for port in ground.ports if absent else ():
            if keys is not None and port.key not in keys:
                continue
            for place in port.endpoints:
                end = (place.ip, place.port, port.protocol)
                if place.node != name or place.port is None or end in asked:
                    continue
                asked.add(end)
                host = f"[{place.ip}]" if place.ip.version == 6 else str(place.ip)
                for client, source in senders[place.ip.version]:
                    ask = Ask(f"{host}:{place.port}", None, PROTOCOL_NAMES[port.protocol], str(source), name)
                    dialled = Dialled(ENDPOINT, place.ip, place.port)
                    yield Question(port, dialled, PRIMARY, client, ask, Stop(name, True))


def _senders(node: Node, absent: Iterable[ClusterNode], version: int, taken: set[Addr]) -> Iterator[tuple[str, Addr]]:
    """(client, its address), one of each kind."""
    routes = {r.dst: (r.kind, tuple((hop.dev, hop.gateway is None) for hop in r.nexthops)) for r in node.routes}
    told: set[object] = set()
    for item in absent:
        for client, ip, route in _addresses(item, version, taken):
            kind = (client, routes.get(route) if route is not None else None)
            if kind not in told:
                told.add(kind)
                yield client, ip


def _addresses(item: ClusterNode, version: int, taken: set[Addr]) -> Iterator[tuple[str, Addr, Net | None]]:
    for what, text in item.addresses:
        try:
            ip = ip_address(text)
        except ValueError:
            continue
        if what == "InternalIP" and ip.version == version:
            yield OTHER_NODE, ip, None
            break
    for cidr in item.pod_cidrs:
        if cidr.version == version and cidr.num_addresses > 4:
            free = next((cidr[-n] for n in range(3, min(cidr.num_addresses, 1024)) if cidr[-n] not in taken), None)
            if free is not None:
                yield OTHER_POD, free, cidr
                break


__all__ = ["ENDPOINT", "arrivals"]
