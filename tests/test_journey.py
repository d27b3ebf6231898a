"""A question becomes one trace, or legs whose outcomes are put together."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, journey, snapshot
from netk8s.errors import NotFound, UsageError
from netk8s.model import Ask, Report, World


@pytest.fixture(scope="module")
def matrix(corpus: Path) -> World:
    return dialects.complete(decode.decode(snapshot.read([str(corpus / "nftables-matrix-kp136")])))


@pytest.fixture(scope="module")
def dual(corpus: Path) -> World:
    return dialects.complete(decode.decode(snapshot.read([str(corpus / "iptables-nft-dual-stack")])))


def headless(world: World) -> dict[str, str]:
    """Address and pod of the endpoints of default/headless, by the EndpointSlices."""
    return {str(e.ip): str(e.pod) for e in world.cluster.endpoints if e.service == "headless"}


def delivered(report: Report) -> dict[str, Fraction | None]:
    return {str(o.reached.ip): o.odds for o in report.trace.outcomes if o.verdict == "delivered" and o.reached}


def test_one_packet_is_one_trace_without_legs(matrix: World) -> None:
    report = journey.answer(matrix, Ask("svc/nginx", "80"))
    assert report.legs == report.notes == ()
    assert report.trace.ways


def test_a_headless_service_is_each_of_its_pods_with_equal_odds(matrix: World) -> None:
    pods = headless(matrix)
    assert len(pods) > 1
    report = journey.answer(matrix, Ask("svc/headless", "8080"))
    share = Fraction(1, len(pods))
    assert delivered(report) == dict.fromkeys(pods, share)
    assert [leg.odds for leg in report.legs] == [share] * len(pods)
    assert all(leg.trace.flow.packet.dport == 8080 and not leg.notes for leg in report.legs)
    # Nobody rewrites what goes from pod to pod, and all legs have the same sender.
    assert len({leg.trace.flow.packet.src for leg in report.legs}) == 1
    assert all(o.preserved for o in report.trace.outcomes)
    assert report.trace.ways == ()
    assert any("DNS answers" in text for text in report.trace.assumptions)


def test_nothing_translates_the_port_of_a_headless_service(matrix: World) -> None:
    report = journey.answer(matrix, Ask("svc/headless"))
    assert {leg.trace.flow.packet.dport for leg in report.legs} == {80}
    assert all("port is 8080" in " ".join(leg.notes) for leg in report.legs)


def test_each_family_has_a_trace_of_its_own(dual: World) -> None:
    both = next(s for s in dual.cluster.services if len(s.cluster_ips) == 2)
    target = f"svc/{both.namespace}/{both.service}"
    report = journey.answer(dual, Ask(target, str(both.port), family="both"))
    assert [leg.name for leg in report.legs] == ["IPv4", "IPv6"]
    assert {leg.trace.flow.packet.dst for leg in report.legs} == set(both.cluster_ips)
    # Nothing tells which family a client takes.
    assert report.trace.outcomes
    assert all(o.odds is None for o in report.trace.outcomes)
    for family, ip in zip(("4", "6"), sorted(both.cluster_ips, key=lambda ip: ip.version), strict=True):
        alone = journey.answer(dual, Ask(target, str(both.port), family=family))
        assert alone.legs == ()
        assert alone.trace.flow.packet.dst == ip
    first = journey.answer(dual, Ask(target, str(both.port)))
    assert first.trace.flow.packet.dst == both.cluster_ips[0]


def test_a_target_of_one_family(matrix: World) -> None:
    with pytest.raises(NotFound, match="no IPv6 address"):
        journey.answer(matrix, Ask("svc/nginx", "80", family="6"))
    report = journey.answer(matrix, Ask("svc/nginx", "80", family="both"))
    assert report.legs == ()
    assert "no IPv6 address" in report.notes[0]
    with pytest.raises(UsageError, match="--family"):
        journey.answer(matrix, Ask("10.96.0.1:443", family="6"))


@pytest.mark.parametrize(
    "case", ["iptables-nft-matrix", "iptables-nft-matrix-kp123", "nftables-matrix", "ipvs-rr-matrix"]
)
def test_who_answers_at_a_health_check_port(corpus: Path, case: str) -> None:
    """The recordings connected to it on a node with endpoints and on one without: kube-proxy is a server there."""
    world = dialects.complete(decode.decode(snapshot.read([str(corpus / case)])))
    service = next(s for s in world.cluster.services if s.health_check_node_port)
    port = str(service.health_check_node_port)
    ready = {e.node for e in world.cluster.endpoints if e.service == service.service and e.ready}
    assert ready < set(world.nodes)
    for node in world.nodes:
        report = journey.answer(world, Ask(f"svc/{service.service}", port, via=node))
        assert [o.verdict for o in report.trace.outcomes] == ["delivered"]
        assert report.trace.outcomes[0].reached.node == node
        assert report.trace.outcomes[0].reached.pod is None
        (note,) = report.notes
        assert ("HTTP 200" in note) == (node in ready)
        assert ("HTTP 503" in note) == (node not in ready)
        assert f"kube-proxy on {node}" in note


def test_a_load_balancer_that_is_a_proxy_is_no_rule_of_kube_proxy(matrix: World) -> None:
    ip = next(ip for s in matrix.cluster.services for ip in s.lb_ips_proxy)
    report = journey.answer(matrix, Ask(f"{ip}:80"))
    assert "ipMode Proxy" in report.notes[0]
    assert all(o.verdict != "delivered" for o in report.trace.outcomes)


def test_where_no_rule_decides_the_objects_say_what_is_left(matrix: World) -> None:
    """A node whose datapath is in BPF: nothing is followed there, and the endpoints are still known."""
    opaque = {name: replace(node, opaque="cilium's BPF programs") for name, node in matrix.nodes.items()}
    world = replace(matrix, nodes=opaque)
    ready = {str(e.ip) for e in matrix.cluster.endpoints if e.service == "nginx" and e.ready and e.ip.version == 4}
    report = journey.answer(world, Ask("svc/nginx", "80", source=f"node/{next(iter(opaque))}"))
    assert [o.verdict for o in report.trace.outcomes] == ["unknown"]
    (note,) = [text for text in report.notes if "by the API" in text]
    assert all(f"{ip}:" in note for ip in ready)
    assert not [text for text in journey.answer(matrix, Ask("svc/nginx", "80")).notes if "by the API" in text]
    without = replace(world, cluster=replace(world.cluster, endpoints=()))
    (note,) = journey.answer(without, Ask("svc/nginx", "80")).notes
    assert note == "by the API default/nginx goes to nobody: it has no ready endpoint"
