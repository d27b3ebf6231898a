"""Whose an address is, by dumps and by objects."""

from __future__ import annotations

from ipaddress import ip_address as ip
from ipaddress import ip_network

from netk8s.kernel.netns import Netns
from netk8s.model import (
    Address,
    Cluster,
    ClusterNode,
    Endpoint,
    Flow,
    NextHop,
    Node,
    Packet,
    Pod,
    Route,
    ServicePort,
    World,
)
from netk8s.surroundings import Surroundings

SERVICE = ServicePort(
    "default", "web", "", 6, 80, "8080", 30080, "LoadBalancer", (ip("10.96.5.5"),), lb_ips=(ip("192.0.2.80"),)
)
PODS = (
    Pod("default", "web", "n1", (ip("10.244.1.5"),)),
    Pod("default", "over", "n1", (ip("10.244.1.9"),), phase="Succeeded"),
    Pod("kube-system", "exporter", "n2", (ip("192.168.10.6"),), host_network=True, ports=(("m", 9100, 6, None, ""),)),
)
NODES = (
    ClusterNode("n1", (("InternalIP", "192.168.10.5"),), (ip_network("10.244.1.0/24"),)),
    ClusterNode("n2", (("InternalIP", "192.168.10.6"),), (ip_network("10.244.2.0/24"),)),
    ClusterNode("n3", (("InternalIP", "192.168.10.7"), ("Hostname", "n3")), (ip_network("10.244.3.0/24"),)),
)


def around(kind: str = "clusterip", dst: str = "10.96.5.5", routes: tuple[Route, ...] = ()) -> Surroundings:
    world = World(
        {
            "n1": Node("n1", addresses=(Address("eth0", ip("192.168.10.5"), 24, "global"),), routes=routes),
            "n2": Node("n2"),
        },
        Cluster((SERVICE,), (), PODS, NODES, covered=frozenset({"services", "pods", "nodes"})),
    )
    packet = Packet(6, ip("203.0.113.9"), ip(dst), None, 80)
    flow = Flow("x", "client", "outside", "n1", packet, kind=kind, stand_ins=((ip("192.0.2.1"), "node/n2"),))
    return Surroundings(world, flow)


def test_a_pod_that_is_over_has_given_its_address_back() -> None:
    found = around().pod_by_ip
    assert found[ip("10.244.1.5")].name == "web"
    assert ip("10.244.1.9") not in found


def test_objects_and_stand_ins_tell_addresses_where_no_dump_does() -> None:
    netns = around().netns
    assert netns["n2"].is_local(ip("192.168.10.6")) is True
    assert netns["n2"].is_local(ip("192.0.2.1")) is True
    assert netns["n2"].is_local(ip("10.96.5.5")) is False
    assert netns["n2"].is_local(ip("203.0.113.9")) is None


def test_a_node_without_dumps_owns_what_its_object_says() -> None:
    assert around().owner_by_objects(ip("10.244.3.77")) == "n3"
    assert around().owner_by_objects(ip("192.168.10.7")) == "n3"
    assert around().owner_by_objects(ip("10.244.2.77")) is None, "n2 has dumps: they decide"


def test_addresses_that_only_the_cluster_knows() -> None:
    here = around()
    assert here.is_service_address(ip("192.0.2.80"))
    assert not here.is_service_address(ip("10.244.1.5"))
    assert here.only_inside(ip("10.96.5.5"))
    assert here.only_inside(ip("10.96.77.77")), "in the range of ClusterIPs, and nobody's"
    assert not here.only_inside(ip("192.0.2.80")), "a load balancer's address is known outside"
    assert not here.only_inside(ip("10.244.1.5"))
    assert around("clusterip", "172.30.0.1").only_inside(ip("172.30.0.1"))


def test_nodes_that_route_pods_themselves() -> None:
    assert not around().nodes_route_pods(4)
    default = Route(ip_network("0.0.0.0/0"), "unicast", (NextHop("eth0", ip("192.168.10.1")),))
    assert not around(routes=(default,)).nodes_route_pods(4)
    world = around()
    there = Route(ip_network("10.244.1.0/24"), "unicast", (NextHop("eth0", ip("192.168.10.5")),))
    other = Surroundings(
        World({"n2": Node("n2", routes=(there,))}, world.cluster),
        Flow("x", "client", "outside", "n2", Packet(6, ip("203.0.113.9"), ip("10.96.5.5"), None, 80)),
    )
    assert other.nodes_route_pods(4)


