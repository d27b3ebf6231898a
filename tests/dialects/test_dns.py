"""What a pod asks of DNS: its resolv.conf as kubelet writes it, the names in order, and the packet to the nameserver."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, journey, snapshot
from netk8s.dialects._parts import dns
from netk8s.dialects._parts.dns import Resolver
from netk8s.errors import NotFound, UsageError
from netk8s.model import UDP, Ask, ConfigMap, DnsConfig, Pod, World


@pytest.fixture(scope="module")
def recorded(corpus: Path) -> World:
    return dialects.complete(decode.decode(snapshot.read([str(corpus / "iptables-nft-matrix")])))


def some_pod(world: World) -> Pod:
    serving = {e.ip for e in world.cluster.endpoints}
    return next(p for p in world.cluster.pods if not p.host_network and p.ips and p.ips[0] not in serving)


def with_pod(world: World, **changed: object) -> tuple[World, str]:
    """The world with one of its pods changed, and what to say behind --from."""
    pod = some_pod(world)
    pods = tuple(replace(p, **changed) if p is pod else p for p in world.cluster.pods)  # type: ignore[arg-type]
    return replace(world, cluster=replace(world.cluster, pods=pods)), f"pod/{pod.namespace}/{pod.name}"


def notes(world: World, source: str, name: str | None = None) -> tuple[str, ...]:
    return journey.answer(world, Ask("dns", source=source, name=name)).notes


def test_the_query_goes_to_the_cluster_s_dns_and_its_endpoints(recorded: World) -> None:
    world, source = with_pod(recorded)
    service = next(s for s in world.cluster.services if s.service == "kube-dns" and s.protocol == UDP)
    report = journey.answer(world, Ask("dns", source=source))
    packet = report.trace.flow.packet
    assert (packet.dst, packet.dport, packet.protocol) == (service.cluster_ips[0], 53, UDP)
    ready = {
        (e.ip, e.port) for e in world.cluster.endpoints if e.service == "kube-dns" and e.ready and e.protocol == UDP
    }
    assert {(o.reached.ip, o.reached.port) for o in report.trace.outcomes if o.reached} == ready
    assert any("clusterDNS is the ClusterIP of kube-system/kube-dns" in text for text in report.trace.assumptions)
    assert "ndots 5" in report.notes[0]
    assert journey.answer(world, Ask("dns", source=source, protocol="tcp")).trace.flow.packet.protocol == 6


def test_a_name_is_searched_before_it_is_asked_as_it_is(recorded: World) -> None:
    world, source = with_pod(recorded, namespace="default")
    kubernetes = next(s for s in world.cluster.services if s.service == "kubernetes")
    said = notes(world, source, "kubernetes")
    assert "asked in order, each for A and AAAA: kubernetes.default.svc.cluster.local., " in said[1]
    assert (
        said[2] == f"kubernetes.default.svc.cluster.local. is the first that is answered: {kubernetes.cluster_ips[0]}"
    )
    said = notes(world, source, "kube-dns.kube-system")
    assert "is the first that is answered after 1 that do not exist" in said[2]
    said = notes(world, source, "www.example.org")
    assert said[1].endswith("cluster.local., www.example.org.")
    assert "www.example.org. is for the upstream resolver" in said[2]
    said = notes(world, source, "nothing.default.svc.cluster.local.")
    assert said[1:] == (
        "asked in order, each for A and AAAA: nothing.default.svc.cluster.local.",
        "no Service of that name is there: the answer is NXDOMAIN",
    )


@pytest.mark.parametrize(
    ("name", "ndots", "asked"),
    [
        ("a", 5, ["a.x.", "a.y.", "a."]),
        ("a.b", 1, ["a.b.", "a.b.x.", "a.b.y."]),
        ("a.b", 2, ["a.b.x.", "a.b.y.", "a.b."]),
        ("a.b.", 5, ["a.b."]),
    ],
)
def test_names_in_order(name: str, ndots: int, asked: list[str]) -> None:
    """resolv.conf(5): as it is first with at least ndots dots, else last; a trailing dot ends it."""
    assert list(dns.queries(name, Resolver(("10.0.0.1",), ("x", "y"), ndots, False))) == asked


def test_a_pod_s_own_settings(recorded: World) -> None:
    own = DnsConfig(("10.9.9.9",), ("corp.example",), (("ndots", "2"), ("edns0", "")))
    world, source = with_pod(recorded, dns_policy="None", dns=own)
    report = journey.answer(world, Ask("dns", source=source))
    assert str(report.trace.flow.packet.dst) == "10.9.9.9"
    assert report.notes == ("dnsPolicy None: nameserver 10.9.9.9, search corp.example, ndots 2",)
    world, source = with_pod(recorded, dns=own)
    report = journey.answer(world, Ask("dns", source=source))
    # Both servers are asked about; the second one only counts when the first is silent.
    assert [leg.besides for leg in report.legs] == [False, True]
    assert report.notes[0].endswith("svc.cluster.local cluster.local corp.example, ndots 2")


def test_the_node_s_own_file_is_in_no_dump(recorded: World) -> None:
    for changed in ({"dns_policy": "Default"}, {"host_network": True}):
        world, source = with_pod(recorded, **changed)
        with pytest.raises(NotFound, match=r"/etc/resolv\.conf of .*, which no dump has"):
            journey.answer(world, Ask("dns", source=source))
    world, source = with_pod(recorded, dns_policy="ClusterFirstWithHostNet", host_network=True)
    assert journey.answer(world, Ask("dns", source=source)).trace.flow.packet.dport == 53


def test_the_domain_is_coredns_own(recorded: World) -> None:
    corefile = ".:53 {\n    errors\n    kubernetes corp.internal in-addr.arpa ip6.arpa {\n    }\n}\n"
    world, source = with_pod(recorded, namespace="default")
    maps = (ConfigMap("kube-system", "coredns", (("Corefile", corefile),)),)
    world = replace(world, cluster=replace(world.cluster, config_maps=maps))
    assert "search default.svc.corp.internal svc.corp.internal corp.internal" in notes(world, source)[0]


def test_headless_and_external_names_are_answered_with_what_they_stand_for(recorded: World) -> None:
    world, source = with_pod(recorded, namespace="default")
    ready = {str(e.ip) for e in world.cluster.endpoints if e.service == "headless" and e.ready}
    answer = notes(world, source, "headless")[2]
    assert all(ip in answer for ip in ready)


def test_bad_words(recorded: World) -> None:
    with pytest.raises(UsageError, match="--from pod/NAMESPACE/NAME"):
        journey.answer(recorded, Ask("dns", source="client"))
    _, source = with_pod(recorded)
    with pytest.raises(UsageError, match="is no DNS name"):
        journey.answer(recorded, Ask("dns", source=source, name="a b"))
    with pytest.raises(NotFound, match="pod default/nobody"):
        journey.answer(recorded, Ask("dns", source="pod/default/nobody"))
    without = replace(recorded, cluster=replace(recorded.cluster, services=()))
    with pytest.raises(NotFound, match="no Service of the dumps is called"):
        journey.answer(without, Ask("dns", source=source))


def test_a_node_s_cache_in_ipvs_mode_has_its_own_address(corpus: Path) -> None:
    world = dialects.complete(decode.decode(snapshot.read([str(corpus / "ipvs-rr-matrix")])))
    pod = some_pod(world)
    node = world.nodes[pod.node or ""]
    cache = replace(node.addresses[0], ip=ip_address(dns.NODE_CACHE))
    nodes = {**world.nodes, node.name: replace(node, addresses=(*node.addresses, cache))}
    assumed: list[str] = []
    found = dns.resolver_of(replace(world, nodes=nodes), pod, "cluster.local", None, assumed)
    assert found.nameservers == (dns.NODE_CACHE,)
    assert "NodeLocal DNSCache" in assumed[0]
