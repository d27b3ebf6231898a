"""Random clusters: wiring, overlay, a second network, routes, policy routing, settings and rules, node by node."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from .topology import ClientSpec, NodeSpec, PodSpec, ServiceSpec, Topology, of_family

FAR = "198.51.100.9"
NOBODYS_PORT = 81
SERVICE_NETS = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}


@dataclass(frozen=True, slots=True)
class Asked:
    """Connections from a host to an address. ``via``: the node the source's own routes lead to."""

    source: str
    ip: str
    port: int
    protocol: str = "tcp"
    via: str = ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A cluster with the rules that come on top of kube-proxy's, by node and family, and what is asked of it.

    ``late``: its dumps are taken when the connections have been made.
    """

    topology: Topology
    rules: dict[tuple[str, int], str]
    asked: tuple[Asked, ...]
    late: bool = False
    settings: dict[str, str] = field(default_factory=dict)


def random_cluster(seed: int, flows: int = 50) -> Drawn:
    """The cluster of a seed: two or three nodes with pods on bridges, routed veths or macvlan; host routes or vxlan;
    routes that are missing, wrong, blackholes, over another network or another node; policy rules; rp_filter and its
    neighbours; hairpin mode and bridge netfilter; a FORWARD policy; a CNI's masquerade; IPv4 alone or both families.
    """
    rng = Random(seed)  # noqa: S311
    overlay = "vxlan" if rng.random() < 0.25 else ""
    dual = not overlay and rng.random() < 0.35
    nodes = _nodes(rng, overlay, dual)
    pods = _pods(rng, nodes, dual)
    services = _services(rng, pods, dual)
    near, far = _clients(rng, nodes, dual)
    topology = Topology(
        nodes=nodes, pods=pods, services=services, clients=(near[0], far), overlay=overlay,
        cluster_cidrs=("10.244.0.0/16", "fd00:10:244::/48"),
    )  # fmt: skip
    topology = replace(topology, nodes=tuple(_spoilt(rng, topology, node, dual) for node in nodes))
    rules = _rules(rng, topology, dual)
    asked = _questions(rng, topology, near[1])
    rng.shuffle(asked)
    return Drawn(topology, rules, tuple(asked[:flows]), late=rng.random() < 0.3)


def _nodes(rng: Random, overlay: str, dual: bool) -> tuple[NodeSpec, ...]:
    wirings = ("bridge",) if rng.random() < 0.4 else ("bridge", "routed", "routed") + (() if overlay else ("macvlan",))
    back = rng.random() < 0.5
    out = []
    for i in range(1, rng.randint(2, 3) + 1):
        wiring = rng.choice(wirings)
        addresses = [f"192.168.52.20{i}/24", *([f"fd00:52::20{i}/64"] if dual else [])]
        cidrs = [f"10.244.{i}.0/24", *([f"fd00:10:244:{i}::/64"] if dual else [])]
        out.append(
            NodeSpec(
                f"k8s-node{i}",
                tuple(addresses),
                () if wiring == "macvlan" else tuple(cidrs),
                wiring=wiring,
                hairpin=rng.random() < 0.7,
                bridge_nf=rng.random() < 0.7,
                back=(f"192.168.60.20{i}/24", *([f"fd00:60::20{i}/64"] if dual else [])) if back else (),
            )
        )
    return tuple(out)


def _pods(rng: Random, nodes: tuple[NodeSpec, ...], dual: bool) -> tuple[PodSpec, ...]:
    pods = []
    for i, node in enumerate(nodes, 1):
        for k in range(rng.randint(1, 2)):
            host = 5 + k
            ips = [f"10.244.{i}.{host}", *([f"fd00:10:244:{i}::{host}"] if dual else [])]
            if node.wiring == "macvlan":
                ips = [f"192.168.52.1{i}{host}", *([f"fd00:52::1{i}{host}"] if dual else [])]
            pods.append(PodSpec(f"web-{i}{'ab'[k]}", node.name, tuple(ips), (("tcp", 80), ("udp", 5353))))
    owner = rng.choice(nodes)
    pods.append(PodSpec("exporter", owner.name, (), (("tcp", 9100),), host_network=True))
    return tuple(pods)


def _services(rng: Random, pods: tuple[PodSpec, ...], dual: bool) -> tuple[ServiceSpec, ...]:
    web = [pod for pod in pods if not pod.host_network]
    out = []
    for n in range(1, rng.randint(3, 5) + 1):
        chosen = rng.sample(web, 1 if rng.random() < 0.7 else min(2, len(web)))
        udp = rng.random() < 0.25
        out.append(
            ServiceSpec(
                f"svc-{n}",
                (f"10.96.0.{n}", *([f"fd00:10:96::{n}"] if dual else [])),
                80,
                5353 if udp else 80,
                tuple(pod.key for pod in chosen),
                "udp" if udp else "tcp",
                node_port=30000 + n,
                external_policy=rng.choice(("Cluster", "Cluster", "Local")),
                internal_policy=rng.choice(("Cluster", "Cluster", "Cluster", "Local")),
                external_ips=(FAR,) if n == 1 else (),
            )
        )
    own = ("10.96.9.1", *(["fd00:10:96::91"] if dual else []))
    out.append(ServiceSpec("exporter", own, 9100, 9100, ("default/exporter",), node_port=30910))
    return tuple(out)


def _clients(rng: Random, nodes: tuple[NodeSpec, ...], dual: bool) -> tuple[tuple[ClientSpec, str], ClientSpec]:
    via = rng.choice(nodes)
    routes = [f"{SERVICE_NETS[4]} via {via.ip(4)}", f"{FAR}/32 via {via.ip(4)}"]
    if dual:
        routes.append(f"{SERVICE_NETS[6]} via {via.ip(6)}")
    near = ClientSpec(
        "client", ("192.168.52.50/24", *(["fd00:52::50/64"] if dual else [])), routes=tuple(routes)
    )  # fmt: skip
    far = ClientSpec("client-far", ("203.0.113.7/24", *(["2001:db8:113::7/64"] if dual else [])), far=True)
    return (near, via.name), far


def _spoilt(rng: Random, topology: Topology, node: NodeSpec, dual: bool) -> NodeSpec:
    """The node with settings and ``ip`` commands of its own, that may stop a packet or send it another way."""
    devices = ["ens33", *(["eth1"] if node.back else []), *(["cni0"] if node.wiring == "bridge" else [])]
    devices += ["flannel.1"] if topology.overlay else []
    settings = {}
    for device in ("all", *devices):
        name = f"net.ipv4.conf.{device.replace('.', '/')}"
        if rng.random() < 0.2:
            settings[f"{name}.rp_filter"] = rng.choice("0112")
        if rng.random() < 0.06:
            settings[f"{name}.accept_local"] = "1"
        if rng.random() < 0.06:
            settings[f"{name}.src_valid_mark"] = "1"
    if rng.random() < 0.05:
        settings["net.ipv4.ip_forward"] = "0"
    if dual and rng.random() < 0.05:
        settings["net.ipv6.conf.all.forwarding"] = "0"
    if rng.random() < 0.1:
        settings["net.ipv4.conf.ens33.arp_ignore"] = "1"
    extra = []
    if rng.random() < 0.2:
        extra.append(f"addr add 192.168.52.21{node.name[-1]}/24 dev ens33")
    if rng.random() < 0.2:
        extra.append(f"addr add 172.31.0.{node.name[-1]}/32 dev lo")
    others = [other for other in topology.nodes if other is not node and other.pod_cidrs]
    for other in others:
        for family in (4, 6) if dual else (4,):
            if node.wiring != "macvlan" or family == 4:
                extra += _other_way(rng, topology, node, other, family)
    if others and rng.random() < 0.3:
        extra += _policy(rng, topology, node, rng.choice(others))
    return replace(node, sysctls=settings, extra=tuple(extra))


def _other_way(rng: Random, topology: Topology, node: NodeSpec, other: NodeSpec, family: int) -> list[str]:
    """Commands that change the way from a node to another one's pods, mostly none."""
    cidr = other.pod_cidr(family)
    third = [each for each in topology.nodes if each not in (node, other)]
    gateways = [g.ip(family) for g in third]
    if other.back and node.back:
        gateways += of_family(other.back, family)[0].split("/")[:1] * 2
    draw = rng.random()
    present = node.wiring != "macvlan"
    if draw < 0.05 and present:
        return [f"route del {cidr}"]
    if draw < 0.11:
        verb = rng.choice(("blackhole", "unreachable", "prohibit"))
        if family == 6 and present:
            return [f"route del {cidr}", f"route add {verb} {cidr}"]
        return [f"route replace {verb} {cidr}"]
    if not gateways or topology.overlay:
        return []
    gateway = rng.choice(gateways)
    if draw < 0.3:
        before = [f"route del {cidr}"] if family == 6 and present else []
        return [*before, f"route {'add' if before else 'replace'} {cidr} via {gateway}"]
    if draw < 0.42:
        pod = rng.choice([pod for pod in topology.pods if pod.node == other.name and not pod.host_network])
        return [f"route add {of_family(pod.ips, family)[0]} via {gateway}"]
    if draw < 0.48 and family == 4 and len(gateways) > 1 and present:
        return [f"route replace {cidr} nexthop via {gateways[0]} nexthop via {gateways[-1]}"]
    return []


