"""NetworkPolicies as kube-router's and calico's rules: netk8s, the intent of the objects, and the kernel say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from netk8s import decode, dialects, findings, policies, snapshot
from netk8s.model import Ask, Finding, Trace, World
from netk8s.policies import EGRESS, INGRESS, Party
from netk8s.trace import trace

from . import generate_policies, policy_rules
from .cluster import Cluster
from .topology import NodeSpec, PodSpec, ServiceSpec, two_nodes
from .worker import Connected

pytestmark = pytest.mark.lab

IP = {"k8s-node1": "192.168.52.201", "k8s-node2": "192.168.52.202", "client": "192.168.52.50"}
PORTS = (("tcp", 80), ("tcp", 8080), ("udp", 53))
PODS = tuple(
    PodSpec(name, node, (ip,), PORTS, namespace, labels={"app": name, "role": role})
    for namespace, name, node, ip, role in (
        ("shop", "web", "k8s-node1", "10.244.1.5", "server"),
        ("shop", "front", "k8s-node1", "10.244.1.6", "client"),
        ("shop", "back", "k8s-node2", "10.244.2.5", "server"),
        ("lab", "probe", "k8s-node1", "10.244.1.7", "client"),
        ("lab", "far", "k8s-node2", "10.244.2.7", "server"),
    )
)
WEB = ServiceSpec("web", ("10.96.120.40",), 80, 80, ("shop/web",), node_port=30080, namespace="shop")
SPECS = yaml.safe_load("""
deny-all:
  podSelector: {}
  policyTypes: [Ingress]
web-from-front:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: front}}}, {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: lab}}, podSelector: {matchLabels: {role: server}}}]
    ports: [{port: 80}, {port: 53, protocol: UDP}]
web-from-lan:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{ipBlock: {cidr: 192.168.52.0/24, except: [192.168.52.202/32]}}]
    ports: [{port: 8000, endPort: 8090}]
  - from: [{ipBlock: {cidr: 192.168.52.48/29}}]
    ports: [{port: 80}]
back-egress:
  podSelector: {matchLabels: {app: back}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 80}]
  - ports: [{port: 53, protocol: UDP}]
""")


def manifests(excepts: bool) -> list[dict[str, Any]]:
    """The policies as the API lists them; calico's layout here is without ``except``."""
    specs = json.loads(json.dumps(SPECS))
    if not excepts:
        del specs["web-from-lan"]["ingress"][0]["from"][0]["ipBlock"]["except"]
    return [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec,
         "metadata": {"name": name, "namespace": "shop"}}
        for name, spec in specs.items()
    ]  # fmt: skip


@contextmanager
def policed(kind: str, backend: str, objects: Sequence[dict[str, Any]]) -> Iterator[Cluster]:
    """Two nodes with kube-proxy's rules, and those that a plugin writes for the policies."""
    wiring = "routed" if kind == "calico" else "bridge"
    plain = two_nodes(pods=PODS, services=(WEB,))
    nodes = tuple(NodeSpec(n.name, n.addresses[:1], n.pod_cidrs[:1], wiring=wiring) for n in plain.nodes)
    routes = ("10.244.1.0/24 via 192.168.52.201", "10.244.2.0/24 via 192.168.52.202")
    clients = (replace(plain.clients[0], routes=routes),)
    with Cluster(replace(plain, nodes=nodes, clients=clients)) as cluster:
        cluster.load_kube_rules(backend, (4,))
        for node in nodes:
            write = policy_rules.calico if kind == "calico" else policy_rules.kube_router
            sets, rules = write(cluster.topology, node, objects)
            cluster.load_sets(node.name, sets)
            cluster.host(node.name).call("run", [f"iptables-{backend}-restore", "--noflush"], rules)
        yield cluster


def read(cluster: Cluster, folder: Path, objects: Sequence[dict[str, Any]]) -> World:
    cluster.snapshot(folder)
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    (folder / "cluster" / "networkpolicies.json").write_text(json.dumps(listed))
    return dialects.complete(decode.decode(snapshot.read([str(folder)])))


RESULTS = {"delivered": "connected", "refused": "refused", "dropped": "timeout", "unreachable": "unreachable"}
Flow = tuple[str, str, int, str]


