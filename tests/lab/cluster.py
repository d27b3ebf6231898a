"""Builds a :class:`~lab.topology.Topology` out of namespaces, and asks it things.

::

    with Cluster(two_nodes()) as cluster:
        cluster.load_kube_rules("nft")
        cluster.connect("client", "192.168.52.201", 30000)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Self

from . import snapshot_folder
from .agent import Agent
from .frames import Probe, Seen
from .kube_rules import kube_rules
from .observation import Observation, observe
from .topology import ClientSpec, NodeSpec, PodSpec, Topology, first_host, of_family, same_family
from .worker import Connected

# ICMP rate limits lose part of the REJECT answers, which then look like drops; DAD holds addresses back for a second.
EVERYWHERE = {
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
    "net.ipv4.icmp_ratelimit": "0",
    "net.ipv6.icmp.ratelimit": "0",
    "net.ipv4.icmp_msgs_per_sec": "100000",
    "net.ipv4.icmp_msgs_burst": "100000",
}
FORWARDING = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.default.forwarding": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
}
# What kube-proxy sets to 1 of net.ipv4.vs.
IPVS_SETTINGS = ("conntrack", "expire_nodest_conn", "expire_quiescent_template")


class Cluster:
    """A running cluster. Hosts are named as in the contract: a node's or client's name, ``pod/NAMESPACE/NAME``."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.backend = "nft"
        self._agents: dict[str, Agent] = {}
        self._ipvs: set[str] = set()
        self._tag = 0
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for agent in self._agents.values():
            agent.close()
        self._agents.clear()

    def host(self, name: str) -> Agent:
        return self._agents[name]

    # ------------------------------------------------------------ asking

    def connect(self, source: str, ip: str, port: int, protocol: str = "tcp") -> Connected:
        """One connection from a host."""
        answer: Connected = self._agents[source].call("connect", ip, port, protocol)
        return answer

    def load(self, node: str, rules: str, backend: str = "nft", family: int = 4) -> None:
        """Loads iptables-restore text into a node."""
        self.backend = backend
        self._agents[node].call("load", backend, family, rules)

    def load_kube_rules(self, backend: str = "nft", families: Iterable[int] = (4, 6)) -> None:
        """Loads what kube-proxy would write into every node."""
        self.backend = backend
        for node in self.topology.nodes:
            # route_localnet is what kube-proxy sets for NodePorts on 127.0.0.1.
            self._agents[node.name].call("sysctl", {"net.ipv4.conf.all.route_localnet": "1"})
            for family in families:
                if node.ip(family):
                    self.load(node.name, kube_rules(self.topology, node, family), backend, family)

    def load_nft(self, node: str, rules: str) -> None:
        self._agents[node].call("run", ["nft", "-f", "-"], rules)

    def load_sets(self, node: str, sets: str) -> None:
        self._agents[node].call("run", ["ipset", "restore"], sets)

    def load_virtual_servers(self, node: str, servers: str, addresses: Iterable[str] = ()) -> None:
        """Loads ``ipvsadm --restore`` text, and has the addresses on kube-ipvs0, a dummy device, as kube-proxy does."""
        agent = self._agents[node]
        if node not in self._ipvs:
            self._ipvs.add(node)
            agent.call("ip", ["link add kube-ipvs0 type dummy"])
            agent.call("run", ["ipvsadm", "--list"])  # brings the module, and with it the settings
            agent.call("sysctl", {f"net.ipv4.vs.{name}": "1" for name in IPVS_SETTINGS})
        agent.call("ip", [f"addr add {address} dev kube-ipvs0" for address in addresses])
        agent.call("run", ["ipvsadm", "--restore"], servers)

    def snapshot(self, folder: Path) -> Path:
        """Writes the cluster's dumps and objects in the contract's folder form."""
        nodes = {n.name: self._agents[n.name] for n in self.topology.nodes}
        snapshot_folder.write(folder, self.topology, nodes, self.backend, ipvs=self._ipvs)
        return folder

    def probe(self, node: str, source: str, probe: Probe) -> tuple[Observation, list[tuple[str, Seen]]]:
        """Sends one crafted packet from a host (the node itself: from OUTPUT) towards ``node`` and says what that node
        did with it, and where else it was seen: (host, packet).
        """
        self._tag = self._tag % 60000 + 1
        sent = Probe(**{**{name: getattr(probe, name) for name in probe.__slots__}, "tag": self._tag})
        at = self._agents[node]
        ends = [name for name in self._agents if name not in (node, source, "lan") and not name.startswith("mac")]
        for name in ends:
            self._agents[name].call("tap", [self._device(name)])
        at.call("arm", self.backend)
        try:
            # Whatever else is underway (ARP, router solicitations) is traced too, and left out by the tag.
            if source == node:
                refused, collected = at.call("probe_local", sent, quiet=0.02)
            else:
                # Through the host's own stack, so that ARP and routing are done by the kernel.
                refused = self._agents[source].call("send_local", sent)
                collected = at.call("collect", sent, quiet=0.02)
        finally:
            at.call("disarm")
        seen = [
            (name, packet)
            for name in ends
            for _, packet in self._agents[name].call("caught")
            if packet.tag == sent.tag or packet.inner_tag == sent.tag
        ]
        saved = at.call("save", self.backend, probe.family)
        return observe(sent, refused, collected, saved), seen

    # ------------------------------------------------------------ building

    def _device(self, name: str) -> str:
        return self.topology.device if name in {node.name for node in self.topology.nodes} else "eth0"

    def _new(self, name: str, forwarding: bool = False) -> Agent:
        agent = Agent(name)
        self._agents[name] = agent
        agent.call("sysctl", {**EVERYWHERE, **(FORWARDING if forwarding else {})})
        agent.call("ip", ["link set lo up"])
        return agent

    def _build(self) -> None:
        topology = self.topology
        lan = self._new("lan")
        # With br_netfilter the LAN's own bridge would send frames through iptables hooks, and snooping lose ND packets.
        lan.call("sysctl", {"net.bridge.bridge-nf-call-iptables": "0", "net.bridge.bridge-nf-call-ip6tables": "0"})
        for bridge in ("br0", "br1"):
            lan.call("ip", [f"link add {bridge} type bridge forward_delay 0 mcast_snooping 0", f"link set {bridge} up"])
        router = self._new("router", forwarding=True)
        self._plug(lan, "port-r", router, "eth0", topology.router)
        for node in topology.nodes:
            agent = self._new(node.name, forwarding=True)
            self._plug(lan, f"port-{len(self._agents)}", agent, topology.device, node.addresses)
            if node.back:
                self._plug(lan, f"back-{len(self._agents)}", agent, "eth1", node.back, "br1")
        for client in topology.clients:
            self._client(lan, router, client)
        for node in topology.nodes:
            self._routes(node)
            self._overlay(node)
            if node.wiring == "bridge":
                lines = ["link add cni0 type bridge forward_delay 0", "link set cni0 up"]
                lines += [f"addr add {first_host(cidr)} dev cni0" for cidr in node.pod_cidrs]
                self._agents[node.name].call("ip", lines)
                nf = str(int(node.bridge_nf))
                self._agents[node.name].call(
                    "sysctl", {"net.bridge.bridge-nf-call-iptables": nf, "net.bridge.bridge-nf-call-ip6tables": nf}
                )
        for pod in topology.pods:
            self._pod(pod)
        for node in topology.nodes:
            self._agents[node.name].call("sysctl", node.sysctls)
            self._agents[node.name].call("ip", node.extra)

    def _plug(
        self, lan: Agent, port: str, host: Agent, device: str, addresses: tuple[str, ...], bridge: str = "br0"
    ) -> None:
        lan.call(
            "ip",
            [f"link add {port} type veth peer name {device} netns {host.pid}", f"link set {port} master {bridge} up"],
        )
        host.call("ip", [f"link set {device} up", *(f"addr add {a} dev {device}" for a in addresses)])

    def _client(self, lan: Agent, router: Agent, client: ClientSpec) -> None:
        agent = self._new(client.name)
        gateways = self.topology.router
        if client.far:
            device = f"far-{len(self._agents)}"
            router.call(
                "ip",
                [
                    f"link add {device} type veth peer name eth0 netns {agent.pid}",
                    f"link set {device} up",
                    *(f"addr add {a} dev {device}" for a in self.topology.far_router),
                ],
            )
            agent.call("ip", ["link set eth0 up", *(f"addr add {a} dev eth0" for a in client.addresses)])
            gateways = self.topology.far_router
        else:
            self._plug(lan, f"port-{len(self._agents)}", agent, "eth0", client.addresses)
        lines = [
            f"route add default via {gw.split('/')[0]}"
            for gw in gateways
            if any(same_family(gw, a) for a in client.addresses)
        ]
        agent.call("ip", [*lines, *(f"route add {route}" for route in client.routes)])

    def _routes(self, node: NodeSpec) -> None:
        lines = [
            f"route add default via {gw.split('/')[0]}"
            for gw in self.topology.router
            if of_family(node.addresses, 4 if "." in gw else 6)
        ]
        if not self.topology.overlay and not node.wiring.startswith("macvlan"):
            for other in self.topology.nodes:
                if other is node:
                    continue
                for cidr in other.pod_cidrs:
                    via = other.ip(ip_network(cidr).version)
                    if via:
                        lines.append(f"route add {cidr} via {via}")
        self._agents[node.name].call("ip", lines)

    def _overlay(self, node: NodeSpec) -> None:
        if self.topology.overlay != "vxlan":
            return
        agent = self._agents[node.name]
        # As flannel does it: no learning, permanent neighbours and forwarding entries for every other node; IPv4 only.
        lines = [
            f"link add flannel.1 address {vtep_mac(node)} type vxlan id 1 local {node.ip(4)} "
            f"dev {self.topology.device} dstport 8472 nolearning",
            "link set flannel.1 up",
            f"addr add {ip_network(node.pod_cidr(4)).network_address}/32 dev flannel.1",
        ]
        entries = []
        for other in self.topology.nodes:
            if other is node:
                continue
            subnet = ip_network(other.pod_cidr(4))
            lines += [
                f"neigh add {subnet.network_address} lladdr {vtep_mac(other)} dev flannel.1 nud permanent",
                f"route add {subnet} via {subnet.network_address} dev flannel.1 onlink",
            ]
            entries.append(f"fdb append {vtep_mac(other)} dev flannel.1 dst {other.ip(4)}")
        agent.call("ip", lines)
        agent.call("run", ["bridge", "-batch", "-"], "\n".join(entries) + "\n")

    def _pod(self, pod: PodSpec) -> None:
        node = self.topology.node(pod.node)
        on = self._agents[node.name]
        if pod.host_network:
            for family in (4, 6):
                for protocol, port in pod.ports if node.ip(family) else ():
                    on.call("listen", protocol, node.ip(family), port, pod.key)
            return
        agent = self._new(f"pod/{pod.key}")
        if node.wiring == "none":
            for protocol, port in pod.ports:
                agent.call("listen", protocol, "", port, pod.key)
            return
        outer = (
            pod.calico_device if node.wiring == "routed" else "veth" + hashlib.sha256(pod.key.encode()).hexdigest()[:8]
        )
        full = {4: 32, 6: 128}
        if node.wiring.startswith(("macvlan", "ipvlan-")):
            kind, _, mode = node.wiring.partition("-")
            on.call(
                "ip",
                [
                    f"link add link {self.topology.device} name eth0 netns {agent.pid} "
                    f"type {kind} mode {mode or 'bridge'}"
                ],
            )
            lines = ["link set eth0 up"]
            for ip in pod.ips:
                subnets = (*node.addresses, *node.pod_cidrs)
                subnet = next(a for a in subnets if ip_address(ip) in ip_interface(a).network)
                lines.append(f"addr add {ip}/{subnet.split('/')[1]} dev eth0")
            families = {4 if "." in ip else 6 for ip in pod.ips}
            if mode.startswith("l3"):
                # No ARP there, so no gateway: the CNI plugin gives a route by the device alone.
                lines += [f"route add {'default' if family == 4 else '::/0'} dev eth0" for family in sorted(families)]
            else:
                lines += [
                    f"route add default via {gw.split('/')[0]}"
                    for gw in self.topology.router
                    if (4 if "." in gw else 6) in families
                ]
            agent.call("ip", lines)
        elif node.wiring == "routed":
            on.call(
                "ip",
                [
                    f"link add {outer} address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns {agent.pid}",
                    f"link set {outer} up",
                ],
            )
            on.call("sysctl", {f"net.ipv4.conf.{outer}.proxy_arp": "1", f"net.ipv4.neigh.{outer}.proxy_delay": "0"})
            lines = ["link set eth0 up"]
            for ip in pod.ips:
                family = 4 if "." in ip else 6
                on.call("ip", [f"route add {ip}/{full[family]} dev {outer}"])
                gateway = "169.254.1.1" if family == 4 else "fe80::ecee:eeff:feee:eeee"
                lines += [
                    f"addr add {ip}/{full[family]} dev eth0",
                    f"route add {gateway} dev eth0",
                    f"route add default via {gateway} dev eth0",
                ]
            agent.call("ip", lines)
        else:
            on.call(
                "ip",
                [f"link add {outer} type veth peer name eth0 netns {agent.pid}", f"link set {outer} master cni0 up"],
            )
            on.call("run", ["bridge", "link", "set", "dev", outer, "hairpin", "on" if node.hairpin else "off"])
            lines = ["link set eth0 up"]
            for ip in pod.ips:
                cidr = next(c for c in node.pod_cidrs if same_family(c, ip))
                lines += [
                    f"addr add {ip}/{cidr.split('/')[1]} dev eth0",
                    f"route add default via {first_host(cidr).split('/')[0]}",
                ]
            agent.call("ip", lines)
        for protocol, port in pod.ports:
            agent.call("listen", protocol, "", port, pod.key)


def vtep_mac(node: NodeSpec) -> str:
    """A MAC for a node's flannel.1, the same at every build."""
    digest = hashlib.sha256(node.name.encode()).hexdigest()
    return "02:" + ":".join(digest[i : i + 2] for i in range(0, 10, 2))
