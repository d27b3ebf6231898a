"""What each node is told of the other nodes' pods."""

from __future__ import annotations

from ipaddress import ip_address as ip

import pytest
from msgspec.structs import replace

from netk8s import elsewhere
from netk8s.decode import elsewhere as read
from netk8s.model import (
    TCP,
    Cluster,
    Dump,
    Elsewhere,
    Endpoint,
    NetworkPolicy,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
)

HTTP = ("http", 8080, TCP, None, "")
ADMIN = ("admin", 9090, TCP, 9090, "")


def pod(name: str, node: str, host: int, **labels: str) -> Pod:
    ports = (HTTP, ADMIN) if name.startswith("web") else ()
    address = ip(f"10.244.{node[1:]}.{host}")
    return Pod("shop", name, node, (address,), ports=ports, labels=tuple(sorted(labels.items())))


PODS = (
    pod("web-1", "n1", 5, app="web", hash="1"),
    pod("web-2", "n2", 5, app="web", hash="2"),
    pod("front", "n1", 6, app="front", hash="3"),
    pod("job", "n1", 7, app="job"),
    replace(pod("over", "n1", 8), phase="Succeeded"),
    replace(pod("host", "n2", 9), host_network=True),
)
ENDS = tuple(Endpoint("shop", "web", "", TCP, p.ips[0], 8080, p.node, f"shop/{p.name}") for p in PODS[:2])
WEB, FRONT = (Requirement("app", "In", (name,)) for name in ("web", "front"))
CLUSTER = Cluster(endpoints=ENDS, pods=PODS, covered=frozenset({"pods", "endpoints"}))


def policed(*policies: NetworkPolicy) -> Elsewhere:
    found = elsewhere.of(replace(CLUSTER, policies=policies))
    assert found is not None
    return found


def test_addresses_of_pods_that_are_no_endpoints() -> None:
    assert policed().addresses == {ip("10.244.1.6"), ip("10.244.1.7")}


def test_nothing_where_not_all_pods_are_listed() -> None:
    assert elsewhere.of(replace(CLUSTER, covered=frozenset({"endpoints"}))) is None


def test_a_client_of_each_node_that_serves_nothing_if_there_is_one() -> None:
    assert [(p.name, p.node) for p in policed().clients] == [("front", "n1"), ("web-2", "n2")]
    assert policed().peers == ()
    assert all(p.labels == () and p.ports == () for p in policed().clients), "without policies nobody asks for labels"


def test_labels_and_ports_are_those_that_policies_ask_for() -> None:
    to_web = PolicyRule((PolicyPeer(pods=(WEB,)),), (PolicyPort(TCP, "http"),))
    found = policed(NetworkPolicy("shop", "out", (FRONT,), ("egress",), egress=(to_web,)))
    (web,) = found.peers
    assert (web.name, web.ips, web.labels, web.ports) == ("", (ip("10.244.1.5"),), (("app", "web"),), (HTTP,))
    assert [(p.name, p.labels) for p in found.clients] == [("front", (("app", "front"),)), ("web-2", (("app", "web"),))]


def test_who_is_sent_to_matters_to_egress_rules_with_selectors_alone() -> None:
    from_front = PolicyRule((PolicyPeer(pods=(FRONT,)),))
    assert policed(NetworkPolicy("shop", "in", (WEB,), ("ingress",), ingress=(from_front,))).peers == ()
    anywhere = PolicyRule(None, (PolicyPort(TCP, 80),))
    assert policed(NetworkPolicy("shop", "out", (FRONT,), ("egress",), egress=(anywhere,))).peers == ()


def test_policies_that_select_nobody() -> None:
    nobody = (Requirement("app", "In", ("wbe",)),)
    found = policed(NetworkPolicy("shop", "typo", nobody, ("ingress",)), NetworkPolicy("shop", "all", (), ("ingress",)))
    assert found.idle == ("shop/typo",)


def test_much_of_it_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    found = policed(NetworkPolicy("shop", "typo", (Requirement("app", "In", ("wbe",)),), ("ingress",)))
    assert elsewhere.texts(found) == [elsewhere.text(found)]
    monkeypatch.setattr(elsewhere, "SPLIT_FROM", 1)
    parts = [fact for text in elsewhere.texts(found) for fact in read.decode(Dump("x", text))]
    assert len(parts) == elsewhere.PIECES + 1
    there = [part for part in parts if isinstance(part, Elsewhere)]
    assert frozenset().union(*(part.addresses for part in there)) == found.addresses
    assert sorted(pod.name for part in there for pod in part.clients) == ["front", "web-2"]
    assert [name for part in there for name in part.idle] == ["shop/typo"]