def _policy(rng: Random, topology: Topology, node: NodeSpec, other: NodeSpec) -> list[str]:
    """A policy rule and the table it leads to (IPv4)."""
    router = topology.router[0].split("/")[0]
    ways = [router, other.ip(4)]
    if node.back and other.back:
        ways += [other.back[0].split("/")[0]] * 2
    selectors = [f"to {other.pod_cidr(4)}", "from 192.168.52.0/24", "fwmark 0x4000/0x4000", "from 10.244.0.0/16"]
    selectors += ["iif cni0"] if node.wiring == "bridge" else []
    selectors += [f"from {node.pod_cidr(4)}"] * 2 if node.pod_cidrs else []
    rule = f"rule add {rng.choice(selectors)} priority 1000 lookup 100"
    if rng.random() < 0.15:
        rule += " suppress_prefixlength 0"
    target = rng.choice((other.pod_cidr(4), other.pod_cidr(4), "default"))
    kind = rng.random()
    if kind < 0.75:
        return [f"route add {target} via {rng.choice(ways)} table 100", rule]
    return [f"route add {rng.choice(('unreachable', 'blackhole', 'throw'))} {target} table 100", rule]


def _rules(rng: Random, topology: Topology, dual: bool) -> dict[tuple[str, int], str]:
    """iptables-restore --noflush text by node and family: a CNI's masquerade on all nodes, a firewall on some."""
    masquerade = rng.random() < 0.5
    out = {}
    for node in topology.nodes:
        for family in (4, 6) if dual else (4,):
            cidr = of_family(topology.cluster_cidrs, family)[0]
            nat, filters = [], []
            if masquerade:
                nat += [
                    f"-A POSTROUTING -s {cidr} -d {cidr} -j RETURN",
                    f"-A POSTROUTING -s {cidr} ! -d {'224.0.0.0/4' if family == 4 else 'ff00::/8'} -j MASQUERADE",
                    *([f"-A POSTROUTING ! -s {cidr} -d {node.pod_cidr(family)} -j RETURN"] if node.pod_cidrs else []),
                    f"-A POSTROUTING ! -s {cidr} -d {cidr} -j MASQUERADE",
                ]
            if rng.random() < 0.2:
                filters.append(":FORWARD DROP")
                if rng.random() < 0.6:
                    filters += [f"-A FORWARD -s {cidr} -j ACCEPT", f"-A FORWARD -d {cidr} -j ACCEPT"]
            if rng.random() < 0.12:
                chain = rng.choice(("FORWARD", "INPUT", "OUTPUT"))
                what = rng.choice((f"-d {cidr}", f"-s {cidr}", "-p tcp --sport 80", "-p tcp --dport 80"))
                if family == 6 and chain == "FORWARD" and "-p" not in what:
                    what += " -p tcp"  # else it stops neighbour discovery over a bridge, which a trace does not follow
                verdict = rng.choice(("DROP", "REJECT"))
                filters.append(f"-I {chain} {what} -j {verdict}")
            lines = ["*nat", *nat, "COMMIT"] if nat else []
            lines += ["*filter", *filters, "COMMIT"] if filters else []
            if lines:
                out[node.name, family] = "\n".join([*lines, ""])
    return out


