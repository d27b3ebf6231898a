"""``kubectl get -o json`` and ``-o yaml``: Services, EndpointSlices, Pods and Nodes."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from netk8s.decode import kubectl
from netk8s.errors import DecodeError
from netk8s.model import (
    SCTP,
    TCP,
    UDP,
    At,
    ClusterNode,
    Coverage,
    Dump,
    Endpoint,
    Fact,
    Namespace,
    NetworkPolicy,
    OtherPolicy,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    ServicePort,
)


def service(**spec: object) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "ClusterIP", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80}], **spec},
    }


def endpoints(*items: object, **members: object) -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(items),
        **members,
    }


def listed(*items: object, kind: str = "List") -> dict[str, object]:
    return {"apiVersion": "v1", "items": list(items), "kind": kind}


def facts(value: object) -> list[Fact]:
    dump = Dump("x", json.dumps(value).encode())
    assert kubectl.sniff(dump)
    return list(kubectl.decode(dump))


def one(value: object) -> Fact:
    (found,) = facts(value)
    return found


def test_service_with_everything() -> None:
    value = service(
        type="LoadBalancer",
        clusterIPs=["10.96.0.9", "fd00::9"],
        externalIPs=["192.0.2.1"],
        loadBalancerSourceRanges=[" 10.0.0.0/8 "],
        externalTrafficPolicy="Local",
        internalTrafficPolicy="Cluster",
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
        healthCheckNodePort=32000,
        ports=[
            {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353, "nodePort": 0},
        ],
    )
    value["status"] = {
        "loadBalancer": {
            "ingress": [
                {"ip": "192.0.2.9", "ipMode": "VIP"},
                {"ip": "192.0.2.10", "ipMode": "Proxy"},
                {"hostname": "lb.example"},
            ]
        }
    }
    first, second = facts(value)
    assert first == ServicePort(
        "shop", "web", "http", TCP, 80, "web", 30080, "LoadBalancer",
        (ip_address("10.96.0.9"), ip_address("fd00::9")), (ip_address("192.0.2.1"),), (ip_address("192.0.2.9"),),
        (ip_address("192.0.2.10"),), ("10.0.0.0/8",), "Local", "Cluster", "ClientIP", 60, 32000, At("x", 1),
    )  # fmt: skip
    assert isinstance(second, ServicePort)
    assert (second.protocol, second.target_port, second.node_port) == (UDP, "5353", None)


def test_services_without_addresses() -> None:
    headless = one(service(clusterIP="None", clusterIPs=["None"]))
    assert isinstance(headless, ServicePort)
    assert headless.cluster_ips == ()
    assert facts(service(type="ExternalName", ports=[{"port": 80}])) == []
    old = one({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
               "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 443, "protocol": "SCTP"}]}})  # fmt: skip
    assert isinstance(old, ServicePort)
    assert (old.namespace, old.cluster_ips, old.protocol, old.type) == (
        "default", (ip_address("10.96.0.1"),), SCTP, "ClusterIP")  # fmt: skip


def test_endpoint_conditions() -> None:
    found = facts(
        endpoints(
            {"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": None, "serving": None, "terminating": None}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": False}},
            {"addresses": ["10.0.0.4"], "conditions": {"ready": False, "serving": True, "terminating": True}},
        )
    )
    states = [(e.ready, e.serving, e.terminating) for e in found if isinstance(e, Endpoint)]
    assert states == [(True, True, False), (True, True, False), (False, False, False), (False, True, True)]


def test_endpoint_places() -> None:
    found = one(
        endpoints(
            {
                "addresses": ["10.0.0.1", "10.0.0.99"],
                "nodeName": "a",
                "zone": "z1",
                "targetRef": {"kind": "Pod", "name": "web-1", "namespace": "shop"},
                "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "a"}]},
            },
            ports=[{"name": None, "port": 8080}, {"name": "all", "port": None}],
        )
    )
    assert found == Endpoint(
        "shop", "web", "", TCP, ip_address("10.0.0.1"), 8080, "a", "shop/web-1", zone="z1", hints=("z1", "node/a"),
        at=At("x", 1),
    )  # fmt: skip


def test_slices_that_no_service_port_is_made_of() -> None:
    assert facts(endpoints({"addresses": ["a.example"]}, addressType="FQDN")) == []
    assert facts(endpoints({"addresses": ["10.0.0.1"]}, metadata={"name": "custom"})) == []
    assert facts(endpoints({"addresses": []}, {"addresses": ["10.0.0.1"]}, ports=None)) == []


def test_pod_and_node() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "shop", "labels": {"b": "2", "a": "1"}},
        "spec": {
            "nodeName": "n",
            "hostNetwork": True,
            "initContainers": [
                {"name": "once", "ports": [{"containerPort": 1}]},
                {"name": "sidecar", "restartPolicy": "Always", "ports": [{"containerPort": 2, "protocol": "UDP"}]},
            ],
            "containers": [
                {"ports": [{"name": "web", "containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1"}]},
                {},
            ],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    }
    ports = (("web", 80, TCP, 8080, "10.0.0.1"), ("", 2, UDP, None, ""))
    ips = (ip_address("10.0.0.1"), ip_address("fd00::1"))
    labels = (("a", "1"), ("b", "2"))
    assert one(pod) == Pod("shop", "p", "n", ips, True, "Running", ports, labels, At("x", 1))
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}},
        "spec": {"podCIDR": "10.1.0.0/24"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeProxyVersion": "v1.30.5"},
        },
    }
    addresses = (("InternalIP", "10.0.0.1"),)
    assert one(node) == ClusterNode("n", addresses, (ip_network("10.1.0.0/24"),), "z", "v1.30.5", At("x", 1))


def test_what_is_covered() -> None:
    def covered(value: object) -> list[str]:
        return [fact.kind for fact in facts(value) if isinstance(fact, Coverage)]

    assert covered(listed(service(), endpoints(), service())) == ["services", "endpoints"]
    assert covered(listed(kind="PodList")) == ["pods"]
    assert covered(listed(kind="NodeList")) == ["nodes"]
    assert covered(listed()) == []
    assert covered(service()) == []
    assert covered(listed({"apiVersion": "v1", "kind": "Secret"})) == []
    # The API leaves out the kind of a list's items.
    item = {name: part for name, part in service().items() if name not in ("kind", "apiVersion")}
    assert [type(fact) for fact in facts(listed(item, kind="ServiceList"))] == [Coverage, ServicePort]


def test_yaml_is_the_same_with_lines() -> None:
    values = [
        listed(service(externalIPs=["192.0.2.1"]), service(sessionAffinity="ClientIP")),
        endpoints({"addresses": ["10.0.0.1"]}),
    ]
    from_json = [fact for value in values for fact in facts(value) if not isinstance(fact, Coverage)]
    text = "---\n" + "---\n".join(yaml.safe_dump(value) for value in values)
    dump = Dump("x", text.encode())
    assert kubectl.sniff(dump)
    from_yaml = [fact for fact in kubectl.decode(dump) if not isinstance(fact, Coverage)]
    assert [replace(fact, at=At("")) for fact in from_yaml] == [replace(fact, at=At("")) for fact in from_json]
    lines = text.splitlines()
    assert [lines[fact.at.line - 1] for fact in from_yaml] == ["- apiVersion: v1"] * 2 + [
        "addressType: IPv4"
    ]  # the first line of each object


def test_yaml_scalars_are_those_of_json() -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: no\n  labels: {when: 2024-01-01, port: '080', empty: ''}\n"
        "spec: {hostNetwork: true, nodeName: ~}\nstatus: {}\n"
    )
    (pod,) = kubectl.decode(Dump("x", text.encode()))
    assert isinstance(pod, Pod)
    assert (pod.name, pod.host_network, pod.node, pod.phase) == ("no", True, None, "Unknown")
    assert pod.labels == (("empty", ""), ("port", "080"), ("when", "2024-01-01"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("apiVersion: v1\nkind: [" + "[" * 100_000, "nested too deeply"),
        ("apiVersion: v1\nitems:\n" + "- " * 100_000, "nested too deeply"),
        ("apiVersion: &a v1\nkind: *a\n", "aliases"),
        ("apiVersion: v1\nkind: {a: b\n", "not YAML"),
        ("apiVersion: v1\n? [a]\n: b\n", "key"),
        ("kind: List\n\x01: 1\n", "not YAML"),
        ("apiVersion: v1\n---\n- 1\n", "expected an API object"),
    ],
)
def test_hostile_yaml(text: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        list(kubectl.decode(Dump("x", text.encode())))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (service(ports=[{"port": 0}]), r"spec.ports\[0\].port: expected a whole number of 1 to 65535, found 0"),
        (service(ports=[{"port": 80, "protocol": "ICMP"}]), "TCP, UDP or SCTP"),
        (service(clusterIPs=["ten"]), "clusterIPs"),
        (listed(endpoints({"addresses": ["10.0.0"]})), r"items\[0\].endpoints\[0\].addresses"),
        (listed(3), r"items\[0\]: expected an object, found 3"),
        ({"apiVersion": "v1", "kind": "Node"}, "metadata"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 5}}, "metadata.name: expected a string, found 5"),
    ],
)
def test_wrong_objects(value: object, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        facts(value)


def test_sniff() -> None:
    assert not kubectl.sniff(Dump("x", b'{"nftables": [{"apiVersion": 1}]}'))
    assert not kubectl.sniff(Dump("x", b"net.ipv4.ip_forward = 1\n"))
    assert not kubectl.sniff(Dump("x", b"{}"))
    assert kubectl.sniff(Dump("x", b"---\napiVersion: v1\n"))


def test_recorded_clusters(corpus: Path) -> None:
    kinds = {"services": ServicePort, "endpointslices": Endpoint, "pods": Pod, "nodes": ClusterNode}
    for name, kind in kinds.items():
        for path in corpus.glob(f"*/cluster/{name}.json"):
            recorded = Dump(str(path), path.read_bytes())
            assert kubectl.sniff(recorded)
            coverage, *found = kubectl.decode(recorded)
            assert coverage == Coverage(name if name != "endpointslices" else "endpoints", At(str(path)))
            assert found
            assert all(isinstance(fact, kind) for fact in found)


# ---------------------------------------------------------------- policies


def netpol(spec: object, **members: object) -> dict[str, object]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": spec,
        **members,
    }


def test_policy_with_everything() -> None:
    """The example of the API's documentation, with selectors of every kind."""
    found = one(
        netpol(
            {
                "podSelector": {
                    "matchLabels": {"role": "db"},
                    "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["a", "b"]}],
                },
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "from": [
                            {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                            {"namespaceSelector": {"matchLabels": {"project": "x"}}, "podSelector": {}},
                            {"podSelector": {"matchExpressions": [{"key": "role", "operator": "Exists"}]}},
                        ],
                        "ports": [{"port": 6379}, {"protocol": "UDP", "port": "dns"}, {"protocol": "SCTP"}],
                    }
                ],
                "egress": [{"ports": [{"port": 32000, "endPort": 32768}]}, {}],
            }
        )
    )
    role, tier = Requirement("role", "In", ("db",)), Requirement("tier", "NotIn", ("a", "b"))
    peers = (
        PolicyPeer(block=ip_network("172.17.0.0/16"), excluded=(ip_network("172.17.1.0/24"),)),
        PolicyPeer((), (Requirement("project", "In", ("x",)),)),
        PolicyPeer((Requirement("role", "Exists"),)),
    )
    assert found == NetworkPolicy(
        "shop", "web", (role, tier), ("ingress", "egress"),
        (PolicyRule(peers, (PolicyPort(TCP, 6379), PolicyPort(UDP, "dns"), PolicyPort(SCTP))),),
        (PolicyRule(None, (PolicyPort(TCP, 32000, 32768),)), PolicyRule()),
        At("x", 1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({"podSelector": {}}, ("ingress",)),
        ({"podSelector": {}, "egress": [{}]}, ("ingress", "egress")),
        ({"podSelector": {}, "egress": []}, ("ingress",)),
        ({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}, ("egress",)),
    ],
)
def test_policy_types_default_as_the_api_does(spec: object, types: tuple[str, ...]) -> None:
    found = one(netpol(spec))
    assert isinstance(found, NetworkPolicy)
    assert found.types == types


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"podSelector": {}, "ingress": [{"from": [{}]}]}, "podSelector"),
        ({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "x"}}]}]}, "cidr"),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": 0}]}]}, "port"),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": 80, "endPort": 79}]}]}, "endPort"),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": "http", "endPort": 90}]}]}, "endPort"),
        ({"podSelector": {}, "ingress": [{"ports": [{"protocol": "X"}]}]}, "protocol"),
        ({"podSelector": {}, "policyTypes": ["Both"]}, "policyTypes"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}, "operator"),
    ],
)
def test_policies_that_the_api_would_not_take(spec: object, says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        facts(netpol(spec))


def test_policies_of_other_apis_are_known_by_name_only() -> None:
    theirs = netpol({"anything": 1}, apiVersion="crd.projectcalico.org/v1")
    cilium = netpol({}, apiVersion="cilium.io/v2", kind="CiliumNetworkPolicy")
    wide = {"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "a"}}
    assert facts(listed(theirs, cilium, wide)) == [
        OtherPolicy("NetworkPolicy", "shop", "web", At("x", 1)),
        OtherPolicy("CiliumNetworkPolicy", "shop", "web", At("x", 1)),
        OtherPolicy("AdminNetworkPolicy", "", "a", At("x", 1)),
    ]


def test_namespace_with_labels() -> None:
    value = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"b": "2", "a": "1"}}}
    assert facts(listed(value)) == [
        Coverage("namespaces", At("x")),
        Namespace("shop", (("a", "1"), ("b", "2")), At("x", 1)),
    ]
    assert facts(listed(kind="NetworkPolicyList")) == [Coverage("policies", At("x"))]
