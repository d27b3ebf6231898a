"""Faults done to a running cluster, what finds them, and how each answer of a check is held against real packets.

::

    PYTHONPATH=tests python -m lab.faults --backend legacy     # every fault, every flow: precision and recall
    PYTHONPATH=tests python -m lab.faults --backend nftables --layout 1.34
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from netk8s import checkup, decode, dialects, snapshot
from netk8s.checkup import Asked, Checkup
from netk8s.model import Finding
from netk8s.survey import OUTSIDE
from netk8s.survey._answers import Result

from .cluster import Cluster
from .connections import PATIENT, SEEN
from .kube_nft import FIRST_HAIRPIN_SET, LAYOUTS, endpoint_name, kube_nft, port_name
from .kube_rules import endpoint_chain, kube_rules, service_chain
from .topology import ClientSpec, NodeSpec, PodSpec, ServiceSpec, Topology
from .worker import Connected

NODE, OTHER = "k8s-node1", "k8s-node2"
CLIENT = "outside"
IPTABLES, NFTABLES = ("nft", "legacy"), ("nftables",)
BACKENDS = (*IPTABLES, *NFTABLES)
"""What kube-proxy writes: the backend of its iptables mode, or its nftables mode, beside which others use iptables-nft."""
OTHER_BACKEND = {"nft": "legacy", "legacy": "nft", "nftables": "legacy"}
SERVICES = "10.96.0.0/16"
ATTEMPTS, MORE_ATTEMPTS = 8, 40
"""Connections to a flow of several outcomes. A flow of one outcome is asked once, and again where that is silence."""


def usual(**changes: object) -> Topology:
    """Two nodes with a pod that is no endpoint on each, Services of each kind, and the client that a check asks as."""
    web = (("tcp", 8080),)
    made: dict[str, object] = {
        "nodes": (
            NodeSpec(NODE, ("192.168.52.201/24",), ("10.244.1.0/24",)),
            NodeSpec(OTHER, ("192.168.52.202/24",), ("10.244.2.0/24",)),
        ),
        "pods": (
            PodSpec("web-a", NODE, ("10.244.1.5",), web), PodSpec("web-b", NODE, ("10.244.1.6",), web),
            PodSpec("web-c", OTHER, ("10.244.2.5",), web), PodSpec("one-a", NODE, ("10.244.1.24",), web),
            PodSpec("local-a", NODE, ("10.244.1.7",), web), PodSpec("local-b", OTHER, ("10.244.2.7",), web),
            PodSpec("dns-a", NODE, ("10.244.1.9",), (("udp", 5353),)), PodSpec("dns-b", OTHER, ("10.244.2.9",), (("udp", 5353),)),
            PodSpec("idle-1", NODE, ("10.244.1.120",), ()), PodSpec("idle-2", OTHER, ("10.244.2.120",), ()),
            PodSpec("exporter", NODE, (), (("tcp", 9100),), host_network=True),
        ),
        "services": (
            ServiceSpec("web", ("10.96.120.30",), 80, 8080, ("default/web-a", "default/web-b", "default/web-c"), node_port=30000),
            ServiceSpec("one", ("10.96.52.1",), 8000, 8080, ("default/one-a",), node_port=30090),
            ServiceSpec("local", ("10.96.70.70",), 80, 8080, ("default/local-a", "default/local-b"), node_port=30080, external_policy="Local"),
            ServiceSpec("dns", ("10.96.53.53",), 53, 5353, ("default/dns-a", "default/dns-b"), "udp", 30053),
            ServiceSpec("exporter", ("10.96.91.1",), 9100, 9100, ("default/exporter",)),
        ),
        "clients": (ClientSpec(CLIENT, ("198.51.100.10/24",), far=True),),
        "cluster_cidrs": ("10.244.0.0/16",),
        "router": ("192.168.52.1/24",),
        "far_router": ("198.51.100.1/24",),
        **changes,
    }  # fmt: skip
    return Topology(**made)  # type: ignore[arg-type]


TOPOLOGY = usual()
WEB, ONE, LOCAL, DNS, EXPORTER = TOPOLOGY.services
CNI_MASQUERADE = "-A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE"
"""A CNI plugin masquerades what pods send out of the cluster, or to nodes."""


class Bench:
    """A cluster that faults are done to. ``backend``: one of BACKENDS; ``layout`` of nftables mode.

    ``before``: what kube-proxy wrote in iptables mode with another backend, and left there.
    """

    def __init__(
        self, backend: str, topology: Topology = TOPOLOGY, before: Topology | None = None, layout: str = LAYOUTS[-1]
    ) -> None:
        self.topology, self.backend, self.before, self.layout = topology, backend, before, layout
        self.tool = "nft" if backend in NFTABLES else backend
        self.cluster = Cluster(topology)
        try:
            for node in topology.nodes:
                # What kube-proxy sets for NodePorts on 127.0.0.1.
                self.sysctl(node.name, **{"net.ipv4.conf.all.route_localnet": "1"})
                if before is not None:
                    self.reload(before, node.name, OTHER_BACKEND[backend])
                if backend in NFTABLES:
                    self.cluster.load(node.name, f"*nat\n{CNI_MASQUERADE}\nCOMMIT\n", self.tool)
                self.reload(topology, node.name)
                # The kubelet: a node without any listener is none.
                self.cluster.host(node.name).call("listen", "tcp", node.ip(4), 10250, "kubelet")
            self.cluster.backend = self.tool
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.cluster.close()

    def on(self, host: str, *argv: str, stdin: str | None = None) -> str:
        return str(self.cluster.host(host).call("run", list(argv), stdin))

    def ip(self, host: str, *lines: str) -> None:
        self.cluster.host(host).call("ip", list(lines))

    def sysctl(self, host: str, **values: str) -> None:
        self.cluster.host(host).call("sysctl", {name.replace("__", "."): value for name, value in values.items()})

    def iptables(self, *words: str, node: str = NODE, table: str = "filter") -> None:
        self.on(node, f"iptables-{self.tool}", "-t", table, *words)

    def nat(self, *words: str, node: str = NODE) -> None:
        self.iptables(*words, node=node, table="nat")

    def reload(self, topology: Topology, node: str = NODE, backend: str = "") -> None:
        """The rules that kube-proxy would have written for another state of the API."""
        backend = backend or self.backend
        if backend in NFTABLES:
            self.cluster.load_nft(node, kube_nft(topology, topology.node(node), 4, self.layout))
            return
        rules = kube_rules(topology, topology.node(node), 4)
        self.cluster.load(node, rules.removesuffix("COMMIT\n") + f"{CNI_MASQUERADE}\nCOMMIT\n", backend)

    def nft(self, text: str, node: str = NODE) -> None:
        self.cluster.load_nft(node, text)

    def place(self, service: ServiceSpec, ip: str) -> str:
        """An endpoint in the map that balances."""
        if self.layout < FIRST_HAIRPIN_SET:
            return f"goto endpoint-{endpoint_name(service, ip, service.target_port)}"
        return f"{ip} . {service.target_port}"

    def edited(self, old: str, new: str, node: str = NODE) -> None:
        """A node's rules with one text in place of another."""
        table = "table ip kube-proxy"
        native = self.backend in NFTABLES
        saved = (
            self.on(node, "nft", "list", *table.split())
            if native
            else self.cluster.host(node).call("save", self.tool, 4)
        )
        assert old in saved, f"{old!r} is not in the rules of {node}"
        saved = saved.replace(old, new)
        if native:
            self.nft(f"delete {table}\n{saved}", node)
        else:
            self.cluster.load(node, saved, self.tool)

    def device(self, pod: str, node: str = NODE) -> str:
        """The host side's name of a pod's link."""
        index = self.on(f"pod/default/{pod}", "ip", "-o", "link", "show", "eth0").partition("@if")[2].partition(":")[0]
        listed = self.on(node, "ip", "-o", "link").splitlines()
        return next(line.split()[1].split("@")[0] for line in listed if line.split(":")[0] == index)

    def port(self, node: str) -> str:
        """The LAN's end of a node's link."""
        index = self.on(node, "ip", "-o", "link", "show", "ens33").partition("@if")[2].partition(":")[0]
        listed = self.on("lan", "ip", "-o", "link").splitlines()
        return next(line.split()[1].split("@")[0] for line in listed if line.split(":")[0] == index)

    def dump(self, folder: Path) -> None:
        self.cluster.snapshot(folder)
        for node in self.topology.nodes:
            # A firewall of its own is in nftables whatever kube-proxy writes to.
            here = folder / "nodes" / node.name
            (here / "nft-ruleset.txt").write_text(self.on(node.name, "nft", "list", "ruleset"))
            (here / "nft-ruleset.json").write_text(self.on(node.name, "nft", "-j", "list", "ruleset"))
        if self.before is not None:
            left = OTHER_BACKEND[self.backend]
            for node in self.topology.nodes:
                text = self.cluster.host(node.name).call("save", left, 4)
                (folder / "nodes" / node.name / f"iptables-{left}-save.txt").write_text(text)

    def warm(self) -> None:
        """Every pod has had packets, as on any node: neighbours and forwarding entries are known."""
        for pod in self.topology.pods:
            for protocol, port in pod.ports if pod.ips else ():
                for node in (pod.node, OTHER if pod.node == NODE else NODE):
                    self.cluster.connect(node, pod.ips[0], port, protocol)

    def missed(self, ip: str, port: int, node: str = NODE) -> None:
        """A node has dialled it for so long that ARP has given up."""
        for _ in range(2):
            self.cluster.host(node).call("connect", ip, port, timeout=3.5)