def _questions(rng: Random, topology: Topology, routed: str) -> list[Asked]:
    nodes = [node.name for node in topology.nodes]
    pods = [f"pod/{pod.key}" for pod in topology.pods if not pod.host_network]
    asked = []
    for service in topology.services:
        for source in (*nodes, *pods, "client"):
            via = routed if source == "client" else ""
            ips = (*service.cluster_ips, *service.external_ips)
            asked += [Asked(source, ip, service.port, service.protocol, via) for ip in ips]
        for source in (*nodes, *pods, "client", "client-far"):
            for node in topology.nodes:
                ips = [a.split("/")[0] for a in node.addresses]
                if not source.startswith("client"):
                    ips += [a.split("/")[0] for a in node.back]
                asked += [Asked(source, ip, service.node_port or 0, service.protocol) for ip in ips]
        asked += [Asked(name, "127.0.0.1", service.node_port or 0, service.protocol) for name in nodes]
    for pod in topology.pods:
        for ip in pod.ips:
            macvlan = topology.node(pod.node).wiring == "macvlan"
            for source in (*nodes, *pods, *(("client",) if macvlan else ())):
                asked += [Asked(source, ip, port, protocol) for protocol, port in pod.ports]
            asked.append(Asked(rng.choice(nodes), ip, NOBODYS_PORT))
    return asked
