"""What is run inside user-mode Linux: clusters of the kinds that need its kernel, dumped, then connected through.

Every case leaves the snapshot in its folder, taken before the first connection, and returns its :class:`Flow` records
as dicts; test_uml.py holds netk8s' answers against them.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from . import cni
from .agent import CLONE_NEWNET
from .cluster import Cluster
from .frames import parse_ip
from .netlink import LegacyTrace
from .topology import ClientSpec, NodeSpec, PodSpec, ServiceSpec, Topology, of_family, two_nodes
from .uml_ipvs import load_kube_ipvs
from .worker import Connected

NODE1, ROUTER, LAN = "192.168.52.201", "192.168.52.1", "192.168.52.0/24"
CLIENT, FAR = (
    ClientSpec("client", ("192.168.52.50/24", "fd00:52::50/64")),
    ClientSpec("client-far", ("203.0.113.7/24",), True),
)
SILENT = ("timeout", "unreachable")
"""Nothing came back, or the kernel said that nothing will. Which of them: a matter of how long ARP has been trying."""
PATIENCE = 0.5
"""Seconds for an answer. All that is waited for is in the same kernel, and silence is asked twice."""
LONG_PATIENCE = 3.0
"""Seconds for an answer of a flow that was answered before and not always."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Connections from a host to an address. ``via``: the node that the source's own routes lead to, if one is asked
    for an address that is not its own."""

    name: str
    source: str
    ip: str
    port: int
    protocol: str = "tcp"
    via: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a flow, and how often: (result, endpoint, address the endpoint saw, count)."""

    flow: Flow
    source_ip: str
    outcomes: tuple[tuple[str, str | None, str | None, int], ...]


def observed(cluster: Cluster, flows: Iterable[Flow], attempts: int, ordered: bool = False) -> list[dict[str, Any]]:
    """Makes the connections, those of one source after the other and the sources side by side: silence takes its time.
    A flow that has met with nothing but silence twice is not asked again.

    ``ordered``: one connection at a time as long as they are answered, so that rr gives each flow every endpoint.
    """
    counts: dict[Flow, Counter[Connected]] = {flow: Counter() for flow in flows}
    if ordered:
        for flow, answers in counts.items():
            while answers.total() < attempts and not _silent(answers):
                host = cluster.host(flow.source)
                answers[host.call("connect", flow.ip, flow.port, flow.protocol, timeout=PATIENCE)] += 1
    left: dict[str, list[Flow]] = {}
    for flow, answers in counts.items():
        if answers.total() < (2 if _silent(answers) else attempts):
            left.setdefault(flow.source, []).append(flow)
    while any(left.values()):
        turn = {source: asked[0] for source, asked in left.items() if asked}
        for source, flow in turn.items():
            cluster.host(source).post("connect", flow.ip, flow.port, flow.protocol, timeout=PATIENCE)
        for source, flow in turn.items():
            answers = counts[flow]
            answers[cluster.host(source).wait()] += 1
            if answers.total() >= (2 if _silent(answers) else attempts):
                left[source].pop(0)
    for flow, answers in counts.items():
        silent = sum(count for answer, count in answers.items() if answer.result in SILENT)
        if 0 < silent < answers.total():
            # An endpoint that is silent, or a machine that was busy: with more patience it shows.
            answers.clear()
            for _ in range(attempts):
                host = cluster.host(flow.source)
                answers[host.call("connect", flow.ip, flow.port, flow.protocol, timeout=LONG_PATIENCE)] += 1
    return [asdict(_seen(flow, answers)) for flow, answers in counts.items()]


