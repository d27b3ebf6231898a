"""hostPort, ipMasq and the plugins' links by the real CNI plugins: netk8s says what the kernel then does."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from netk8s import decode, dialects, snapshot
from netk8s.dialects import bridge_portmap
from netk8s.errors import Netk8sError
from netk8s.model import Ask, World
from netk8s.trace import trace

from . import cni
from .cluster import Cluster
from .topology import NodeSpec, PodSpec, two_nodes

pytestmark = pytest.mark.lab

NODES = ("k8s-node1", "k8s-node2")
IP = {"k8s-node1": "192.168.52.201", "k8s-node2": "192.168.52.202"}
WEB, FRONT, FAR = "default/web", "default/front", "default/far"
PORTS = (("tcp", 80), ("udp", 53))
PODS = (
    PodSpec("web", "k8s-node1", ("10.244.1.5",), PORTS),
    PodSpec("front", "k8s-node1", ("10.244.1.6",), PORTS),
    PodSpec("far", "k8s-node2", ("10.244.2.5",), PORTS),
)
MAPPINGS: dict[str, Sequence[cni.Mapping]] = {
    WEB: (("tcp", 8080, 80, ""), ("udp", 8053, 53, ""), ("tcp", 8081, 80, IP["k8s-node1"])),
    FRONT: (("tcp", 8082, 80, "127.0.0.1"),),
    FAR: (("tcp", 8080, 80, ""),),
}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
BRIDGE = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
          "ipam": {"routes": [{"dst": "0.0.0.0/0"}]}}  # fmt: skip
PTP = {"type": "ptp", "ipMasq": True, "ipam": {"routes": [{"dst": "0.0.0.0/0"}]}}
FIREWALL = {"type": "firewall", "backend": "iptables"}


@pytest.fixture(autouse=True)
def _needs_plugins() -> None:
    why = cni.available()
    if why and os.environ.get("NETK8S_REQUIRE_LAB") == "1":
        pytest.fail(f"the CNI plugins must run here (NETK8S_REQUIRE_LAB=1): {why}")
    if why:
        pytest.skip(why)


@contextmanager
def attached(folder: Path, backend: str, *plugins: dict[str, Any], pods: Sequence[PodSpec] = PODS) -> Iterator[Cluster]:
    """Two nodes with kube-proxy's rules, their pods attached by a chain of plugins."""
    plain = two_nodes(pods=pods, services=())
    nodes = tuple(
        NodeSpec(n.name, n.addresses[:1], n.pod_cidrs[:1], wiring="none") for n in plain.nodes
    )  # fmt: skip
    with Cluster(replace(plain, nodes=nodes)) as cluster:
        cluster.load_kube_rules(backend, (4,))
        for node in nodes:
            runtime = cni.Runtime(cluster.host(node.name), folder / node.name, backend, plugins)
            for pod in pods:
                if pod.node == node.name:
                    mappings = MAPPINGS.get(pod.key, ())
                    runtime.add(cluster.host(f"pod/{pod.key}"), pod.key, pod.ips[0], _subnet(node, pod), mappings)
        yield cluster


def _subnet(node: NodeSpec, pod: PodSpec) -> str:
    """The network that a pod's address is of: its node's for pods, or the nodes' own."""
    nets = (ip_interface(text).network for text in (*node.pod_cidrs, *node.addresses))
    return str(next(net for net in nets if ip_address(pod.ips[0]) in net))


def read(cluster: Cluster, folder: Path) -> World:
    cluster.snapshot(folder)
    return dialects.complete(decode.decode(snapshot.read([str(folder)])))


Answer = tuple[str, str, str]
"""(result, endpoint, source seen); the last two "" when there was no connection."""
RESULTS = {"delivered": ("connected",), "refused": ("refused",), "dropped": ("timeout",),
           "unreachable": ("unreachable", "timeout")}  # fmt: skip


def kernel(cluster: Cluster, source: str, ip: str, port: int, protocol: str) -> Answer:
    found = cluster.connect(source, ip, port, protocol)
    return found.result, found.endpoint or "", found.seen_src_ip or ""


def told(world: World, source: str, ip: str, port: int, protocol: str) -> set[Answer]:
    asked = {"client": "192.168.52.50", "client-far": "203.0.113.7"}.get(source, source)
    asked = f"node/{asked}" if asked in NODES else asked
    node = source if source in NODES else None
    try:
        found = trace(
            world, dialects.resolve(world, Ask(f"{ip}:{port}", protocol=protocol, source=asked, node=node))
        )  # fmt: skip
    except Netk8sError as error:
        return {("error", str(error), "")}
    out: set[Answer] = set()
    for outcome in found.outcomes:
        reached = outcome.reached
        end = f"{reached.ip}:{reached.port}" if reached is not None and outcome.verdict == "delivered" else ""
        seen = str(outcome.source) if end else ""
        out |= {(result, end, seen) for result in RESULTS.get(outcome.verdict, (outcome.verdict,))}
    return out


def compare(cluster: Cluster, world: World, flows: Sequence[tuple[str, str, int, str]]) -> list[str]:
    """The flows whose answers differ."""
    wrong = []
    for flow in flows:
        real, said = kernel(cluster, *flow), told(world, *flow)
        if real not in said:
            wrong.append(f"{flow}: kernel {real}, netk8s {sorted(said)}")
    return wrong


