"""Services in kube-proxy's nftables tables, in the layouts up to 1.35 and from 1.36 on."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path

import pytest

from netk8s import decode, dialects, snapshot
from netk8s.dialects import kube_proxy_nftables as kube_proxy
from netk8s.dialects.kube_proxy_nftables import Named
from netk8s.model import Ask, Cluster, Dump, Node, Programmed, ServicePort, Snapshot, Step, World
from netk8s.trace import trace

A = ip_address

HEAD = """table ip kube-proxy {
	set nodeport-ips {
		type ipv4_addr
		elements = { 192.0.2.5 }
	}

	set cluster-ips {
		type ipv4_addr
		elements = { 10.96.0.7, 10.96.0.8 }
	}

	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.7 . tcp . 80 : goto service-AAAAAAAA-ns/web/tcp/http, 203.0.113.9 . tcp . 80 : goto external-AAAAAAAA-ns/web/tcp/http }
	}

	map service-nodeports {
		type inet_proto . inet_service : verdict
		elements = { tcp . 30080 : goto external-AAAAAAAA-ns/web/tcp/http }
	}

	map no-endpoint-services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.8 . udp . 53 comment "ns/empty:dns" : goto reject-chain, 203.0.113.8 . udp . 53 comment "ns/empty" : drop }
	}

	chain nat-prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		jump services
	}

	chain nat-postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		jump masquerading
	}

	chain reject-chain {
		reject
	}