def traced(cluster: Cluster, records: Iterable[dict[str, Any]]) -> dict[str, dict[str, list[tuple[str, str, int]]]]:
    """One more TCP connection of each flow that was answered, with the nodes' own trace of its first packet: for every
    node (table, chain, rule number), as the kernel counts the rules. After the dumps: it takes a rule of its own, in raw.
    """
    nodes = {node.name: cluster.host(node.name) for node in cluster.topology.nodes}
    logs = {}
    for name, agent in nodes.items():
        for chain in ("PREROUTING", "OUTPUT"):
            agent.call("run", ["iptables-legacy", "-t", "raw", "-A", chain, "-p", "tcp", "-j", "TRACE"])
        with in_namespace_of(agent.pid):
            logs[name] = LegacyTrace()
    paths = {}
    for record in records:
        flow = Flow(**record["flow"])
        if flow.protocol != "tcp" or ":" in flow.ip or all(result in SILENT for result, *_ in record["outcomes"]):
            continue
        cluster.connect(flow.source, flow.ip, flow.port)
        paths[flow.name] = {name: list(_first_packet(log)) for name, log in logs.items()}
    for log in logs.values():
        log.close()
    return paths


def _first_packet(log: LegacyTrace) -> Iterator[tuple[str, str, int]]:
    for event in log.read():
        packet = parse_ip(event.header)
        if packet is not None and packet.tcp_flags == {"SYN"} and event.table != "raw":
            yield event.table, event.chain, event.number


@contextlib.contextmanager
def in_namespace_of(pid: int) -> Iterator[None]:
    """A socket belongs to the network namespace that it was made in, wherever its process is later."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as own, open(f"/proc/{pid}/ns/net") as other:
        if libc.setns(other.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            libc.setns(own.fileno(), CLONE_NEWNET)


def _silent(answers: Counter[Connected]) -> bool:
    return bool(answers) and all(answer.result in SILENT for answer in answers)


def _seen(flow: Flow, answers: Counter[Connected]) -> Seen:
    outcomes: Counter[tuple[str, str | None, str | None]] = Counter()
    for answer, count in answers.items():
        outcomes[answer.result, answer.endpoint, answer.seen_src_ip] += count
    source_ip = next((answer.src_ip for answer in answers if answer.src_ip), "")
    return Seen(flow, source_ip, tuple((*outcome, count) for outcome, count in outcomes.items()))


# ------------------------------------------------------------ IPVS


def ipvs_topology() -> Topology:
    """The usual two nodes with one Service of each kind that kube-proxy's ipvs mode treats in a way of its own."""
    usual = two_nodes()
    extra = (
        PodSpec("toolbox-2", "k8s-node2", ("10.244.2.120",), ()),
        PodSpec("dns-b", "k8s-node1", ("10.244.1.9",), (("udp", 5353),)),
    )
    three = ("default/nginx-a", "default/nginx-b", "default/nginx-c")
    on_node1 = ("default/nginx-a", "default/nginx-b")
    services = tuple(
        replace(service, pods=("default/dns-a", "default/dns-b")) if service.name == "dns" else service
        for service in usual.services
    )
    services += (
        ServiceSpec("local", ("10.96.45.17",), 80, 80, on_node1, node_port=30080, external_policy="Local"),
        ServiceSpec("inside", ("10.96.33.1",), 80, 80, on_node1, internal_policy="Local"),
        ServiceSpec("ext", ("10.96.70.5",), 8443, 80, three, external_ips=("192.168.52.250",)),
        ServiceSpec(
            "ext-local",
            ("10.96.70.6",),
            8444,
            80,
            on_node1,
            external_ips=("192.168.52.251",),
            external_policy="Local",
        ),
    )
    routes = ("10.96.0.0/12 via " + NODE1, "192.168.52.250 via " + NODE1, "192.168.52.251 via " + NODE1)
    return two_nodes(pods=usual.pods + extra, services=services, clients=(replace(CLIENT, routes=routes), FAR))


def ipvs(folder: Path) -> dict[str, Any]:
    """kube-proxy's ipvs mode."""
    topology = ipvs_topology()
    with Cluster(topology) as cluster:
        load_kube_ipvs(cluster, (4, 6))
        cluster.snapshot(folder)
        asked = service_flows(topology) + flows6(topology)
        flows = observed(cluster, asked, attempts=3, ordered=True)
        return {"flows": flows, "paths": traced(cluster, flows)}