def with_service(spec: ServiceSpec, **changes: object) -> Topology:
    """The usual cluster with one Service otherwise."""
    services = tuple(replace(s, **changes) if s is spec else s for s in TOPOLOGY.services)  # type: ignore[arg-type]
    return replace(TOPOLOGY, services=services)


def with_gone(pod: str, **changes: object) -> Topology:
    """The usual cluster as it was when Service "one" had another pod, which is gone."""
    gone = PodSpec(pod, NODE, ("10.244.1.240",))
    changed = with_service(ONE, pods=(gone.key,), **changes)
    return replace(changed, pods=(*changed.pods, gone))


@dataclass(frozen=True)
class Fault:
    """``do``: what is done. ``codes``: one of them comes first of what is no information, and all that begin a problem
    of that severity are in ``codes`` or ``also`` (true beside it). ``at``: the cluster that it is done to. ``modes``: those
    of BACKENDS that it can be done in, ``layouts`` those of nftables mode. ``by_hand``: takes long, and is not in the suite.
    """

    name: str
    do: Callable[[Bench], object]
    codes: str
    also: str = ""
    at: Topology = TOPOLOGY
    before: Topology | None = None
    modes: Sequence[str] = BACKENDS
    layouts: Sequence[str] = LAYOUTS
    by_hand: bool = False