def test_the_pod_of_a_host_port_by_endpoint_then_by_declared_port() -> None:
    here = around()
    assert (
        here.host_pod(here.netns["n2"], Packet(6, ip("1.1.1.1"), ip("192.168.10.6"), 1, 9100)) == "kube-system/exporter"
    )
    assert here.host_pod(here.netns["n1"], Packet(6, ip("1.1.1.1"), ip("192.168.10.5"), 1, 9100)) is None
    named = Endpoint("default", "k", "", 6, ip("192.168.10.5"), 6443, pod="kube-system/api")
    there = Surroundings(
        World({"n1": Node("n1")}, Cluster(endpoints=(named,))),
        Flow("x", "client", "outside", "n1", Packet(6, ip("1.1.1.1"), ip("192.168.10.5"), 1, 6443)),
    )
    assert there.host_pod(there.netns["n1"], Packet(6, ip("1.1.1.1"), ip("192.168.10.5"), 1, 6443)) == "kube-system/api"


def test_the_world_that_reaches_nodes_reaches_what_is_in_their_network() -> None:
    def reached(dst: str, src: str = "203.0.113.9") -> bool:
        found = around()
        return found.reaches_network(found.netns["n1"], Packet(6, ip(src), ip(dst), None, 80))

    assert reached("192.168.10.77")
    assert not reached("10.244.1.5")
    assert not reached("192.168.11.1")
    bridge = around()
    node = Node("n1", addresses=(Address("cni0", ip("10.244.1.1"), 24, "global"),))
    netns = Netns(node, [], [])
    assert not bridge.reaches_network(netns, Packet(6, ip("203.0.113.9"), ip("10.244.1.5"), None, 80))
    assert bridge.reaches_network(netns, Packet(6, ip("10.244.1.9"), ip("10.244.1.5"), None, 80))


def seen_by_one_node(*covered: str) -> Surroundings:
    """n1 with its dumps; of other nodes' pods EndpointSlices tell, and no list of pods where it is not covered."""
    ends = (
        Endpoint("default", "web", "", 6, ip("10.244.3.5"), 80, "n3", "default/web-3"),
        Endpoint("default", "api", "", 6, ip("192.168.10.7"), 6443, "n3", "kube-system/api"),
        Endpoint("default", "out", "", 6, ip("10.244.3.8"), 80, "n3"),
    )
    there = Route(ip_network("10.244.3.0/24"), "unicast", (NextHop("eth0", ip("192.168.10.7")),))
    world = World(
        {"n1": Node("n1", routes=(there,))}, Cluster((SERVICE,), ends, PODS[:1], NODES, covered=frozenset(covered))
    )
    return Surroundings(
        world, Flow("x", "client", "outside", "n1", Packet(6, ip("203.0.113.9"), ip("10.96.5.5"), None, 80))
    )


def test_endpoints_are_pods_where_no_list_has_all_of_these() -> None:
    some, all_ = seen_by_one_node("services", "endpoints"), seen_by_one_node("services", "endpoints", "pods")
    assert str(some.pod_by_ip[ip("10.244.3.5")].name) == "web-3"
    assert some.pod_by_ip[ip("10.244.3.5")].node == "n3"
    assert ip("192.168.10.7") not in some.pod_by_ip, "it is the node's own address"
    assert set(all_.pod_by_ip) == {ip("10.244.1.5")}
    assert some.nodes_route_pods(4)
    assert not all_.nodes_route_pods(4), "no pod of another node is known"


def test_whether_a_pod_may_have_an_address() -> None:
    stale = ip("10.244.3.99")
    assert seen_by_one_node("services", "endpoints", "pods").may_be_a_pod(stale) is False
    assert seen_by_one_node("services", "endpoints").may_be_a_pod(stale) is None
    assert seen_by_one_node("services").may_be_a_pod(stale) is True
    assert seen_by_one_node("services", "endpoints", "pods").may_be_a_pod(ip("10.244.3.8")) is True, "it is an endpoint"
    assert seen_by_one_node().is_address_of("n3", ip("192.168.10.7"))
    assert not seen_by_one_node().is_address_of("n2", ip("192.168.10.7"))