def service_flows(topology: Topology) -> list[Flow]:
    """Each Service by its ClusterIP, NodePort and external addresses from outside, nodes and pods; IPv4. What is not a
    node's own address the client reaches through k8s-node1."""
    nodes = [node.name for node in topology.nodes]
    clients = [client.name for client in topology.clients]
    pods = [f"pod/{pod.key}" for pod in topology.pods if not pod.host_network and pod.name.startswith("toolbox")]
    flows = []
    for service in topology.services:
        own = [f"pod/{key}" for key in service.pods[:1] if not topology.pod(key).host_network]
        virtual = [(service.cluster_ips[0], "clusterip"), *((ip, "external") for ip in service.external_ips)]
        for ip, kind in virtual:
            ask = [*((source, "") for source in (*nodes, *pods, *own)), ("client", "k8s-node1")]
            flows += [
                Flow(f"{service.name}--{kind}--{source}", source, ip, service.port, service.protocol, via)
                for source, via in ask
            ]
        if service.node_port:
            for node in topology.nodes:
                flows += [
                    Flow(
                        f"{service.name}--nodeport--{source}--{node.name}",
                        source,
                        node.ip(4),
                        service.node_port,
                        service.protocol,
                    )
                    for source in (*clients, *nodes, *pods, *own)
                ]
            flows.append(
                Flow(f"{service.name}--nodeport--localhost", nodes[0], "127.0.0.1", service.node_port, service.protocol)
            )
    return flows


def flows6(topology: Topology) -> list[Flow]:
    """The Services that have IPv6 addresses, by these."""
    sources = ("k8s-node1", "k8s-node2", "pod/default/toolbox", "pod/default/nginx-a")
    flows = []
    for service in topology.services:
        for ip in of_family(service.cluster_ips, 6):
            flows += [
                Flow(f"{service.name}--clusterip6--{source}", source, ip, service.port, service.protocol)
                for source in sources
            ]
            flows += [
                Flow(
                    f"{service.name}--nodeport6--{source}--{node.name}",
                    source,
                    node.ip(6),
                    service.node_port,
                    service.protocol,
                )
                for source in ("client", *sources)
                for node in topology.nodes
                if service.node_port
            ]
    return flows


# ------------------------------------------------------------ ipvlan


MODES = ("l2", "l3", "l3s")


def ipvlan_topology() -> Topology:
    """A node with pods on ipvlan for each mode. In l2 they are in the LAN's own subnet; in the other modes, where nobody
    answers ARP for them, in a subnet of the node with routes to it. Each node has one pod that listens, the one endpoint
    of a Service, so that what comes of a connection is always the same."""
    nodes, pods, services, routes = [], [], [], ["10.96.0.0/12 via " + NODE1]
    for number, mode in enumerate(MODES, 1):
        name, lan = f"k8s-node{number}", f"192.168.52.20{number}"
        subnet = f"10.244.{number}.0/24" if mode != "l2" else ""
        at = f"10.244.{number}" if mode != "l2" else "192.168.52"
        nodes.append(NodeSpec(name, (f"{lan}/24",), (subnet,) if subnet else (), wiring=f"ipvlan-{mode}"))
        pods.append(PodSpec(f"web-{mode}", name, (f"{at}.101",), (("tcp", 80),)))
        pods.append(PodSpec(f"toolbox-{mode}", name, (f"{at}.111",), ()))
        services.append(
            ServiceSpec(
                f"web-{mode}", (f"10.96.10.1{number}",), 80, 80, (f"default/web-{mode}",), node_port=30080 + number
            )
        )
        routes += [f"{subnet} via {lan}"] if subnet else []
    usual = two_nodes()
    return Topology(
        nodes=tuple(nodes),
        pods=tuple(pods),
        services=tuple(services),
        clients=(replace(CLIENT, addresses=CLIENT.addresses[:1], routes=tuple(routes)),),
        cluster_cidrs=("10.244.0.0/16",),
        router=usual.router[:1],
        far_router=usual.far_router[:1],
    )


def ipvlan(folder: Path) -> dict[str, Any]:
    """kube-proxy's iptables mode over pods on ipvlan."""
    return _over_ipvlan(folder, ipvlan_topology(), plugin=False)


def cni_ipvlan(folder: Path) -> dict[str, Any]:
    """The same with pods that the real CNI plugin attached."""
    return _over_ipvlan(folder, ipvlan_topology(), plugin=True)