def told(world: World, flow: Flow) -> Trace:
    source, ip, port, protocol = flow
    pod = next((p for p in PODS if p.ips[0] == ip), None)
    asked = IP["client"] if source == "client" else f"node/{source}" if source in IP else source
    ask = Ask(
        f"{ip}:{port}", protocol=protocol, source=asked, via=pod.node if pod and source == "client" else None,
        node=source if source.startswith("k8s") else None,
    )  # fmt: skip
    return dialects.label(world, trace(world, dialects.resolve(world, ask)))


def wanted(world: World, flow: Flow) -> bool | None:
    """What the objects' policies want of a connection to a pod's own address."""
    source, ip, port, protocol = flow
    number = {"tcp": 6, "udp": 17}[protocol]
    pods = {f"{p.namespace}/{p.name}": p for p in world.cluster.pods}
    by_ip = {p.ips[0]: p for p in pods.values()}
    sender = Party(ip_address(IP[source]), node=source) if source in IP else None
    if sender is None:
        pod = pods[source.removeprefix("pod/")]
        sender = Party(pod.ips[0], pod)
    target = Party(ip_address(ip), by_ip[ip_address(ip)])
    said = {
        policies.intended(world.cluster, EGRESS, sender, target, number, port).allowed,
        policies.intended(world.cluster, INGRESS, target, sender, number, port).allowed,
    }
    return False if False in said else None if None in said else True


FLOWS: list[Flow] = [
    (source, pod.ips[0], port, protocol)
    for source in ("client", "k8s-node1", "k8s-node2", *(f"pod/{p.key}" for p in PODS))
    for pod in PODS
    if source != f"pod/{pod.key}"
    for protocol, port in PORTS
]
SERVED: list[Flow] = [
    (source, *dialled, "tcp")
    for source in ("client", "pod/shop/front", "pod/lab/probe", "pod/shop/back", "k8s-node2")
    for dialled in ((IP["k8s-node1"], 30080), (IP["k8s-node2"], 30080), ("10.96.120.40", 80))
    if not (source == "client" and dialled[1] == 80)
]


def connected(cluster: Cluster, flows: Sequence[Flow]) -> Iterator[tuple[Flow, Connected]]:
    """What came of each flow; all sources dial at the same time, for a drop is a second of silence."""
    waiting = {source: [flow for flow in flows if flow[0] == source] for source, *_ in flows}
    while waiting:
        now = {source: each.pop(0) for source, each in waiting.items()}
        for source, (_, ip, port, protocol) in now.items():
            cluster.host(source).post("connect", ip, port, protocol)
        yield from [(flow, cluster.host(source).wait()) for source, flow in now.items()]
        waiting = {source: each for source, each in waiting.items() if each}


def differences(cluster: Cluster, world: World, flows: Sequence[Flow], intent: bool) -> tuple[list[str], int]:
    """(the flows on which kernel, netk8s and objects are not of one mind, how many were denied)."""
    wrong, denied = [], 0
    for flow, real in connected(cluster, flows):
        found = told(world, flow)
        said = {
            (RESULTS.get(o.verdict, o.verdict), str(o.source) if o.verdict == "delivered" else None)
            for o in found.outcomes
        }
        denied += real.result != "connected"
        if (real.result, real.seen_src_ip) not in said:
            wrong.append(f"{flow}: kernel {real.result} {real.seen_src_ip}, netk8s {sorted(map(str, said))}")
        if real.result != "connected" and not names(found):
            wrong.append(f"{flow}: no policy is named")
        if intent and wanted(world, flow) not in (None, real.result == "connected"):
            wrong.append(f"{flow}: kernel {real.result}, the objects want {wanted(world, flow)}")
        drift = [f for f in findings.check(world, found) if f.code in ("NK430", "NK431")]
        if intent and drift:
            wrong.append(f"{flow}: {drift[0].summary}")
    return wrong, denied


def names(found: Trace) -> set[str]:
    """The policies that denied, by the steps' own words."""
    steps = (s for way in found.ways for hop in way.hops for s in hop.steps if s.policed is not None)
    return {name for s in steps if s.policed is not None and not s.policed.allowed for name in s.policed.policies}