def flush(*chains: str, table: str = "nat") -> Callable[[Bench], None]:
    def do(bench: Bench) -> None:
        for chain in chains:
            bench.iptables("-F", chain, table=table)

    return do


def rule(*words: str, table: str = "filter", node: str = NODE) -> Callable[[Bench], None]:
    return lambda bench: bench.iptables(*words, table=table, node=node)


def settings(node: str = NODE, **values: str) -> Callable[[Bench], None]:
    return lambda bench: bench.sysctl(node, **values)


def links(*lines: str, node: str = NODE) -> Callable[[Bench], None]:
    return lambda bench: bench.ip(node, *lines)


def nft(*lines: str, node: str = NODE) -> Callable[[Bench], None]:
    """Commands of nft, about kube-proxy's table where they name none."""
    return lambda bench: bench.nft("".join(line.replace("KP", "ip kube-proxy") + "\n" for line in lines), node)


def older(topology: Topology, node: str = NODE) -> Callable[[Bench], None]:
    return lambda bench: bench.reload(topology, node)


SEP_ONE = endpoint_chain(ONE, "10.244.1.24:8080")
SVC_ONE, SVC_WEB = service_chain(ONE, "SVC"), service_chain(WEB, "SVC")
TWO_NETWORKS = replace(
    TOPOLOGY, nodes=tuple(replace(n, back=(f"192.168.60.{n.ip(4).rpartition('.')[2]}/24",)) for n in TOPOLOGY.nodes)
)
LINKWATCH = 1.5
"""Seconds in which the kernel says of every device that its carrier is gone (net/core/link_watch.c: once in a second)."""
NOTHING = "no finding"
"""In the place of a code: a healthy cluster, of which nothing is told."""

MARKED = "table ip qos {{\n chain sets {{ type {} priority mangle; meta mark set 0x77; }}\n}}"
ROUTED_BY_MARK = ("route add unreachable default table 77", "rule add fwmark 0x77 table 77 priority 90")
PORT_ONE = port_name(ONE)
MARKED_BY_JUMP = tuple(layout for layout in LAYOUTS if layout < FIRST_HAIRPIN_SET)
OTHER_PORTS = """table ip ports {{
 chain pre {{ type nat hook prerouting priority {priority}; fib daddr type local tcp dport 30090 dnat to 10.244.1.5:8080; }}
}}"""
"""As a CNI plugin's hostPorts."""
DNAT_ONE = ("-p", "tcp", "-m", "comment", "--comment", ONE.key, "-m", "tcp", "-j", "DNAT", "--to-destination")


def taken_nodeport(bench: Bench) -> None:
    bench.cluster.host(NODE).call("listen", "tcp", "192.168.52.201", WEB.node_port, "somebody")


def used(bench: Bench) -> None:
    """A Service is in use, so that tracked connections show whose rules decide."""
    for host in ("pod/default/idle-1", "pod/default/idle-2"):
        bench.cluster.connect(host, ONE.cluster_ips[0], ONE.port)


def stale_connection(bench: Bench) -> None:
    """A client that keeps its port keeps its endpoint, as long as the entry lives, though that is none any more."""
    bench.reload(with_service(DNS, pods=("default/dns-b",)))
    asked_from_one_port(bench, "pod/default/idle-1", DNS.cluster_ips[0], DNS.port)
    bench.reload(bench.topology)


def untranslated_connection(bench: Bench) -> None:
    """What a client began before its node had rules for the Service."""
    bench.reload(replace(TOPOLOGY, services=tuple(s for s in TOPOLOGY.services if s is not DNS)))
    asked_from_one_port(bench, "pod/default/idle-1", DNS.cluster_ips[0], DNS.port)
    bench.reload(TOPOLOGY)


def kept_stale(bench: Bench) -> None:
    """Rules and what affinity remembers are of a pod that is gone."""
    bench.reload(with_gone("one-old", affinity=600))
    bench.nft(f"add element ip kube-proxy affinity-{endpoint_name(ONE, '10.244.1.240', 8080)} {{ 10.244.1.120 }}")