def _attach(cluster: Cluster, node: NodeSpec, mode: str, folder: Path) -> None:
    plugin = {"type": "ipvlan", "master": cluster.topology.device, "mode": mode,
              "ipam": {"routes": [{"dst": "0.0.0.0/0", **({"gw": ROUTER} if mode == "l2" else {})}]}}  # fmt: skip
    runtime = cni.Runtime(cluster.host(node.name), folder, "legacy", [plugin])
    for pod in cluster.topology.pods:
        if pod.node == node.name:
            subnet = next(iter(node.pod_cidrs), LAN)
            runtime.add(cluster.host(f"pod/{pod.key}"), pod.key, pod.ips[0], subnet)


def _over_ipvlan(folder: Path, topology: Topology, plugin: bool) -> dict[str, Any]:
    modes = [node.wiring.removeprefix("ipvlan-") for node in topology.nodes]
    if plugin:
        topology = replace(topology, nodes=tuple(replace(node, wiring="none") for node in topology.nodes))
    with Cluster(topology) as cluster:
        for node, mode in zip(topology.nodes, modes, strict=True) if plugin else ():
            _attach(cluster, node, mode, folder / "cni" / node.name)
        # A node's own stack has no route to its pods but the default one, so it is the router that sends such a packet
        # back to it, where the device gives it to the pod.
        client = topology.clients[0]
        cluster.host("router").call(
            "ip", [f"route add {route}" for route in client.routes if route.startswith("10.244.")]
        )
        cluster.load_kube_rules("legacy", [4])
        cluster.snapshot(folder)
        sources = ["client", *(node.name for node in topology.nodes), *(f"pod/{pod.key}" for pod in topology.pods)]
        direct = [
            Flow(f"{pod.name}--direct--{source}", source, pod.ips[0], 80, via=pod.node if source == client.name else "")
            for pod in topology.pods
            for source in sources
            if pod.ports and source != f"pod/{pod.key}"
        ]
        # By the plugin or by hand, all is alike: one of the two is asked in full.
        served = [flow for flow in service_flows(topology) if not plugin or flow.source == client.name]
        return {"flows": observed(cluster, served + direct, attempts=1)}


# ------------------------------------------------------------ iptables mode, dummy devices

DUMMIES = (
    ("nodelocaldns", "169.254.20.10/32", "up"),
    ("idle0", "198.51.100.1/32", "down"),
    ("void0", "198.51.101.1/24", "up"),
)
"""Dummy devices: one as node-local DNS has it; one that is down, as kube-ipvs0 is; one with a subnet."""


def iptables(folder: Path) -> dict[str, Any]:
    """The usual cluster in iptables mode, both families, on a kernel years older than the one outside may be; with dummy
    devices on a node. Nothing that is sent out of one of these arrives anywhere."""
    devices = [
        line
        for name, address, state in DUMMIES
        for line in (
            f"link add {name} type dummy",
            f"addr add {address} dev {name}",
            f"link set {name} {state}",
        )
    ]
    first, second = two_nodes().nodes
    networks = ("10.96.0.0/12", "169.254.20.10", "198.51.100.1", "198.51.101.0/24")
    routes = tuple(f"{network} via {NODE1}" for network in networks)
    topology = two_nodes(
        nodes=(replace(first, extra=tuple(devices)), second), clients=(replace(CLIENT, routes=routes), FAR)
    )
    with Cluster(topology) as cluster:
        cluster.load_kube_rules("legacy")
        own = [(name, address.split("/")[0]) for name, address, _ in DUMMIES]
        for name, ip in own:
            cluster.host("k8s-node1").call("listen", "tcp", ip, 53, name)
        cluster.snapshot(folder)
        flows = service_flows(topology) + flows6(topology)
        flows += [
            Flow(f"{name}--{source}", source, ip, 53, via="k8s-node1" if source == "client" else "")
            for name, ip in (*own, ("nobody", "198.51.101.7"))
            for source in ("client", "k8s-node1", "pod/default/toolbox")
        ]
        records = observed(cluster, flows, attempts=4)
        return {"flows": records, "paths": traced(cluster, records)}


