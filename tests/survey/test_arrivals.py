"""What nodes without dumps send to the endpoints of one that has them."""

from __future__ import annotations

from ipaddress import ip_address as ip
from ipaddress import ip_network as net

from msgspec.structs import replace

from netk8s.model import (
    Cluster,
    ClusterNode,
    Elsewhere,
    Endpoint,
    NetworkPolicy,
    NextHop,
    Node,
    Pod,
    PolicyPeer,
    PolicyRule,
    Route,
    ServicePort,
    World,
)
from netk8s.survey import ENDPOINT, Ground, arrivals

WEB = ServicePort("default", "web", "", 6, 80, "8080", None, "ClusterIP", (ip("10.96.0.9"),))
API = ServicePort("default", "api", "", 6, 80, "8080", None, "ClusterIP", (ip("10.96.0.8"),))
ENDS = tuple(
    Endpoint("default", name, "", 6, ip(f"10.244.{n}.5"), 8080, f"n{n}", f"default/p{n}")
    for name, numbers in (("web", (1, 2)), ("api", (1,)))
    for n in numbers
)
NODES = tuple(ClusterNode(f"n{n}", (("InternalIP", f"192.0.2.{n}"),), (net(f"10.244.{n}.0/24"),)) for n in range(1, 6))
PODS = tuple(Pod("default", f"p{n}", f"n{n}", (ip(f"10.244.{n}.253"),)) for n in range(2, 6))
"""The first address that would be taken for nobody's."""


def ground(*names: str, routes: tuple[Route, ...] = ()) -> Ground:
    covered = frozenset({"services", "endpoints", "nodes"})
    nodes = {name: Node(name, routes=routes) for name in names}
    return Ground.of(World(nodes, Cluster((WEB, API), ENDS, PODS, NODES, covered=covered)))


def route(number: int, gateway: str = "192.0.2.9") -> Route:
    return Route(net(f"10.244.{number}.0/24"), "unicast", (NextHop("eth0", ip(gateway)),))


def asked(found: Ground) -> list[tuple[str, str, str | None]]:
    return [(q.client, q.ask.target, q.ask.source) for q in arrivals(found)]


def test_a_pod_and_a_node_of_those_that_are_reached_alike() -> None:
    found = ground("n1", routes=tuple(route(n) for n in range(2, 6)))
    assert asked(found) == [
        ("another node", "10.244.1.5:8080", "192.0.2.2"),
        ("a pod of another node", "10.244.1.5:8080", "10.244.2.252"),
    ]
    (first, _) = arrivals(found)
    assert (first.dialled.kind, first.ask.via, first.at is not None and first.at.beside) == (ENDPOINT, "n1", True)


def test_a_node_without_route_is_of_another_kind() -> None:
    sources = {source for _, _, source in asked(ground("n1", routes=(route(2), route(3), route(4))))}
    assert sources == {"192.0.2.2", "10.244.2.252", "10.244.5.252"}


def test_nothing_where_every_node_has_dumps_or_no_endpoint() -> None:
    assert asked(ground("n1", "n2", "n3", "n4", "n5")) == []
    assert asked(ground("n4")) == []
    assert list(arrivals(ground("n1"), wanted=[])) == []
    assert list(arrivals(ground("n1"), only=["n2"])) == []


def policed(*clients: Pod, blocks: tuple[str, ...] = ()) -> Ground:
    rules = tuple(PolicyRule((PolicyPeer(block=net(block)),)) for block in blocks)
    policies = (NetworkPolicy("default", "p", (), ("ingress",), ingress=rules),)
    found = ground("n1", routes=tuple(route(n) for n in range(2, 6))).world
    there = (Elsewhere(clients=clients),)
    return Ground.of(replace(found, cluster=replace(found.cluster, pods=(), policies=policies, elsewhere=there)))


def client(number: int, *labels: tuple[str, str], last: int = 9) -> Pod:
    return Pod("default", f"c{number}", f"n{number}", (ip(f"10.244.{number}.{last}"),), labels=labels)


def test_pods_that_are_there_send_one_of_each_kind_that_policies_tell_apart() -> None:
    web, front = ("app", "web"), ("app", "front")
    pods = [a for a in asked(policed(client(2, web), client(3, front), client(4, web))) if a[0] != "another node"]
    assert [source for _, _, source in pods] == ["10.244.2.9", "10.244.3.9"]
    alike = policed(client(2), client(3), client(4), blocks=("10.244.3.0/24",))
    assert [source for what, _, source in asked(alike) if what != "another node"] == ["10.244.2.9", "10.244.3.9"]


def test_an_endpoint_of_the_service_is_no_client_of_it() -> None:
    def sources(found: Ground) -> list[str | None]:
        return [q.ask.source for q in arrivals(found, wanted=[("default/web", "", 6)]) if q.client != "another node"]

    assert sources(policed(client(2, last=5), client(3))) == ["10.244.3.9"]
    assert sources(policed(client(2, last=5))) == []