def asked_from_one_port(bench: Bench, host: str, ip: str, port: int) -> None:
    bench.on(host, sys.executable, "-c", f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 45000)); s.settimeout(.1); s.connect(({ip!r}, {port}))
for _ in range(2):
    s.send(b"who")
    try:
        s.recv(4096)
    except OSError:
        pass
""")  # fmt: skip


FAULTS = (
    Fault("nothing", lambda b: None, NOTHING),
    Fault("stale endpoint", older(with_gone("one-old")), "NK605", "NK206 NK405 NK607"),
    Fault("KUBE-POSTROUTING flushed", flush("KUBE-POSTROUTING"), "NK401", "NK403 NK404", modes=IPTABLES),
    Fault("chain of a Service flushed", flush(SVC_ONE), "NK607", "NK205 NK204 NK402", modes=IPTABLES),
    Fault("KUBE-SERVICES flushed", flush("KUBE-SERVICES"), "NK602", "NK205 NK204 NK402", modes=IPTABLES),
    Fault("no rule for a Service", older(replace(TOPOLOGY, services=tuple(s for s in TOPOLOGY.services if s is not ONE))), "NK604", "NK205 NK601 NK204"),
    Fault("endpoint chain without DNAT", rule("-D", SEP_ONE, *DNAT_ONE, "10.244.1.24:8080", table="nat"), "NK607", "NK205 NK204 NK402", modes=IPTABLES),
    Fault("endpoint missing from the rules", older(with_service(WEB, pods=WEB.pods[:2])), "NK607", "NK206"),
    Fault("wrong probability", lambda b: b.edited("probability 0.33333333349", "probability 0.90000000014"), "NK611", "NK303", modes=IPTABLES),
    Fault("second backend", used, "NK603", "NK504", before=with_gone("one-old"), modes=IPTABLES),
    Fault("ip_forward off", settings(net__ipv4__ip_forward="0"), "NK404", "NK403"),
    Fault("forwarding off on one device", settings(**{"net.ipv4.conf.cni0.forwarding": "0"}), "NK404", "NK403", by_hand=True),
    Fault("bridge-nf off", settings(**{"net.bridge.bridge-nf-call-iptables": "0"}), "NK407", "NK403"),
    Fault("hairpin off", lambda b: b.ip(NODE, f"link set dev {b.device('one-a')} type bridge_slave hairpin off"), "NK406", "NK503"),
    Fault("hairpin not masqueraded", rule("-D", SEP_ONE, "-s", "10.244.1.24", "-m", "comment", "--comment", ONE.key, "-j", "KUBE-MARK-MASQ", table="nat"), "NK404", "NK403", modes=IPTABLES),
    Fault("missing route", links("route del 10.244.2.0/24"), "NK404", "NK405", by_hand=True),
    Fault("blackhole route", links("route replace blackhole 10.244.2.0/24"), "NK404"),
    Fault("a rule of routing leads nowhere", links("route add unreachable default table 77", "rule add from 10.244.1.0/24 table 77 priority 90"), "NK404", "NK403", by_hand=True),
    Fault("FORWARD's policy is DROP", rule("-P", "FORWARD", "DROP"), "NK402"),
    Fault("another firewall drops what is forwarded", lambda b: b.on(NODE, "nft", "-f", "-", stdin="table inet wall {\n chain forward {\n  type filter hook forward priority 10; policy drop;\n  ct state established,related accept\n }\n}\n"), "NK402", by_hand=True),
    Fault("a rule drops one Service's endpoint", rule("-I", "FORWARD", "-p", "tcp", "-d", "10.244.1.24", "-j", "DROP"), "NK402"),
    Fault("a rule rejects what a pod answers", rule("-I", "FORWARD", "-p", "tcp", "-s", "10.244.1.24", "--sport", "8080", "-j", "REJECT"), "NK402", "NK403"),
    Fault("raw drop of a NodePort", rule("-A", "PREROUTING", "-p", "tcp", "--dport", "30090", "-j", "DROP", table="raw"), "NK402"),
    Fault("INPUT drop of a NodePort", rule("-I", "INPUT", "-p", "tcp", "--dport", "30090", "-j", "DROP"), "NK502"),
    Fault("drop of a NodePort at nftables' input", nft("table inet wall {\n chain in { type filter hook input priority filter; tcp dport 30090 drop; }\n}"), "NK502"),
    Fault("nothing is tracked", rule("-A", "PREROUTING", "-s", "10.244.1.0/24", "-j", "CT", "--notrack", table="raw"), "NK205", "NK204 NK402 NK403 NK404"),
    Fault("wrong cluster CIDR", older(replace(TOPOLOGY, cluster_cidrs=("10.99.0.0/16",))), "NK101"),
    Fault("no endpoints", lambda b: None, "NK201", at=with_service(ONE, pods=())),
    Fault("a pod's link is down", lambda b: (b.warm(), b.ip(NODE, f"link set {b.device('one-a')} down")), "NK405"),
    Fault("a node's device has no carrier", lambda b: (b.ip("lan", f"link set {b.port(NODE)} down"), time.sleep(LINKWATCH)), "NK405", "NK405 NK404"),
    Fault("a node's device is switched off", lambda b: b.ip(NODE, "link set ens33 down"), "NK404", "NK405 NK404"),
    Fault("a pod's link has left the bridge", lambda b: (b.ip(NODE, f"link set {b.device('one-a')} nomaster"), b.missed("10.244.1.24", 8080)), "NK405"),
    Fault("a pod's own device is down", lambda b: (b.warm(), b.cluster.host("pod/default/one-a").call("ip", ["link set eth0 down"]), time.sleep(LINKWATCH)), "NK405"),
    Fault("hostNetwork process gone", lambda b: None, "NK204", at=replace(TOPOLOGY, pods=tuple(replace(p, ports=()) if p.host_network else p for p in TOPOLOGY.pods))),
    Fault("NodePort at 127.0.0.1 without route_localnet", settings(**{"net.ipv4.conf.all.route_localnet": "0"}), "NK408", modes=IPTABLES),
    Fault("reverse path filter", lambda b: (b.ip(NODE, "route add 198.51.100.0/24 via 192.168.60.202"), b.sysctl(NODE, **{"net.ipv4.conf.all.rp_filter": "1"})), "NK411 NK402", "NK411 NK402", at=TWO_NETWORKS),
    Fault("masqueraded to an address that nobody has", rule("-I", "POSTROUTING", "-d", "10.244.2.0/24", "-o", "ens33", "-j", "SNAT", "--to-source", "192.168.52.77", table="nat"), "NK403", "NK403 NK404 NK405 NK101"),
    Fault("hostPort in the way of a NodePort", rule("-I", "PREROUTING", "-p", "tcp", "--dport", "30090", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "DNAT", "--to-destination", "10.244.1.5:8080", table="nat"), "NK206", "NK404", modes=IPTABLES),
    Fault("a process listens on a NodePort", taken_nodeport, "NK612"),
    Fault("an endpoint on another port", older(with_service(ONE, target_port=81)), "NK606", "NK206"),
    Fault("rules of another traffic policy", older(with_service(LOCAL, external_policy="Cluster")), "NK609", "NK206"),
    Fault("a node without kube-proxy", flush("KUBE-SERVICES", "KUBE-NODEPORTS", "PREROUTING", "OUTPUT", "POSTROUTING"), "NK602", "NK205 NK204 NK402 NK403", modes=IPTABLES),
    Fault("stale UDP connection", stale_connection, "NK420", at=with_service(DNS, pods=("default/dns-a",))),
    Fault("UDP connection from before the Service", untranslated_connection, "NK421"),
    Fault("a chain of no Service", rule("-N", "KUBE-SVC-AAAAAAAAAAAAAAAA", table="nat"), "NK615", modes=IPTABLES),
    *(replace(fault, modes=NFTABLES) for fault in (
        Fault("chain masquerading flushed", nft("flush chain KP masquerading"), "NK401 NK404", "NK401 NK403 NK404", by_hand=True),
        Fault("service chain flushed", nft(f"flush chain KP service-{PORT_ONE}"), "NK607", "NK205 NK204 NK402"),
        Fault("external chain flushed", nft(f"flush chain KP external-{PORT_ONE}"), "NK607", "NK204"),
        Fault("chain services flushed", nft("flush chain KP services"), "NK602", "NK205 NK204 NK402"),
        Fault("chain nat-prerouting flushed", nft("flush chain KP nat-prerouting"), "NK204", "NK205 NK204 NK402"),
        Fault("chain nat-output flushed", nft("flush chain KP nat-output"), "NK205", "NK205 NK204 NK402"),
        Fault("chain nat-postrouting flushed", nft("flush chain KP nat-postrouting"), "NK401 NK404", "NK401 NK403 NK404", by_hand=True),
        Fault("kube-proxy's own chain drops", nft("add chain KP filter-forward { policy drop; }"), "NK402", by_hand=True),
        Fault("table switched off", nft("add table KP { flags dormant; }"), "NK602", "NK205 NK204 NK402 NK404"),
        Fault("no element for a ClusterIP", nft(f"delete element KP service-ips {{ {ONE.cluster_ips[0]} . tcp . {ONE.port} }}"), "NK604", "NK205 NK204 NK402"),
        Fault("no element for a NodePort", nft(f"delete element KP service-nodeports {{ tcp . {ONE.node_port} }}"), "NK604", "NK205 NK204 NK402"),
        Fault("node's address not in nodeport-ips", nft("flush set KP nodeport-ips"), "NK204", "NK205 NK204 NK402"),
        Fault("no element for a Service without endpoints", nft(f"delete element KP no-endpoint-services {{ {ONE.cluster_ips[0]} . tcp . {ONE.port} }}", f"delete element KP no-endpoint-nodeports {{ tcp . {ONE.node_port} }}"), "NK604", "NK201 NK205 NK204 NK402", at=with_service(ONE, pods=())),
        Fault("no drop for the policy Local", nft(f"delete element KP no-endpoint-nodeports {{ tcp . {LOCAL.node_port} }}"), "NK204", "NK202", at=with_service(LOCAL, pods=LOCAL.pods[1:])),
        Fault("chain mark-for-masquerade flushed", nft("flush chain KP mark-for-masquerade"), "NK401 NK404", "NK401 NK403 NK404", layouts=MARKED_BY_JUMP, by_hand=True),
        Fault("endpoint chain does not translate", lambda b: b.edited("meta l4proto tcp dnat to 10.244.1.24:8080", ""), "NK607", "NK205 NK204 NK402", layouts=MARKED_BY_JUMP),
        Fault("endpoint's own connections not marked", lambda b: b.edited("ip saddr 10.244.1.24 jump mark-for-masquerade", ""), "NK404", "NK403", layouts=MARKED_BY_JUMP),
        Fault("endpoint's own connections not in hairpin-connections", nft("delete element KP hairpin-connections { 10.244.1.24 . 10.244.1.24 . tcp . 8080 }"), "NK404", "NK403", layouts=LAYOUTS[2:]),
        Fault("ClusterIP not in cluster-ips", nft(f"delete element KP cluster-ips {{ {WEB.cluster_ips[0]} }}"), "NK403", "NK404", layouts=LAYOUTS[2:]),
        Fault("an endpoint's place is empty", lambda b: b.edited(", 2 : " + b.place(WEB, "10.244.2.5"), ""), "NK204 NK607", "NK205 NK206 NK402"),
        Fault("an endpoint has two places", lambda b: b.edited("2 : " + b.place(WEB, "10.244.2.5"), "2 : " + b.place(WEB, "10.244.1.5")), "NK607", "NK206"),
        Fault("an endpoint has more places", lambda b: (b.edited("mod 3 ", "mod 4 "), b.edited("2 : " + b.place(WEB, "10.244.2.5"), "2-3 : " + b.place(WEB, "10.244.2.5"))), "NK611", "NK303"),
        Fault("affinity of other seconds", older(with_service(ONE, affinity=60)), "NK610", at=with_service(ONE, affinity=600)),
        Fault("affinity that is not asked for", older(with_service(WEB, affinity=600)), "NK610"),
        Fault("a client keeps its endpoint", lambda b: b.nft(f"add element ip kube-proxy affinity-{endpoint_name(WEB, '10.244.2.5', 8080)} {{ 10.244.1.120 }}"), NOTHING, at=with_service(WEB, affinity=600)),
        Fault("a client keeps an endpoint that is gone", kept_stale, "NK605", "NK206 NK405 NK607", at=with_service(ONE, affinity=600)),
        Fault("rules of iptables mode left behind", used, "NK206", "NK603 NK522 NK405", before=with_gone("one-old")),
        Fault("node without the table kube-proxy", nft("delete table KP"), "NK602", "NK205 NK204 NK402 NK403"),
        Fault("nftables drops a NodePort before all else", nft("table inet wall {\n chain early { type filter hook prerouting priority raw; tcp dport 30090 drop; }\n}"), "NK402"),
        Fault("nftables rejects an endpoint before kube-proxy looks", nft("table ip wall {\n chain onward { type filter hook forward priority -120; ip daddr 10.244.1.24 tcp dport 8080 reject; }\n}"), "NK402"),
        Fault("nftables drops what a mark is on", nft("table inet wall {\n chain onward { type filter hook forward priority 5; meta mark & 0x4000 != 0 drop; }\n}"), "NK402", by_hand=True),
        Fault("another table translates a NodePort first", nft(OTHER_PORTS.format(priority=-105)), "NK206", "NK404", by_hand=True),
        Fault("another table translates a NodePort, registered last", nft(OTHER_PORTS.format(priority=-100)), "NK206", "NK404"),
        Fault("another table translates a NodePort, registered first", lambda b: (b.nft(OTHER_PORTS.format(priority=-100)), b.reload(b.topology)), "NK206", "NK404"),
        Fault("another table translates a NodePort too late", nft(OTHER_PORTS.format(priority=-95)), "NK206", "NK404", by_hand=True),
        Fault("another table redirects a NodePort", nft("table ip ports {\n chain pre { type nat hook prerouting priority -105; tcp dport 30090 redirect to :9999; }\n}"), "NK206 NK204", "NK204 NK404", by_hand=True),
        Fault("another table's mark has kube-proxy's bit", nft("table inet qos {\n chain pre { type filter hook prerouting priority mangle; ip saddr 10.244.1.0/24 meta mark set meta mark or 0x4000; }\n}"), "NK101"),
        Fault("another table's mark is routed elsewhere", lambda b: (b.nft(MARKED.format("filter hook prerouting")), b.ip(NODE, *ROUTED_BY_MARK)), "NK404", "NK403", by_hand=True),
        Fault("the node's own packets are marked and routed elsewhere", lambda b: (b.nft(MARKED.format("route hook output")), b.ip(NODE, *ROUTED_BY_MARK)), "NK404", "NK403", by_hand=True),
        Fault("another table does not track", nft("table ip fast {\n chain pre { type filter hook prerouting priority raw; ip saddr 10.244.1.0/24 notrack; }\n}"), "NK205", "NK204 NK402 NK403 NK404", by_hand=True),
        Fault("another table takes the mark away", nft("table inet qos {\n chain post { type filter hook postrouting priority mangle; meta mark set 1; }\n}"), "NK401 NK403 NK404", "NK401 NK403 NK404", by_hand=True),
        Fault("another table has its own source first", nft("table ip wall {\n chain post { type nat hook postrouting priority 99; oifname ens33 ip daddr 10.244.2.0/24 snat to 192.168.52.77; }\n}"), "NK403", "NK403 NK404 NK405 NK101", by_hand=True),
        Fault("a service chain that nothing leads to", nft("table KP {\n chain service-AAAAAAAA-default/gone/tcp/ { meta l4proto tcp dnat to 10.244.1.5:8080; }\n}"), NOTHING),
        Fault("an empty chain of a Service that is gone", nft("add chain KP service-AAAAAAAA-default/gone/tcp/"), NOTHING),
    )),
)  # fmt: skip
"""By name: what is done to the cluster, and what finds it."""

BENIGN = {"NK101", "NK202", "NK301"}
"""What is true of the usual cluster, told below an error."""


# ------------------------------------------------------------ asking


def checked(bench: Bench, folder: Path) -> Checkup:
    bench.dump(folder)
    return checkup.check(dialects.complete(decode.decode(snapshot.read([str(folder)]))))


def dialled(asked: Asked) -> tuple[str, str, int, str]:
    """(host, address, port, protocol) of the connection that a question is about."""
    question = asked.question
    ask = question.ask
    ip, _, port = ask.target.rpartition(":")
    host = ask.source.removeprefix("node/")
    return CLIENT if question.client == OUTSIDE else host, ip, int(port), ask.protocol or "tcp"


def connections(bench: Bench, flows: Sequence[Asked]) -> list[list[Connected]]:
    """Those of each flow. Those of one host are made one after the other, those of different hosts side by side.

    The client's come last: what the router has for them takes a packet that nobody translated to a node too.
    """
    out: list[list[Connected]] = [[] for _ in flows]
    left: dict[str, list[tuple[int, int]]] = {}
    for index, asked in enumerate(flows):
        left.setdefault(dialled(asked)[0], []).append((index, ATTEMPTS if len(asked.answer.results) > 1 else 1))
    last = {CLIENT: left.pop(CLIENT, [])}
    while any(left.values()) or any(last.values()):
        left = left if any(left.values()) else last
        turn = [(host, *queue.pop(0)) for host, queue in left.items() if queue]
        for _, index, _ in turn:
            begin(bench, flows[index])
        for host, index, attempts in turn:
            out[index].append(bench.cluster.host(host).wait())
            silent = len(out[index]) >= 2 and all(a.result == "timeout" for a in out[index])
            if attempts > 1 and not silent:
                left[host].insert(0, (index, attempts - 1))
    for index, asked in enumerate(flows):
        if differs(bench.topology, asked, out[index]) and any(answer.result == "timeout" for answer in out[index]):
            # A machine that was busy: with more patience it shows.
            begin(bench, asked, timeout=PATIENT)
            out[index] = [bench.cluster.host(dialled(asked)[0]).wait()]
    return out


def begin(bench: Bench, asked: Asked, **options: float) -> None:
    """Begins the connection that a question is about."""
    host, ip, port, protocol = dialled(asked)
    via = asked.question.ask.via
    # The router sends Services' addresses to the node that the question enters at, and to none otherwise.
    way = f"replace {SERVICES} via {bench.topology.node(via).ip(4)}" if host == CLIENT and via else f"flush {SERVICES}"
    bench.ip("router", f"route {way}")
    bench.cluster.host(host).post("connect", ip, port, protocol, **options)


def differs(topology: Topology, asked: Asked, answers: Sequence[Connected]) -> str:
    """ "" if each connection ended as one of the results that were told, with the endpoint and the source of it."""
    results = asked.answer.results
    for answer in answers:
        if not any(fits(topology, result, answer) for result in results):
            told = ", ".join(f"{r.verdict} {r.ip or ''} seen {r.source or ''}" for r in results)
            return f"kernel: {answer.result} {answer.endpoint or ''} seen {answer.seen_src_ip or ''}; told: {told}"
    return ""


def fits(topology: Topology, result: Result, answer: Connected) -> bool:
    known = {(ip, port) for pod in topology.pods for ip in topology.pod_ips(pod, 4) for _, port in pod.ports}
    if result.verdict == "delivered" and (str(result.ip), result.port) not in known:
        return answer.result == "refused"  # what listens in a pod is in no dump
    if answer.result not in SEEN.get(result.verdict, {answer.result}):
        return False
    if result.verdict != "delivered":
        return True
    return (answer.endpoint, answer.seen_src_ip) == (f"{result.ip}:{result.port}", str(result.source))


def fails(bench: Bench, asked: Asked) -> bool:
    """Whether a flow of several outcomes, all of whose connections worked, ever fails: dice may take their time."""
    for _ in range(MORE_ATTEMPTS if len(asked.answer.results) > 1 else 0):
        begin(bench, asked)
        if bench.cluster.host(dialled(asked)[0]).wait().result != "connected":
            return True
    return False


@dataclass
class Held:
    """What a check of a fault is worth: its own code, and each answer against connections."""

    fault: Fault
    first: Finding | None
    wrong: list[str]
    false: list[str]
    flows: int = 0
    failing: int = 0
    errors: int = 0


def held(fault: Fault, backend: str, folder: Path, most: int | None = None, layout: str = LAYOUTS[-1]) -> Held:
    """Does a fault, checks, and makes the connections. ``most``: of so many flows, those of errors first."""
    with Bench(backend, fault.at, fault.before, layout) as bench:
        return done(bench, fault, folder, most)


def done(bench: Bench, fault: Fault, folder: Path, most: int | None = None) -> Held:
    """Does a fault to a bench and checks that. As :func:`held`."""
    fault.do(bench)
    found = checked(bench, folder)
    told = [problem.finding for problem in found.problems if problem.finding.severity != "info"]
    worth = [f for f in told if f.code not in BENIGN or f.code in fault.codes.split()]
    worth = worth or [problem.finding for problem in found.problems if problem.finding.code in fault.codes.split()]
    out = Held(fault, worth[0] if worth else None, [], [])
    own = {*fault.codes.split(), *fault.also.split()}
    if (out.first.code if out.first is not None else NOTHING) not in (fault.codes, *fault.codes.split()):
        out.wrong.append(f"first is {out.first and (out.first.code, out.first.summary)}, not {fault.codes}")
    out.false += [f"{f.code} {f.summary}" for f in told if f.code not in own | BENIGN]
    errors = [i for i, problem in enumerate(found.problems) if problem.finding.severity == "error"]
    # The router knows the nodes' first network only.
    flows = [a for a in found.asked if "/" in a.question.port.service and not a.question.address.endswith("(eth1)")]
    flows.sort(key=lambda asked: next((p for p in asked.problems if p in errors), len(found.problems)))
    shown = flows if most is None else spread(flows, errors, most)
    failed = set()
    for asked, answers in zip(shown, connections(bench, shown), strict=True):
        out.flows += 1
        difference = differs(bench.topology, asked, answers)
        if difference:
            out.wrong.append(
                f"{asked.question.kind} {asked.question.ask.target} from {asked.question.ask.source} by {asked.question.ask.via}: {difference}"
            )
        if any(answer.result != "connected" for answer in answers):
            out.failing += 1
            failed.update(asked.problems)
    reached = {p for asked in shown for p in asked.problems}
    for index in errors:
        if index in reached:
            out.errors += 1
            if index not in failed and not any(fails(bench, asked) for asked in shown if index in asked.problems):
                finding = found.problems[index].finding
                out.false.append(f"all connections work: {finding.code} {finding.summary}")
    return out


def spread(flows: Sequence[Asked], errors: Sequence[int], most: int) -> list[Asked]:
    """Two flows of each error, and others evenly."""
    chosen = {id(a): a for e in errors for a in [asked for asked in flows if e in asked.problems][:2]}
    rest = [asked for asked in flows if id(asked) not in chosen]
    step = max(1, len(rest) // max(1, most - len(chosen)))
    return [*chosen.values(), *rest[::step]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=BACKENDS, default="nft")
    parser.add_argument("--layout", choices=LAYOUTS, default=LAYOUTS[-1], help="of nftables mode")
    parser.add_argument("--only", default="", help="faults whose name has this")
    options = parser.parse_args()
    total = [0, 0, 0, 0, 0]
    for fault in FAULTS:
        if options.only not in fault.name or options.backend not in fault.modes:
            continue
        if options.backend in NFTABLES and options.layout not in fault.layouts:
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = held(fault, options.backend, Path(folder), layout=options.layout)
        first = f"{result.first.code} {result.first.summary}" if result.first else "nothing"
        print(
            f"{fault.name}: {result.flows} flows, {result.failing} fail, {result.errors} errors; first: {first}",
            flush=True,
        )
        for text in (*result.wrong, *result.false):
            print(f"    {text}", flush=True)
        counts = (result.flows, result.failing, result.errors, len(result.wrong), len(result.false))
        total = [a + b for a, b in zip(total, counts, strict=True)]
    print("flows {}, of which {} fail; errors with flows {}; wrong answers {}, false findings {}".format(*total))
    return int(bool(total[3] or total[4]))


if __name__ == "__main__":
    sys.exit(main())
