"""What NetworkPolicies intend, in a cluster like that of the conformance tests: pods a, b, c in namespaces x, y, z.

The cases are those of kubernetes test/e2e/network/netpol/network_policy.go ("e2e: …", by the words of their names), of
the page "Network Policies" of the Kubernetes documentation ("page: …") and of the comments in
staging/src/k8s.io/api/networking/v1/types.go ("types.go: …").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from netk8s import decode, policies
from netk8s.model import (
    ICMP,
    SCTP,
    TCP,
    UDP,
    Cluster,
    Dump,
    Namespace,
    NetworkPolicy,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Snapshot,
)
from netk8s.policies import EGRESS, INGRESS, Intent, Party, intended

PORTS = tuple((f"serve-{n}-{p}", n, number, None, "") for n in (80, 81) for p, number in (("tcp", TCP), ("udp", UDP)))
NODES = {"n1": "192.0.2.11", "n2": "192.0.2.12"}
PODS = {
    f"{ns}/{name}": Pod(
        ns, name, "n1" if name == "a" else "n2", (ip_address(f"10.244.{i}.{j}"),), ports=PORTS, labels=(("pod", name),)
    )
    for i, ns in enumerate("xyz", 1)
    for j, name in enumerate("abc", 1)
}
HOST = Pod("x", "host", "n2", (ip_address(NODES["n2"]),), host_network=True, labels=(("pod", "a"),))
NAMESPACES = tuple(Namespace(ns, ((policies.NAME_LABEL, ns), ("ns", ns))) for ns in "xyz")
OUTSIDE = Party(ip_address("198.51.100.7"))


def party(name: str) -> Party:
    if name in NODES:
        return Party(ip_address(NODES[name]), node=name)
    if name == "x/host":
        return Party(HOST.ips[0], HOST, "n2")
    return Party(PODS[name].ips[0], PODS[name]) if name in PODS else Party(ip_address(name))


def read(*manifests: str) -> tuple[NetworkPolicy, ...]:
    """Policies of namespace x as the API would hand them out, through the decoder."""
    if not manifests:
        return ()
    objects = [yaml.safe_load(text) for text in manifests]
    for i, spec in enumerate(objects):
        metadata = {"name": f"p{i}", "namespace": "x"}
        objects[i] = {
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec,
        }  # fmt: skip
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": objects})
    return decode.decode(Snapshot((Dump("policies.yaml", text.encode()),))).cluster.policies


def cluster(*manifests: str, namespaces: tuple[Namespace, ...] = NAMESPACES) -> Cluster:
    return Cluster(pods=(*PODS.values(), HOST), policies=read(*manifests), namespaces=namespaces)


def connects(
    made: Cluster, source: str, target: str, port: int | None = 80, protocol: int = TCP
) -> tuple[bool | None, bool | None]:
    """(what the sender's policies want, what the receiver's want)."""
    ends = party(source), party(target)
    return (
        intended(made, EGRESS, ends[0], ends[1], protocol, port).allowed,
        intended(made, INGRESS, ends[1], ends[0], protocol, port).allowed,
    )


DENY_INGRESS = "{podSelector: {}, policyTypes: [Ingress]}"
DENY_EGRESS = "{podSelector: {}, policyTypes: [Egress]}"
A = "podSelector: {matchLabels: {pod: a}}"
Allowed = Callable[[str, str], bool]


def to_x_only_from(allowed: Callable[[str], bool]) -> Allowed:
    return lambda source, target: not target.startswith("x/") or source == target or allowed(source)


MATRIX: Sequence[tuple[str, Sequence[str], Allowed]] = [
    ("no policy at all: everything is allowed", [], lambda s, t: True),
    ("e2e: should support a 'default-deny-ingress' policy", [DENY_INGRESS], to_x_only_from(lambda s: False)),
    (
        "e2e: should support a 'default-deny-all' policy",
        ["{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [], egress: []}"],
        lambda s, t: s == t or not (s.startswith("x/") or t.startswith("x/")),
    ),
    (
        "e2e: should enforce policy to allow traffic from pods within server namespace based on PodSelector",
        ["{" + A + ", ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}"],
        lambda s, t: t != "x/a" or s in ("x/a", "x/b"),
    ),
    (
        "e2e: should enforce policy to allow ingress traffic for a target; page: policies are additive",
        [DENY_INGRESS, "{" + A + ", ingress: [{from: [{podSelector: {}}]}]}"],
        lambda s, t: not t.startswith("x/") or s == t or (t == "x/a" and s.startswith("x/")),
    ),
    (
        "e2e: should enforce policy based on NamespaceSelector with MatchExpressions",
        [
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: "
            "[{key: ns, operator: NotIn, values: [y]}]}}]}]}"
        ],
        to_x_only_from(lambda s: not s.startswith("y/")),
    ),
    (
        "e2e: should enforce policy based on PodSelector with MatchExpressions",
        [
            "{podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, c]}]}, ingress: "
            "[{from: [{podSelector: {matchExpressions: [{key: pod, operator: In, values: [a]}]}}]}]}"
        ],
        lambda s, t: t not in ("x/a", "x/c") or s in (t, "x/a"),
    ),
    (
        "e2e: should enforce policy based on PodSelector or NamespaceSelector",
        [
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}, "
            "{podSelector: {matchLabels: {pod: b}}}]}]}"
        ],
        to_x_only_from(lambda s: s.startswith("y/") or s == "x/b"),
    ),
    (
        "e2e: should enforce policy based on PodSelector and NamespaceSelector",
        [
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}, "
            "podSelector: {matchLabels: {pod: b}}}]}]}"
        ],
        to_x_only_from(lambda s: s == "y/b"),
    ),
    (
        "e2e: should enforce policy based on Multiple PodSelectors and NamespaceSelectors",
        [
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, "
            "values: [x]}]}, podSelector: {matchExpressions: [{key: pod, operator: In, values: [b, c]}]}}]}]}"
        ],
        to_x_only_from(lambda s: s in ("y/b", "y/c", "z/b", "z/c")),
    ),
    (
        "e2e: should enforce policy based on any PodSelectors",
        [
            "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}, namespaceSelector: {}}, "
            "{podSelector: {matchLabels: {pod: c}}, namespaceSelector: {}}]}]}"
        ],
        to_x_only_from(lambda s: s[2:] in ("b", "c")),
    ),
    (
        "e2e: should enforce multiple egress policies with egress allow-all policy taking precedence",
        ["{podSelector: {}, policyTypes: [Egress], egress: [{}]}", DENY_EGRESS],
        lambda s, t: True,
    ),
    ("e2e: should support allow-all policy", ["{podSelector: {}, ingress: [{}]}"], lambda s, t: True),
    (
        "e2e: should enforce egress policy allowing traffic to a server in a different namespace",
        [
            "{" + A + ", policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: y}}, "
            "podSelector: {matchLabels: {pod: a}}}]}]}"
        ],
        lambda s, t: s != "x/a" or t in ("x/a", "y/a"),
    ),
    (
        "e2e: should work with Ingress, Egress specified together",
        [
            "{" + A + ", policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}], "
            "egress: [{ports: [{port: 80}], to: [{podSelector: {matchLabels: {pod: c}}}]}]}"
        ],
        lambda s, t: s == t or ((t != "x/a" or s == "x/b") and (s != "x/a" or t == "x/c")),
    ),
    (
        "e2e: should allow egress access to server in CIDR block",
        ["{" + A + ", policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.2.2/32}}]}]}"],
        lambda s, t: s != "x/a" or t in ("x/a", "y/b"),
    ),
    (
        "e2e: should enforce except clause while egress access to server in CIDR block",
        [
            "{" + A + ", policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.2.0/24, except: "
            "[10.244.2.2/32]}}]}]}"
        ],
        lambda s, t: s != "x/a" or t in ("x/a", "y/a", "y/c"),
    ),
    (
        "e2e: should ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed",
        [
            "{" + A + ", policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.2.0/24, except: "
            "[10.244.2.2/32]}}]}]}",
            "{" + A + ", policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.2.2/32}}]}]}",
        ],
        lambda s, t: s != "x/a" or t == "x/a" or t.startswith("y/"),
    ),
    (
        "types.go: policyTypes left out, egress rules: ingress and egress both",
        ["{" + A + ", egress: [{to: [{podSelector: {}}]}]}"],
        lambda s, t: s == t or (t != "x/a" and (s != "x/a" or t.startswith("x/"))),
    ),
    (
        "types.go: policyTypes left out, no egress rules: ingress only",
        ["{" + A + "}"],
        lambda s, t: t != "x/a" or s == t,
    ),
    (
        "types.go: an egress section that policyTypes does not name does nothing",
        ["{" + A + ", policyTypes: [Ingress], ingress: [{}], egress: [{to: [{podSelector: {}}]}]}"],
        lambda s, t: True,
    ),
    ("page: a policy that selects no pod isolates none", ["{podSelector: {matchLabels: {pod: d}}}"], lambda s, t: True),
    (
        "labels.Selector: NotIn and DoesNotExist hold where the label is missing, Exists does not",
        [
            "{podSelector: {matchExpressions: [{key: team, operator: Exists}]}}",
            "{podSelector: {matchExpressions: [{key: team, operator: DoesNotExist}, "
            "{key: team, operator: NotIn, values: [red]}]}, ingress: [{from: [{podSelector: {}}]}]}",
        ],
        to_x_only_from(lambda s: s.startswith("x/")),
    ),
    (
        "page: targeting a namespace by its name",
        [
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: "
            "{kubernetes.io/metadata.name: z}}}]}]}"
        ],
        to_x_only_from(lambda s: s.startswith("z/")),
    ),
]


@pytest.mark.parametrize(("manifests", "allowed"), [row[1:] for row in MATRIX], ids=[row[0] for row in MATRIX])
def test_who_reaches_whom(manifests: Sequence[str], allowed: Allowed) -> None:
    made = cluster(*manifests)
    for source in PODS:
        for target in PODS:
            assert (connects(made, source, target) == (True, True)) == allowed(source, target), (source, target)


FROM_B = "{" + A + ", ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [%s]}]}"


@pytest.mark.parametrize(
    ("ports", "admitted"),
    [
        ("{port: 81}", {(TCP, 81)}),
        ("{port: serve-81-tcp}", {(TCP, 81)}),  # e2e: should allow ingress access from updated pod by named port
        ("{port: serve-81-udp}", set()),  # types.go: protocol is TCP where none is given, and has to fit as well
        ("{port: serve-81-udp, protocol: UDP}", {(UDP, 81)}),
        ("{protocol: UDP}", {(UDP, 80), (UDP, 81)}),
        ("{port: 80, endPort: 81}", {(TCP, 80), (TCP, 81)}),  # e2e: should enforce policies with endPort
        ("{port: 79, endPort: 80}, {port: 81, protocol: SCTP}", {(TCP, 80), (SCTP, 81)}),
        ("{port: nobody-s-port}", set()),
        ("", {(p, n) for p in (TCP, UDP, SCTP) for n in (80, 81)}),  # types.go: an empty list is every port
    ],
)
def test_ports(ports: str, admitted: set[tuple[int, int]]) -> None:
    made = cluster(FROM_B % ports)
    found = {
        (protocol, port)
        for protocol in (TCP, UDP, SCTP)
        for port in (80, 81)
        if connects(made, "x/b", "x/a", port, protocol) == (True, True)
    }
    assert found == admitted
    assert connects(made, "x/c", "x/a", 81) == (True, False)  # types.go: traffic must match both ports and from


def test_a_named_port_of_an_egress_rule_is_one_of_the_receiver() -> None:
    made = cluster("{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: serve-80-tcp}]}]}")
    assert connects(made, "x/a", "y/a") == (True, True)
    assert connects(made, "x/a", "y/a", 81) == (False, True)
    assert connects(made, "x/a", "198.51.100.7") == (False, True)  # no pod, so no names


def test_nodes_and_pods_with_host_network() -> None:
    made = cluster(DENY_INGRESS, DENY_EGRESS)
    # types.go (ingress): "or if the traffic source is the pod's local node"
    assert connects(made, "n1", "x/a") == (True, True)
    assert connects(made, "n2", "x/a") == (True, False)
    # page, "Network policies and hostNetwork pods": their traffic is that of the node.
    assert connects(made, "x/host", "x/b") == (True, True)
    assert connects(made, "x/host", "x/a") == (True, False)
    assert connects(made, "y/a", "x/host") == (True, True)
    assert connects(made, "x/a", "n2") == (False, True)
    assert connects(made, "x/a", "n1") == (None, True)  # the page says always, plugins filter it
    selecting = cluster("{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: a}}}]}]}")
    assert connects(selecting, "x/host", "x/a") == (True, False)  # labelled pod=a, and no selector sees it
    block = cluster("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.12/32}}]}]}")
    assert connects(block, "x/host", "x/a") == connects(block, "n2", "x/a") == (True, True)


def test_outside_addresses() -> None:
    made = cluster(
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.8/29]}}]}]}"
    )
    assert [connects(made, f"198.51.100.{n}", "x/a")[1] for n in (7, 8, 15, 16)] == [True, False, False, True]
    assert connects(made, "203.0.113.1", "x/a") == (True, False)
    assert connects(made, "x/b", "x/a") == (True, False)
    anyone = cluster("{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}")
    assert connects(anyone, "198.51.100.7", "x/a") == (True, False)  # page: every pod, and nobody else
    six = cluster("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]}")
    assert connects(six, "198.51.100.7", "x/a") == (True, False)


def ingress(made: Cluster, source: Party, protocol: int = TCP, port: int | None = 80) -> Intent:
    return intended(made, INGRESS, party("x/a"), source, protocol, port)


def test_what_is_not_known() -> None:
    stand_in = Party(ip_address("203.0.113.1"), ip_known=False)
    block = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: %s}}]}]}"
    assert ingress(cluster(block % "203.0.113.0/24"), stand_in).allowed is None
    assert ingress(cluster(block % "198.51.100.0/24"), stand_in).allowed is None
    assert ingress(cluster(block % "0.0.0.0/0"), stand_in).allowed is True
    assert ingress(cluster(block % "'::/0'"), stand_in).allowed is False
    by_label = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {%s: %s}}}]}]}"
    without = cluster(by_label % ("ns", "y"), namespaces=())
    assert ingress(without, party("y/a")).allowed is None
    assert "no dump has the labels" in ingress(without, party("y/a")).why
    # Every namespace has its name as a label, so that one needs no object.
    for name, wanted in (("y", True), ("z", False)):
        made = cluster(by_label % (policies.NAME_LABEL, name), namespaces=())
        assert ingress(made, party("y/a")).allowed is wanted
    assert ingress(cluster(DENY_INGRESS), OUTSIDE, ICMP, None).allowed is None
    assert ingress(cluster(), OUTSIDE, ICMP, None).allowed is True


def test_an_intent_names_the_policies() -> None:
    made = cluster(DENY_INGRESS, "{" + A + ", ingress: [{from: [{podSelector: {}}]}]}")
    found = ingress(made, party("x/b"))
    assert [p.name for p in found.selecting] == ["p0", "p1"]
    assert [p.name for p in found.admitting] == ["p1"]
    assert [p.name for p in policies.selecting(made, PODS["x/b"], INGRESS)] == ["p0"]
    assert policies.selecting(made, PODS["x/b"], EGRESS) == policies.selecting(made, HOST, INGRESS) == ()
    assert [pod.name for pod in policies.selected(made, made.policies[1])] == ["a"]


# ---------------------------------------------------------------- against an oracle


KEYS, VALUES = ("app", "tier"), ("u", "v", "")
labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES)).map(lambda d: tuple(sorted(d.items())))
requirements = st.builds(
    Requirement,
    st.sampled_from(KEYS),
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    st.lists(st.sampled_from(VALUES), max_size=2).map(tuple),
)
selectors = st.lists(requirements, max_size=2).map(tuple)
nets = st.sampled_from(["0.0.0.0/0", "10.0.0.0/30", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.2/32", "::/0"]).map(
    ip_network
)
peers = st.one_of(
    st.builds(PolicyPeer, block=nets, excluded=st.lists(nets, max_size=2).map(tuple)),
    st.builds(PolicyPeer, st.none() | selectors, selectors),
    st.builds(PolicyPeer, selectors),
)
port_numbers = st.sampled_from([80, 81, 82])
wanted_ports = st.builds(
    lambda protocol, port, more: PolicyPort(protocol, port, port + more if isinstance(port, int) and more else None),
    st.sampled_from([TCP, UDP]),
    st.one_of(st.none(), port_numbers, st.sampled_from(["web", "dns"])),
    st.integers(0, 2),
)
some = st.none() | st.lists(peers, min_size=1, max_size=2).map(tuple)
rules = st.builds(PolicyRule, some, st.none() | st.lists(wanted_ports, min_size=1, max_size=2).map(tuple))
namespace_names = st.sampled_from(["p", "q"])
drawn_policies = st.builds(
    NetworkPolicy,
    namespace_names,
    st.sampled_from(["one", "two", "three"]),
    selectors,
    st.sampled_from([("ingress",), ("egress",), ("ingress", "egress")]),
    st.lists(rules, max_size=2).map(tuple),
    st.lists(rules, max_size=2).map(tuple),
)
container_ports = st.lists(
    st.tuples(st.sampled_from(["web", "dns", ""]), port_numbers, st.sampled_from([TCP, UDP]), st.none(), st.just("")),
    max_size=3,
).map(tuple)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    pods = []
    for i in range(1, 5):
        host = draw(st.integers(0, 5)) == 0
        node = draw(st.sampled_from(["n1", "n2"]))
        ip = {"n1": "10.0.0.5", "n2": "10.0.0.6"}[node] if host else f"10.0.0.{i}"
        pods.append(
            Pod(draw(namespace_names), f"pod{i}", node, (ip_address(ip),), host, ports=draw(container_ports),
                labels=draw(labels))
        )  # fmt: skip
    named = tuple(Namespace(n, (*draw(labels), (policies.NAME_LABEL, n))) for n in ("p", "q"))
    return Cluster(pods=tuple(pods), namespaces=named, policies=tuple(draw(st.lists(drawn_policies, max_size=4))))


def oracle(made: Cluster, direction: str, of: Party, other: Party, protocol: int, port: int) -> bool | str:
    """The API's words, one sentence after the other, without any of the module's own functions."""
    if of.pod is None or of.pod.host_network:
        return True
    isolating, admitted = 0, False
    for policy in made.policies:
        if policy.namespace != of.pod.namespace or direction not in policy.types:
            continue
        if not all(holds(r, dict(of.pod.labels)) for r in policy.pods):
            continue
        isolating += 1
        for rule in policy.ingress if direction == "ingress" else policy.egress:
            receiver = of.pod if direction == "ingress" else other.pod
            port_fits = rule.ports is None
            for wanted in rule.ports or ():
                numbers = set(range(1, 65536)) if wanted.port is None else set()
                if isinstance(wanted.port, int):
                    numbers = set(range(wanted.port, (wanted.end or wanted.port) + 1))
                elif isinstance(wanted.port, str) and receiver is not None and not receiver.host_network:
                    numbers = {n for name, n, p, _, _ in receiver.ports if name == wanted.port and p == wanted.protocol}
                port_fits = port_fits or (wanted.protocol == protocol and port in numbers)
            peer_fits = rule.peers is None
            for peer in rule.peers or ():
                if peer.block is not None:
                    inside = other.ip in peer.block and not [net for net in peer.excluded if other.ip in net]
                    peer_fits = peer_fits or inside
                elif other.pod is not None and not other.pod.host_network:
                    spaces = [
                        n.name
                        for n in made.namespaces
                        if (n.name == policy.namespace if peer.namespaces is None
                            else all(holds(r, dict(n.labels)) for r in peer.namespaces))
                    ]  # fmt: skip
                    pods = [
                        p for p in made.pods
                        if p.namespace in spaces and all(holds(r, dict(p.labels)) for r in peer.pods or ())
                    ]  # fmt: skip
                    peer_fits = peer_fits or other.pod in pods
            admitted = admitted or (port_fits and peer_fits)
    if not isolating or admitted or (other.pod is not None and other.pod is of.pod):
        return True
    if other.node is not None and other.node == of.pod.node:
        return True if direction == "ingress" else "plugins differ"
    return False


def holds(requirement: Requirement, given_labels: Mapping[str, str]) -> bool:
    there = requirement.key in given_labels
    if requirement.operator in ("Exists", "DoesNotExist"):
        return there == (requirement.operator == "Exists")
    listed = there and given_labels[requirement.key] in set(requirement.values)
    return listed if requirement.operator == "In" else not listed


@given(clusters(), st.data())
def test_intents_are_those_of_an_oracle(made: Cluster, data: st.DataObject) -> None:
    parties: list[Any] = [Party(p.ips[0], p, p.node if p.host_network else None) for p in made.pods]
    parties += [Party(ip_address("10.0.0.5"), node="n1"), Party(ip_address("10.0.0.7"))]
    protocol, port = data.draw(st.sampled_from([TCP, UDP])), data.draw(port_numbers)
    for of in parties:
        for other in parties:
            for direction in (INGRESS, EGRESS):
                found = intended(made, direction, of, other, protocol, port)
                wanted = oracle(made, direction, of, other, protocol, port)
                assert found.allowed is (None if wanted == "plugins differ" else wanted), (direction, of, other)
