"""What is asked of a cluster, which node stands for which, and what an answer is reduced to."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, snapshot, survey
from netk8s.model import ClusterNode, Dump, Neighbour, Node, Pod, Route, Snapshot, World
from netk8s.survey import Ground, Question
from netk8s.survey._questions import IN_RANGE, ITSELF, LOCALHOST, NODE, OTHER_NODE, OTHER_POD, OUTSIDE, POD, PRIMARY

MATRIX = "iptables-nft-matrix"


@functools.cache
def ground(corpus: Path, case: str = MATRIX) -> Ground:
    return Ground.of(dialects.complete(decode.decode(snapshot.read([str(corpus / case)]))))


def asked(here: Ground, service: str) -> list[Question]:
    keys = [port.key for port in here.ports if port.service == service]
    return [q for q in survey.questions([here], keys) if q.port.service == service]


def test_every_port_and_address_is_asked_about(corpus: Path) -> None:
    here = ground(corpus)
    wanted = set()
    for s in here.world.cluster.services:
        full = f"{s.namespace}/{s.service}"
        wanted |= {(full, s.name, s.port, ip) for ip in (*s.cluster_ips, *s.lb_ips, *s.lb_ips_proxy, *s.external_ips)}
        wanted |= {(full, s.name, s.node_port, None)} if s.node_port else set()
    found = {(q.port.service, q.port.name, q.dialled.port, q.dialled.ip) for q in survey.questions([here])}
    assert {each for each in found if each[0] != "(no Service)"} == wanted


def test_every_kind_of_client_dials_a_nodeport(corpus: Path) -> None:
    """Of nodes with an endpoint one is dialled, of those without one too, by all others alike once."""
    found = [q for q in asked(ground(corpus), "default/nginx") if q.dialled.kind == "NodePort"]
    primary = Counter((q.at.node, q.client) for q in found if q.address == PRIMARY and q.at)
    assert primary == {
        ("k8s-node1", OUTSIDE): 1, ("k8s-node1", NODE): 1, ("k8s-node1", POD): 1, ("k8s-node1", OTHER_NODE): 2,
        ("k8s-node1", OTHER_POD): 2, ("k8s-node1", ITSELF): 1,
        ("k8s-master", OUTSIDE): 1, ("k8s-master", NODE): 1, ("k8s-master", POD): 1, ("k8s-master", OTHER_NODE): 1,
        ("k8s-master", OTHER_POD): 1, ("k8s-master", ITSELF): 1,
    }  # fmt: skip
    assert {q.at.stands_for for q in found if q.at and q.at.node == "k8s-node1"} == {("k8s-node2",)}
    assert Counter(q.client for q in found if q.address == LOCALHOST) == {NODE: 2}
    assert {q.address for q in found} == {PRIMARY, LOCALHOST, "another address (cni0)"}


def test_an_endpoint_dials_itself_as_the_pod_it_is(corpus: Path) -> None:
    here = ground(corpus)
    for q in survey.questions([here]):
        places = {f"pod/{place.pod}" for place in q.port.endpoints}
        assert (q.ask.source in places) == (q.client == ITSELF), q.ask


def test_source_ranges_have_a_client_inside(corpus: Path) -> None:
    found = [q for q in asked(ground(corpus), "default/lb-ranges") if q.client == IN_RANGE]
    assert found
    assert {q.dialled.kind for q in found} == {"LoadBalancer"}
    for q in found:
        assert ip_address(q.ask.source or "") in ip_network("192.168.52.0/24")
        taken = {a.ip for node in ground(corpus).world.nodes.values() for a in node.addresses}
        assert ip_address(q.ask.source or "") not in taken


def test_host_ports_are_asked_about(corpus: Path) -> None:
    here = ground(corpus, "iptables-nft-portmap-hostport")
    found = [q for q in survey.questions([here]) if q.dialled.kind == "hostPort"]
    assert found
    assert {q.at.node for q in found if q.at} == {port.node for port in here.ports if port.node}
    assert {OUTSIDE, NODE, POD, ITSELF, OTHER_NODE} <= {q.client for q in found}


def test_both_families_are_asked_about(corpus: Path) -> None:
    here = ground(corpus, "iptables-nft-dual-stack")
    targets = {q.ask.target.startswith("[") for q in survey.questions([here]) if q.dialled.kind == "NodePort"}
    assert targets == {True, False}


@pytest.mark.parametrize("count", [4, 40])
def test_the_number_of_questions_does_not_grow_with_alike_nodes(corpus: Path, count: int) -> None:
    """Nodes without endpoints, each with its own name, address and pods, all like k8s-master."""
    few = ground(corpus, "headline-nodeport-30000")
    world = few.world
    node, item = world.nodes["k8s-master"], next(n for n in world.cluster.nodes if n.name == "k8s-master")
    nodes, items = dict(world.nodes), list(world.cluster.nodes)
    before = len(list(survey.questions([few])))
    for number in range(count):
        name, net = f"extra-{number}", ip_network(f"10.244.{100 + number}.0/24")
        moved = {item.pod_cidrs[0]: net}
        addresses = tuple(
            replace(a, ip=net[1]) if a.ip in item.pod_cidrs[0] else
            replace(a, ip=ip_address(f"192.168.52.{100 + number}")) if str(a.ip) == "192.168.52.200" else a
            for a in node.addresses
        )  # fmt: skip
        text = "".join(
            f"*{t.name}\n" + "".join(f":{c.name} {c.policy or '-'} [0:0]\n" for c in t.chains.values())
            + "".join(f"{rule.raw}\n" for c in t.chains.values() for rule in c.rules) + "COMMIT\n"
            for t in node.tables if t.family == 4
        ).replace("10.244.0.", f"10.244.{100 + number}.").replace(f"10.244.{100 + number}.0/16", "10.244.0.0/16")  # fmt: skip
        tables = decode.decode(Snapshot((Dump("nodes/x/iptables-save.txt", text.encode(), name),))).nodes[name].tables
        tables = tuple(replace(t, backend="nft") for t in tables)
        routes = tuple(
            replace(r, dst=moved.get(r.dst, r.dst), prefsrc=net[1] if r.prefsrc and r.prefsrc in item.pod_cidrs[0] else r.prefsrc)
            for r in node.routes if (r.table == "main" and r.prefsrc is None) or r.dst in moved
        )  # fmt: skip
        nodes[name] = replace(
            node, name=name, addresses=addresses, routes=routes, nft=(), covered=node.covered, tables=tables
        )
        items.append(ClusterNode(name, (("InternalIP", f"192.168.52.{100 + number}"),), (net,)))
    cluster = replace(world.cluster, nodes=tuple(items))
    grown = Ground.of(replace(world, nodes=nodes, cluster=cluster))
    after = list(survey.questions([grown]))
    # The copies lack what their originals have as nftables: one more kind of node, not one per node.
    assert len(after) < 2.2 * before
    stood = {name for q in after for stop in (q.at, q.sender) if stop for name in stop.stands_for}
    assert len([name for name in stood if name.startswith("extra-")]) >= count - 1


def without_a_default_route(node: Node, world: World) -> Node:
    del world
    gone = Route(ip_network("0.0.0.0/0"), "blackhole", ())
    return replace(node, routes=(*(r for r in node.routes if r.dst.prefixlen or r.dst.version == 6), gone))


def without_carrier(node: Node, world: World) -> Node:
    del world
    return replace(node, links=tuple(replace(x, state="DOWN") if x.name == "ens33" else x for x in node.links))


def with_a_silent_pod(node: Node, world: World) -> Node:
    ip = next(e.ip for e in world.cluster.endpoints if e.node == node.name and e.ip.version == 4)
    return replace(node, neighbours=(Neighbour(ip, "cni0", None, ("FAILED",)),))


@pytest.mark.parametrize("change", [without_a_default_route, without_carrier, with_a_silent_pod])
def test_a_node_that_differs_stands_for_itself(corpus: Path, change: Callable[[Node, World], Node]) -> None:
    here = ground(corpus, "headline-nodeport-30000")
    nodes = {**here.world.nodes, "k8s-node2": change(here.world.nodes["k8s-node2"], here.world)}
    assert nodes["k8s-node2"] != here.world.nodes["k8s-node2"]
    changed = Ground.of(replace(here.world, nodes=nodes))
    found = [q for q in asked(changed, "default/nginx") if q.dialled.kind == "NodePort" and q.address == PRIMARY]
    assert {q.at.node for q in found if q.at} == {"k8s-master", "k8s-node1", "k8s-node2"}
    assert {q.at.stands_for for q in found if q.at} == {()}


def test_rules_alone_are_enough(corpus: Path) -> None:
    path = corpus / "headline-nodeport-30000" / "nodes" / "k8s-node1" / "iptables-save.txt"
    world = dialects.complete(decode.decode(snapshot.read([str(path)], node="n")))
    here = Ground.of(world)
    assert {port.service for port in here.ports} == {"default/nginx", "default/kubernetes"}
    found = [(q, survey.answer(here, q)[0]) for q in survey.questions([here])]
    assert {q.dialled.kind for q, _ in found} == {"NodePort", "ClusterIP"}
    assert {q.client for q, _ in found} >= {OUTSIDE, NODE, POD}
    (outside,) = [a for q, a in found if q.client == OUTSIDE and q.dialled.port == 30000]
    assert {str(r.ip) for r in outside.results if r.ip} <= {"10.244.1.5", "10.244.1.6", "10.244.2.5"}


def test_an_answer_is_reduced_to_what_can_be_compared(corpus: Path) -> None:
    here = ground(corpus, "headline-nodeport-30000")
    (question,) = [
        q for q in asked(here, "default/nginx")
        if q.client == OUTSIDE and q.dialled.kind == "NodePort" and q.at and q.at.beside and q.address == PRIMARY
    ]  # fmt: skip
    answer, trace = survey.answer(here, question)
    assert trace.outcomes
    assert answer.verdicts == {"delivered"}
    assert {(str(ip), port) for ip, port in answer.endpoints} == {
        ("10.244.1.5", 80), ("10.244.1.6", 80), ("10.244.2.5", 80),
    }  # fmt: skip
    assert [r.odds for r in answer.results] == [Fraction(1, 3)] * 3
    assert {r.seen for r in answer.results} == {"cni0 of the first node, the endpoint's", "ens33 of the first node"}
    assert answer.because[0].text == "Service default/nginx: traffic from outside"
    assert answer.because[0].at.startswith("nodes/k8s-node1/iptables-save.txt:")


def test_pods_that_are_over_dial_nothing(corpus: Path) -> None:
    here = ground(corpus, "headline-nodeport-30000")
    over = tuple(
        replace(pod, phase="Succeeded") if isinstance(pod, Pod) and pod.name.startswith("toolbox") else pod
        for pod in here.world.cluster.pods
    )
    changed: World = replace(here.world, cluster=replace(here.world.cluster, pods=over))
    sources = {q.ask.source for q in survey.questions([Ground.of(changed)])}
    assert not any(source and "toolbox" in source for source in sources)