# ------------------------------------------------------------ overlays


def ipip(folder: Path) -> dict[str, Any]:
    """One device for all nodes, as calico has it: the route's gateway is the other end."""
    return _overlay(folder, ["link add over type ipip local {own}"], "via {other} dev over onlink", "4")


def gre(folder: Path) -> dict[str, Any]:
    return _overlay(folder, [], "dev over{n}", "47", "link add over{n} type gre local {own} remote {other}")


def geneve(folder: Path) -> dict[str, Any]:
    """IP over the frames of geneve devices: each end has an address that the other asks for."""
    return _overlay(
        folder, [], "via 10.9.{id}.{n} dev over{n}", "17 --dport 6081",
        "link add over{n} type geneve id {id} remote {other}", "addr add 10.9.{id}.{me}/24 dev over{n}",
    )  # fmt: skip


def _overlay(folder: Path, device: list[str], route: str, outer: str, *devices: str) -> dict[str, Any]:
    """Three nodes with tunnels between each two; the third drops the outer packets that come to it."""
    nodes, pods = [], []
    for me in (1, 2, 3):
        lines = [line.format(own=f"192.168.52.20{me}") for line in device]
        lines += ["link set over up"] if device else []
        for n in sorted({1, 2, 3} - {me}):
            words = {
                "own": f"192.168.52.20{me}", "other": f"192.168.52.20{n}", "id": me * n, "me": me, "n": n,
            }  # fmt: skip
            lines += [line.format(**words) for line in devices]
            lines += [f"link set over{n} up"] if devices else []
            lines.append(f"route replace 10.244.{n}.0/24 {route.format(**words)}")
        addresses = (f"192.168.52.20{me}/24",)
        nodes.append(NodeSpec(f"k8s-node{me}", addresses, (f"10.244.{me}.0/24",), extra=tuple(lines)))
        pods.append(PodSpec(f"web-{me}", f"k8s-node{me}", (f"10.244.{me}.5",), (("tcp", 80),)))
    services = tuple(
        ServiceSpec(pod.name, (f"10.96.0.{i}",), 80, 80, (pod.key,), node_port=30000 + i)
        for i, pod in enumerate(pods, 1)
    )
    topology = Topology(
        nodes=tuple(nodes), pods=tuple(pods), services=services, clients=(CLIENT,), cluster_cidrs=("10.244.0.0/16",)
    )
    with Cluster(topology) as cluster:
        cluster.load_kube_rules("legacy", [4])
        drop = f"*filter\n-I INPUT -p {outer} -j DROP\nCOMMIT\n"
        cluster.host("k8s-node3").call("run", ["iptables-legacy-restore", "--noflush"], drop)
        cluster.snapshot(folder)
        sources = [*(node.name for node in nodes), *(f"pod/{pod.key}" for pod in pods)]
        flows = [
            Flow(f"{pod.name}--{kind}--{source}", source, ip, 80)
            for i, pod in enumerate(pods, 1)
            for kind, ip in (("direct", pod.ips[0]), ("clusterip", f"10.96.0.{i}"))
            for source in sources
        ]
        flows += [Flow(f"web-{i}--nodeport", "client", "192.168.52.201", 30000 + i) for i in (1, 2, 3)]
        return {"flows": observed(cluster, flows, attempts=1)}


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ipvs": ipvs,
    "ipvlan": ipvlan,
    "iptables": iptables,
    "cni_ipvlan": cni_ipvlan,
}
OVERLAYS: dict[str, Callable[[Path], dict[str, Any]]] = {"ipip": ipip, "gre": gre, "geneve": geneve}
"""In a boot of their own, so that neither comes near the watchdog's time on a busy machine."""


# ------------------------------------------------------------ of the boot itself


def quick(folder: Path) -> str:
    return folder.name


def writes(folder: Path) -> None:
    """Tries to write where only this machine may."""
    (Path(__file__).parent / "written-inside").write_text("")


def endless(folder: Path) -> None:
    (folder / "begun").write_text("")
    while True:
        time.sleep(1)
