"""The lab itself: clusters come up, connect as Kubernetes' would, are traced, dumped, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .agent import Agent
from .cluster import Cluster
from .frames import TCP, UDP, Probe, checksum, parse_frame, parse_ip
from .kube_rules import endpoint_chain, service_chain
from .topology import NodeSpec, PodSpec, ServiceSpec, two_nodes
from .worker import Connected


def root_namespace() -> str:
    """Everything of the root namespace that a lab must not change."""
    commands = (
        ["ip", "netns", "list"],
        ["ip", "-o", "link"],
        ["ip", "-o", "addr"],
        ["ip", "route"],
        ["nft", "list", "ruleset"],
    )
    return "".join(subprocess.run(c, capture_output=True, text=True, check=False).stdout for c in commands)


def seen(answer: Connected) -> tuple[str, str | None, str | None]:
    return answer.result, answer.pod, answer.seen_src_ip


def test_chain_names_are_kube_proxys() -> None:
    nginx = ServiceSpec("nginx", ("10.96.0.2",), 80, 80, ())
    assert service_chain(nginx) == "KUBE-SVC-2CMXP7HKUVJN7L6M"
    dns = ServiceSpec("kube-dns:dns", ("10.96.0.10",), 53, 53, (), "udp", namespace="kube-system")
    assert endpoint_chain(dns, "10.244.0.2:53") == "KUBE-SEP-YIL6JZP7A3QYXJU2"


@pytest.mark.parametrize("src", ["192.0.2.1", "2001:db8::1"])
def test_a_packet_reads_back_as_it_was_written(src: str) -> None:
    dst = src[:-1] + "2"
    probe = Probe(TCP, src, dst, 1025, 80, tag=77)
    seen_there = parse_frame(probe.frame("02:00:00:00:00:02"))
    assert seen_there is not None
    assert (seen_there.src, seen_there.dst, seen_there.sport, seen_there.dport, seen_there.tag) == (
        src,
        dst,
        1025,
        80,
        77,
    )
    assert seen_there.tcp_flags == {"SYN"}
    if ":" not in src:
        assert checksum(probe.ip_bytes()[:20]) == 0
    assert parse_ip(b"\x45") is None


@pytest.mark.lab
def test_services_connect_as_in_a_real_cluster(cluster: Cluster) -> None:
    for node in ("192.168.52.201", "192.168.52.202", "fd00:52::201"):
        for client in ("client", "client-far"):
            assert cluster.connect(client, node, 30000).result == "connected", (client, node)
    assert seen(cluster.connect("client", "192.168.52.201", 30001)) == ("connected", "default/nginx-a", "10.244.1.1")
    assert seen(cluster.connect("client", "192.168.52.202", 30001)) == (
        "connected",
        "default/nginx-a",
        "192.168.52.202",
    )
    assert seen(cluster.connect("client", "fd00:52::202", 30001)) == ("connected", "default/nginx-a", "fd00:52::202")
    assert seen(cluster.connect("pod/default/toolbox", "10.96.120.31", 80)) == (
        "connected",
        "default/nginx-a",
        "10.244.1.120",
    )
    assert seen(cluster.connect("pod/default/nginx-a", "10.96.120.31", 80)) == (
        "connected",
        "default/nginx-a",
        "10.244.1.1",
    )
    assert seen(cluster.connect("k8s-node1", "10.96.120.31", 80)) == ("connected", "default/nginx-a", "10.244.1.1")
    assert seen(cluster.connect("k8s-node1", "127.0.0.1", 30001)) == ("connected", "default/nginx-a", "10.244.1.1")
    assert seen(cluster.connect("client", "192.168.52.201", 30910)) == (
        "connected",
        "default/exporter",
        "192.168.52.50",
    )
    assert seen(cluster.connect("client", "192.168.52.201", 30053, "udp")) == (
        "connected",
        "default/dns-a",
        "192.168.52.201",
    )
    assert cluster.connect("client", "192.168.52.201", 30099).result == "refused"
    assert cluster.connect("client", "192.168.52.201", 31999).result == "refused"
    assert cluster.connect("client", "192.0.2.77", 80).result == "unreachable"


@pytest.mark.lab
def test_a_packet_is_traced_rule_by_rule(cluster: Cluster) -> None:
    probe = Probe(TCP, "192.168.52.50", "192.168.52.202", 40001, 30001)
    result, elsewhere = cluster.probe("k8s-node2", "client", probe)
    assert result.verdict == "forwarded"
    assert (result.headers.src, result.headers.dst, result.headers.dport) == ("192.168.52.202", "10.244.1.5", 80)
    assert result.headers.mark == 0
    chains = [(step.table, step.chain) for step in result.path]
    service = next(s for s in cluster.topology.services if s.name == "self")
    assert chains[:3] == [("nat", "PREROUTING"), ("nat", "KUBE-SERVICES"), ("nat", "KUBE-NODEPORTS")]
    assert ("nat", endpoint_chain(service, "10.244.1.5:80")) in chains
    assert result.path[-1].rule.endswith("-j MASQUERADE --random-fully")
    assert ("pod/default/nginx-a", "192.168.52.202") in [(host, packet.src) for host, packet in elsewhere]


@pytest.mark.lab
def test_a_rejected_packet_is_answered(cluster: Cluster) -> None:
    result, elsewhere = cluster.probe(
        "k8s-node1", "client", Probe(UDP, "192.168.52.50", "192.168.52.201", 40002, 30099)
    )
    assert result.verdict == "local"
    result, elsewhere = cluster.probe(
        "k8s-node1", "client", Probe(TCP, "192.168.52.50", "192.168.52.201", 40003, 30099)
    )
    assert (result.verdict, result.answer) == ("rejected", "icmp 3/3")
    result, elsewhere = cluster.probe("k8s-node1", "k8s-node1", Probe(TCP, "192.168.52.201", "10.96.99.99", 40004, 80))
    assert (result.verdict, result.answer, elsewhere) == ("rejected", "icmp 3/3", [])
    assert result.path[-1].chain == "KUBE-SERVICES"


@pytest.mark.lab
def test_a_snapshot_has_the_files_of_the_contract(cluster: Cluster, tmp_path: Path) -> None:
    cluster.connect("client", "192.168.52.201", 30001)
    folder = cluster.snapshot(tmp_path / "dump")
    node = folder / "nodes" / "k8s-node1"
    assert "KUBE-SVC-2CMXP7HKUVJN7L6M" in (node / "iptables-save.txt").read_text()
    assert "net.ipv4.ip_forward = 1\n" in (node / "sysctl.txt").read_text()
    assert "tcp LISTEN 192.168.52.201:9100\n" in (node / "listening.txt").read_text()
    assert "dport=30001 src=10.244.1.5" in (node / "conntrack.txt").read_text()
    links = {link["ifname"]: link for link in json.loads((node / "ip-link.json").read_text())}
    ports = [link for link in links.values() if link.get("master") == "cni0"]
    assert len(ports) == 3
    assert all(port["linkinfo"]["info_slave_data"]["hairpin"] for port in ports)
    for name in ("ip-addr", "ip-route", "ip6-route", "ip-rule", "ip-neigh", "bridge-fdb"):
        assert json.loads((node / f"{name}.json").read_text())
    slices = json.loads((folder / "cluster" / "endpointslices.json").read_text())["items"]
    assert {s["metadata"]["labels"]["kubernetes.io/service-name"] for s in slices} == {
        "nginx",
        "self",
        "dns",
        "exporter",
        "empty",
    }


@pytest.mark.lab
@pytest.mark.parametrize(
    ("bridge_nf", "neighbour", "itself"), [(True, "connected", "timeout"), (False, "timeout", "connected")]
)
def test_hairpin_and_bridge_netfilter(bridge_nf: bool, neighbour: str, itself: str) -> None:
    first, second = two_nodes().nodes
    changed = NodeSpec(first.name, first.addresses, first.pod_cidrs, hairpin=False, bridge_nf=bridge_nf)
    with Cluster(two_nodes(nodes=(changed, second))) as cluster:
        cluster.load_kube_rules("nft")
        assert cluster.connect("pod/default/toolbox", "10.96.120.31", 80).result == neighbour
        assert cluster.connect("pod/default/nginx-a", "10.96.120.31", 80).result == itself


@pytest.mark.lab
def test_over_vxlan_a_remote_endpoint_sees_the_tunnels_address() -> None:
    with Cluster(two_nodes(overlay="vxlan")) as cluster:
        cluster.load_kube_rules("nft", [4])
        assert seen(cluster.connect("client", "192.168.52.202", 30001)) == (
            "connected",
            "default/nginx-a",
            "10.244.2.0",
        )


@pytest.mark.lab
def test_routed_and_macvlan_pods() -> None:
    first, second = two_nodes().nodes
    routed = NodeSpec(first.name, first.addresses, first.pod_cidrs, wiring="routed")
    macvlan = NodeSpec(second.name, second.addresses, (), wiring="macvlan")
    pods = (
        PodSpec("nginx-a", "k8s-node1", ("10.244.1.5", "fd00:10:244:1::5"), (("tcp", 80),)),
        PodSpec("mac", "k8s-node2", ("192.168.52.80",), (("tcp", 80),)),
    )
    service = ServiceSpec("nginx", ("10.96.120.30", "fd00:10:96::30"), 80, 80, ("default/nginx-a",), node_port=30000)
    with Cluster(two_nodes(nodes=(routed, macvlan), pods=pods, services=(service,))) as cluster:
        cluster.load_kube_rules("nft")
        # No address on a routed veth: MASQUERADE takes the first other one.
        assert seen(cluster.connect("client", "192.168.52.201", 30000)) == (
            "connected",
            "default/nginx-a",
            "192.168.52.201",
        )
        assert cluster.connect("client", "fd00:52::201", 30000).result == "connected"
        assert seen(cluster.connect("client", "192.168.52.80", 80)) == ("connected", "default/mac", "192.168.52.50")
        assert cluster.connect("k8s-node2", "192.168.52.80", 80).result in ("timeout", "unreachable")


@pytest.mark.lab
def test_nothing_is_left_and_the_root_namespace_is_untouched() -> None:
    before = root_namespace()
    with Cluster(two_nodes()) as cluster:
        cluster.load_kube_rules("legacy")
        pids = [cluster.host(name).pid for name in ("k8s-node1", "pod/default/toolbox", "lan")]
        assert root_namespace() == before
    assert root_namespace() == before
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.lab
def test_namespaces_end_with_a_killed_process() -> None:
    code = (
        "import time\nfrom lab.agent import Agent\na = Agent('x')\n"
        "a.call('ip', ['link add d0 type bridge'])\nprint(a.pid, flush=True)\ntime.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    for _ in range(200):
        if not _alive(pid):
            break
        subprocess.run(["sleep", "0.01"], check=True)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.lab
def test_an_error_in_a_namespace_is_told() -> None:
    with Agent("alone") as agent, pytest.raises(RuntimeError, match="alone: ip: OSError: ip -batch"):
        agent.call("ip", ["link add nonsense type nonsense"])