@pytest.mark.parametrize(("kind", "backend"), [("kube-router", "nft"), ("kube-router", "legacy"), ("calico", "nft")])
def test_rules_objects_and_kernel_are_of_one_mind(tmp_path: Path, kind: str, backend: str) -> None:
    objects = manifests(excepts=kind != "calico")
    with policed(kind, backend, objects) as cluster:
        world = read(cluster, tmp_path, objects)
        flows = FLOWS if (kind, backend) == ("kube-router", "nft") else FLOWS[::2]
        wrong, denied = differences(cluster, world, flows, intent=True)
        assert not wrong, "\n".join(wrong)
        assert denied > len(flows) // 5
        wrong, _ = differences(cluster, world, SERVED, intent=False)
        assert not wrong, "\n".join(wrong)
        known = {f"shop/{name}" for name in SPECS}
        for flow in (f for f in FLOWS if f[:2] == ("pod/lab/probe", "10.244.1.5")):
            assert names(told(world, flow)) == known - {"shop/back-egress"}
        assert {one.name for one in dialects.recognised(world)} == {kind}


def test_rules_that_are_not_those_of_the_objects_are_found(tmp_path: Path) -> None:
    """The rules of yesterday's policies: what the kernel then does, and which finding says so."""
    objects = manifests(excepts=True)
    with policed("kube-router", "nft", [o for o in objects if o["metadata"]["name"] != "web-from-front"]) as cluster:
        world = read(cluster, tmp_path, objects)
        flow: Flow = ("pod/shop/front", "10.244.1.5", 80, "tcp")
        assert cluster.connect(*flow).result == "refused"
        assert found(world, flow, "NK430")[0].summary.startswith("policies admit pod shop/front to shop/web, and")
        # And a policy that came later than the rules.
        later = [*objects, {**objects[0], "metadata": {"name": "deny-lab", "namespace": "lab"}}]
        world = read(cluster, tmp_path, later)
        flow = ("pod/shop/front", "10.244.2.7", 80, "tcp")
        assert cluster.connect(*flow).result == "connected"
        assert "the rules of kube-router on k8s-node2 let it pass" in found(world, flow, "NK431")[0].summary


def found(world: World, flow: Flow, code: str) -> list[Finding]:
    return [f for f in findings.check(world, told(world, flow)) if f.code == code]


@pytest.mark.parametrize("seed", range(4))
def test_random_policies_of_kube_router(tmp_path: Path, seed: int) -> None:
    objects = generate_policies.policies(seed, excepts=True, both=False)
    with policed("kube-router", "nft", objects) as cluster:
        wrong, _ = differences(cluster, read(cluster, tmp_path, objects), FLOWS, intent=True)
        assert not wrong, "\n".join([*wrong, json.dumps(objects)])


def test_random_policies_of_calico(tmp_path: Path) -> None:
    objects = generate_policies.policies(2, excepts=False, both=True)
    with policed("calico", "nft", objects) as cluster:
        wrong, _ = differences(cluster, read(cluster, tmp_path, objects), FLOWS[::4], intent=True)
        assert not wrong, "\n".join([*wrong, json.dumps(objects)])


def test_a_policy_of_both_directions_is_one_chain_of_kube_router(tmp_path: Path) -> None:
    """What such a policy lets a pod send, its chain also lets in to another pod that it selects: the chain has the rules
    of both directions, and the receiver's chain asks it (policy.go, processEgressRules). The kernel does it, netk8s says
    so, and NK431 that the objects want otherwise."""
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [{}]}
    objects = [{**manifests(excepts=False)[0], "spec": spec}]
    with policed("kube-router", "nft", objects) as cluster:
        world = read(cluster, tmp_path, objects)
        flow: Flow = ("pod/shop/front", "10.244.1.5", 80, "tcp")
        assert cluster.connect(*flow).result == "connected"
        assert wanted(world, flow) is False
        assert [o.verdict for o in told(world, flow).outcomes] == ["delivered"]
        (finding,) = found(world, flow, "NK431")
        assert "policy shop/deny-all keeps pod shop/front from shop/web" in finding.summary
        assert cluster.connect("pod/lab/probe", *flow[1:]).result == "refused"
