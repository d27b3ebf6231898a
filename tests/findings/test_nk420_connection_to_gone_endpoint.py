"""NK420: A recorded connection goes on to an address that is no endpoint of the Service."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from msgspec.structs import replace

from netk8s import dialects, findings
from netk8s.model import Ask, Neighbour
from netk8s.trace import trace


def test_the_entries_are_the_evidence_and_the_command_names_them(asked: Callable[[str], Any]) -> None:
    answer = asked("NK420/fires-udp")
    (found,) = answer.of("NK420")
    assert found.severity == "warning"
    assert all("dport=53 " in line and "src=10.244.1.99 " in line for line in answer.cited(found))
    assert len(answer.cited(found)) == 2
    command = "conntrack -D -p udp --orig-dst 10.96.53.53 --orig-port-dst 53 --reply-src 10.244.1.99"
    assert command in found.remedy


def test_the_packet_of_such_a_connection_is_not_delivered(asked: Callable[[str], Any]) -> None:
    world = asked("NK420/fires-udp").world
    node = world.nodes["k8s-node1"]
    unanswered = Neighbour(ip_address("10.244.1.99"), "cni0", None, ("FAILED",))
    nobody = replace(node, neighbours=(unanswered,), covered=node.covered | {"neigh"})
    world = replace(world, nodes={**world.nodes, "k8s-node1": nobody})
    flow = dialects.resolve(
        world, Ask("10.96.53.53:53", protocol="udp", source="pod/default/toolbox-k8s-node1", sport=40001)
    )
    walked = dialects.label(world, trace(world, flow))
    found = [f for f in findings.check(world, walked) if f.code == "NK420"]
    assert walked.outcomes[0].verdict != "delivered"
    assert [f.severity for f in found] == ["error"]


def test_a_tcp_connection_to_a_gone_endpoint_is_told_as_information(asked: Callable[[str], Any]) -> None:
    world = asked("NK420/fires-udp").world
    services = tuple(replace(s, protocol=6) for s in world.cluster.services)
    ends = tuple(replace(e, protocol=6) for e in world.cluster.endpoints)
    world = replace(world, cluster=replace(world.cluster, services=services, endpoints=ends))
    flow = dialects.resolve(world, Ask("10.96.53.53:53", source="pod/default/toolbox-k8s-node1"))
    found = [f for f in findings.check(world, trace(world, flow)) if f.code == "NK420"]
    assert [(f.severity, "10.244.1.98" in f.summary) for f in found] == [("info", True)]