HOSTS = ("client", "client-far", *NODES, f"pod/{WEB}", f"pod/{FRONT}", f"pod/{FAR}")
HOSTPORTS = [
    (source, ip, port, protocol)
    for source in HOSTS
    for ip in (
        *IP.values(),
        # The world outside has no route to a node's bridge.
        *(() if source.startswith("client") else ("10.244.1.1",)),
        *(("127.0.0.1",) if source in NODES else ()),
    )
    for port, protocol in ((8080, "tcp"), (8053, "udp"), (8081, "tcp"), (8082, "tcp"))
]
FEW = [flow for flow in HOSTPORTS if flow[2] == 8080 and flow[0] in ("client", f"pod/{WEB}", f"pod/{FAR}")]
DIRECT = [
    (f"pod/{pod}", ip, port, protocol)
    for pod in (WEB, FAR)
    for ip, port, protocol in (
        ("192.168.52.50", 7000, "tcp"),
        ("203.0.113.7", 7000, "tcp"),
        ("203.0.113.7", 7000, "udp"),
        ("10.244.1.6", 80, "tcp"),
        ("10.244.2.5", 53, "udp"),
        ("127.0.0.1", 80, "tcp"),
        (IP["k8s-node2"], 7001, "tcp"),
    )
]


def listen(cluster: Cluster) -> None:
    """Something outside, and on a node, that pods reach under one address or another."""
    for host in ("client", "client-far"):
        for protocol in ("tcp", "udp"):
            cluster.host(host).call("listen", protocol, "", 7000, host)
    cluster.host("k8s-node2").call("listen", "tcp", IP["k8s-node2"], 7001, "k8s-node2")


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_hostport_and_ipmasq_of_the_bridge_plugin(tmp_path: Path, backend: str) -> None:
    with attached(tmp_path, backend, BRIDGE, PORTMAP) as cluster:
        listen(cluster)
        world = read(cluster, tmp_path / "dump")
        wrong = compare(cluster, world, [*HOSTPORTS, *DIRECT])
        assert not wrong, "\n".join(wrong)
        # What it is all about: a hostPort keeps the client's address, ipMasq replaces a pod's outside its subnet.
        assert kernel(cluster, "client", IP["k8s-node1"], 8080, "tcp") == (
            "connected", "10.244.1.5:80", "192.168.52.50",
        )  # fmt: skip
        assert kernel(cluster, f"pod/{WEB}", "203.0.113.7", 7000, "tcp")[2] == IP["k8s-node1"]
        found = {one.name: one for one in dialects.recognised(world)}
        assert any("CNI-HOSTPORT-DNAT" in sign.what for sign in found[bridge_portmap.NAME].by)
        assert not {one.name for one in found.values()} - {bridge_portmap.NAME}


def test_what_the_firewall_plugin_admits(tmp_path: Path) -> None:
    """FORWARD DROP, and only what the plugin lets through of its pods."""
    with attached(tmp_path, "nft", BRIDGE, PORTMAP, FIREWALL) as cluster:
        listen(cluster)
        for node in NODES:
            cluster.host(node).call("run", ["iptables-nft", "-P", "FORWARD", "DROP"])
        world = read(cluster, tmp_path / "dump")
        wrong = compare(cluster, world, [*FEW, *DIRECT])
        assert not wrong, "\n".join(wrong)
        assert {kernel(cluster, f"pod/{WEB}", ip, 7000, "tcp")[0] for ip in ("192.168.52.50", "203.0.113.7")} == {
            "connected"
        }


def test_hostport_and_ipmasq_of_the_ptp_plugin(tmp_path: Path) -> None:
    """Pods behind a routed veth each, without a bridge."""
    with attached(tmp_path, "nft", PTP, PORTMAP) as cluster:
        listen(cluster)
        world = read(cluster, tmp_path / "dump")
        wrong = compare(cluster, world, [*HOSTPORTS, *DIRECT])
        assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_pods_of_the_macvlan_plugin(tmp_path: Path, mode: str) -> None:
    """Pods on the nodes' own network, which no rule of their node sees.

    Mode private keeps pods of one node apart, vepa leaves them to a switch that sends back where it came from (the
    lab's bridge does not), passthru gives the device to one pod alone.
    """
    pods = tuple(
        replace(pod, ips=(ip,))
        for pod, ip in zip(PODS, ("192.168.52.101", "192.168.52.102", "192.168.52.103"), strict=True)
        if mode != "passthru" or pod.name != "front"
    )
    macvlan = {"type": "macvlan", "master": "ens33", "mode": mode,
               "ipam": {"routes": [{"dst": "0.0.0.0/0", "gw": "192.168.52.1"}]}}  # fmt: skip
    with attached(tmp_path, "nft", macvlan, pods=pods) as cluster:
        cluster.snapshot(tmp_path / "dump")
        for pod in pods:
            inside = tmp_path / "dump" / "nodes" / pod.node / "pods" / pod.key.replace("/", "_")
            inside.mkdir(parents=True)
            for what in ("link", "addr", "route"):
                told = cluster.host(f"pod/{pod.key}").call("run", ["ip", "-j", "-d", what])
                (inside / f"ip-{what}.json").write_text(told)
        world = dialects.complete(decode.decode(snapshot.read([str(tmp_path / "dump")])))
        flows = [
            (source, pod.ips[0], port, protocol)
            for source in HOSTS
            if source in (*HOSTS[:4], *(f"pod/{pod.key}" for pod in pods))
            for pod in pods
            for port, protocol in ((80, "tcp"), (53, "udp"))
        ]
        wrong = compare(cluster, world, flows)
        assert not wrong, "\n".join(wrong)