"""
OLD = (
    HEAD
    + """
	set affinity-BBBBBBBB-ns/web/tcp/http__10.244.1.3/8080 {
		type ipv4_addr
		size 65535
		flags dynamic,timeout
		timeout 3h
	}

	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}

	chain masquerading {
		meta mark & 0x00004000 == 0x00000000 return
		meta mark set meta mark ^ 0x00004000
		masquerade fully-random
	}

	chain mark-for-masquerade {
		meta mark set meta mark | 0x00004000
	}

	chain endpoint-BBBBBBBB-ns/web/tcp/http__10.244.1.3/8080 {
		ip saddr 10.244.1.3 jump mark-for-masquerade
		update @affinity-BBBBBBBB-ns/web/tcp/http__10.244.1.3/8080 { ip saddr }
		meta l4proto tcp dnat to 10.244.1.3:8080
	}

	chain endpoint-CCCCCCCC-ns/web/tcp/http__10.244.2.3/8080 {
		meta l4proto tcp dnat to 10.244.2.3:8080
	}

	chain service-AAAAAAAA-ns/web/tcp/http {
		ip daddr 10.96.0.7 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
		ip saddr @affinity-BBBBBBBB-ns/web/tcp/http__10.244.1.3/8080 goto endpoint-BBBBBBBB-ns/web/tcp/http__10.244.1.3/8080
		numgen random mod 2 vmap { 0 : goto endpoint-BBBBBBBB-ns/web/tcp/http__10.244.1.3/8080, 1 : goto endpoint-CCCCCCCC-ns/web/tcp/http__10.244.2.3/8080 }
	}

	chain external-AAAAAAAA-ns/web/tcp/http {
		jump mark-for-masquerade
		goto service-AAAAAAAA-ns/web/tcp/http
	}
}
"""
)
NEW = (
    HEAD
    + """
	chain services {
		ip daddr @cluster-ips ip saddr != 10.244.0.0/16 meta mark set meta mark | 0x00004000 comment "masquerade clusterIP traffic from outside cluster"
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}

	chain masquerading {
		meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random
	}

	chain service-AAAAAAAA-ns/web/tcp/http {
		meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.1.3 . 8080, 1 : 10.244.2.3 . 8080 }
	}

	chain local-AAAAAAAA-ns/web/tcp/http {
		meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.244.1.3 . 8080 }
	}

	chain external-AAAAAAAA-ns/web/tcp/http {
		ip saddr 10.244.0.0/16 goto service-AAAAAAAA-ns/web/tcp/http comment "short-circuit pod traffic"
		fib saddr type local meta mark set meta mark | 0x00004000 comment "masquerade local traffic"
		fib saddr type local goto service-AAAAAAAA-ns/web/tcp/http comment "short-circuit local traffic"
		goto local-AAAAAAAA-ns/web/tcp/http
	}
}
"""
)


def world(text: str) -> World:
    return decode.decode(Snapshot((Dump("nft.txt", text.encode(), "n"),)))


def node(text: str) -> Node:
    return world(text).nodes["n"]


def rows(text: str, cluster: Cluster | None = None, **narrow: object) -> dict[tuple[str, str], Programmed]:
    found = kube_proxy.programmed(node(text), cluster or Cluster(), **narrow)  # type: ignore[arg-type]
    return {(p.kind, str(p.ip or p.port)): p for p in found}


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("service-ULMVA6XW-ns1/svc1/tcp/p80", Named("service", "ns1/svc1", 6, "p80")),
        ("external-XH3O5YES-default/lb/sctp/", Named("external", "default/lb", 132, "")),
        (
            "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80",
            Named("endpoint", "ns1/svc1", 6, "p80", A("10.180.0.1"), 80),
        ),
        ("endpoint-5OJB2KTY-ns1/svc1/udp/__fd00..1/53", Named("endpoint", "ns1/svc1", 17, "", A("fd00::1"), 53)),
        ("endpoint-5OJB2KTY-ns1/svc1/udp/__fd00.1..7/53", Named("endpoint", "ns1/svc1", 17, "", A("fd00:1::7"), 53)),
        ("mark-for-masquerade", None),
        ("service-ips", None),
    ],
)
def test_chain_names(chain: str, expected: Named | None) -> None:
    assert kube_proxy.named(chain) == expected


@pytest.mark.parametrize("text", [OLD, NEW], ids=["1.35", "1.36"])
def test_what_is_programmed(text: str) -> None:
    found = rows(text)
    cluster_ip = found["ClusterIP", "10.96.0.7"]
    assert (cluster_ip.service, cluster_ip.port_name, cluster_ip.protocol, cluster_ip.port) == ("ns/web", "http", 6, 80)
    assert [(str(b.ip), b.port, b.odds) for b in cluster_ip.backends] == [
        ("10.244.1.3", 8080, Fraction(1, 2)),
        ("10.244.2.3", 8080, Fraction(1, 2)),
    ]
    assert cluster_ip.affinity is (text is OLD)
    # Local policy: what comes from outside goes to the endpoints of the node alone.
    outside = found["NodePort", "30080"]
    assert [b.odds for b in outside.backends] == ([Fraction(1, 2)] * 2 if text is OLD else [Fraction(1)])
    assert found["External", "203.0.113.9"].chain == "external-AAAAAAAA-ns/web/tcp/http"
    empty = found["ClusterIP", "10.96.0.8"]
    assert (empty.service, empty.port_name, empty.verdict, empty.backends) == ("ns/empty", "dns", "REJECT", ())
    assert found["External", "203.0.113.8"].verdict == "DROP"


def test_the_search_can_be_narrowed() -> None:
    assert set(rows(NEW, mention="ns/web")) == {
        ("ClusterIP", "10.96.0.7"), ("External", "203.0.113.9"), ("NodePort", "30080"),
    }  # fmt: skip
    assert set(rows(NEW, mention="-d 10.96.0.7/")) == {("ClusterIP", "10.96.0.7")}
    assert set(rows(NEW, node_port=30080)) == {("NodePort", "30080")}


def test_objects_tell_an_external_ip_from_a_load_balancer() -> None:
    service = ServicePort("ns", "web", "http", 6, 80, "8080", 30080, "NodePort", (A("10.96.0.7"),), (A("203.0.113.9"),))
    assert ("ExternalIP", "203.0.113.9") in rows(NEW, Cluster(services=(service,)))


def test_the_pods_network_and_the_nodes_address() -> None:
    for text in (OLD, NEW):
        assert kube_proxy.pod_network(node(text), 4) == "10.244.0.0/16"
        assert kube_proxy.pod_network(node(text), 6) is None
        assert list(kube_proxy.node_addresses(node(text))) == [A("192.0.2.5")]


def test_other_tables_are_not_kube_proxys() -> None:
    assert not rows(NEW.replace("table ip kube-proxy", "table ip other"))


@pytest.mark.parametrize("text", [OLD, NEW], ids=["1.35", "1.36"])
def test_a_service_resolves_by_name_and_its_steps_are_explained(text: str) -> None:
    here = world(text)
    flow = dialects.resolve(here, Ask("svc/ns/web", port="30080"))
    assert str(flow.packet.dst) == "192.0.2.5"
    found = dialects.label(here, trace(here, flow))
    delivered = {str(o.reached.ip) for o in found.outcomes if o.reached is not None}
    assert delivered == ({"10.244.1.3", "10.244.2.3"} if text is OLD else {"10.244.1.3"})
    means = [step.means for hop in found.ways[0].hops for step in hop.steps]
    assert "Service lookup" in means
    assert "Service ns/web:http: traffic from outside" in means
    assert "the endpoint is the new destination" in means
    if text is OLD:
        assert "masquerade what is marked" in means


def test_only_kube_proxys_steps_are_explained() -> None:
    assert not kube_proxy.means(Step("input", "filter", "INPUT", "-A INPUT -j DROP", None, "DROP"))


@pytest.mark.parametrize("case", ["nftables-matrix", "nftables-matrix-kp136", "nftables-dual-stack-kp136"])
def test_recorded_clusters_program_the_endpoints_of_the_objects(corpus: Path, case: str) -> None:
    """Every ClusterIP with the policy Cluster has, on each node, exactly the ready endpoints of its slices."""
    found = decode.decode(snapshot.read([str(corpus / case)]))
    ready = {
        (f"{e.namespace}/{e.service}", e.port_name, e.protocol, e.ip)
        for e in found.cluster.endpoints
        if e.ready and not e.hints
    }
    checked = 0
    for row in dialects.programmed(found):
        service = next(
            (
                s
                for s in found.cluster.services
                if f"{s.namespace}/{s.service}" == row.service and s.name == row.port_name and row.ip in s.cluster_ips
            ),
            None,
        )
        if service is None or service.internal_policy != "Cluster" or row.verdict or row.ip is None:
            continue
        wanted = {
            ip for name, port, protocol, ip in ready
            if (name, port, protocol) == (row.service, row.port_name, row.protocol) and ip.version == row.ip.version
        }  # fmt: skip
        if wanted:
            assert {b.ip for b in row.backends} == wanted, row
            assert sum((b.odds or 0 for b in row.backends), Fraction(0)) == 1
            checked += 1
    assert checked > 20
