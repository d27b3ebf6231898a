"""What kube-proxy (1.30, ipvs mode, scheduler rr, --cluster-cidr) programs for a :class:`~lab.topology.Topology`.

As :mod:`.kube_rules` for the iptables mode: the usual Service kinds only, laid out as in a recorded cluster. All that
tells one Service from another is in ipsets and virtual servers; the rules are the same for all (with a set that is
empty, kube-proxy leaves out the rules that ask for it).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface

from .cluster import Cluster
from .kube_rules import MARK
from .topology import NodeSpec, PodSpec, ServiceSpec, Topology, first_host, of_family

_PAIR, _TRIPLE, _NETS, _PORTS = "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net", "bitmap:port"
SETS = {
    "LOOP-BACK": _TRIPLE,
    "CLUSTER-IP": _PAIR,
    "EXTERNAL-IP": _PAIR,
    "EXTERNAL-IP-LOCAL": _PAIR,
    "LOAD-BALANCER": _PAIR,
    "LOAD-BALANCER-LOCAL": _PAIR,
    "LOAD-BALANCER-FW": _PAIR,
    "LOAD-BALANCER-SOURCE-CIDR": _NETS,
    "LOAD-BALANCER-SOURCE-IP": _TRIPLE,
    "NODE-PORT-TCP": _PORTS,
    "NODE-PORT-LOCAL-TCP": _PORTS,
    "NODE-PORT-UDP": _PORTS,
    "NODE-PORT-LOCAL-UDP": _PORTS,
    "HEALTH-CHECK-NODE-PORT": _PORTS,
    "IPVS-IPS": "hash:ip",
}
"""kube-proxy's sets and their types, without ``KUBE-`` or ``KUBE-6-``."""


def load_kube_ipvs(cluster: Cluster, families: Iterable[int] = (4,)) -> None:
    """Programs every node as kube-proxy would, on iptables-legacy: user-mode Linux has no other."""
    topology = cluster.topology
    for node in topology.nodes:
        for family in families:
            cluster.load_sets(node.name, sets(topology, node, family))
            cluster.load(node.name, rules(topology, node, family), "legacy", family)
            bits = 32 if family == 4 else 128
            addresses = [f"{ip}/{bits}" for ip in bound(topology, family)]
            cluster.load_virtual_servers(node.name, virtual_servers(topology, node, family), addresses)


def set_name(name: str, family: int) -> str:
    """The name of a set; the kernel takes 31 characters."""
    return f"KUBE-{'6-' if family == 6 else ''}{name}"[:31]


def bound(topology: Topology, family: int) -> list[str]:
    """The addresses on kube-ipvs0: every ClusterIP and external address."""
    return [
        ip for service in topology.services for ip in of_family((*service.cluster_ips, *service.external_ips), family)
    ]


def endpoints(topology: Topology, node: NodeSpec, service: ServiceSpec, family: int, local: bool) -> list[str]:
    """The real servers' addresses. ``local`` by one of the policies: those of the node, or all when it has none."""
    found = topology.endpoints(service, family)
    here = [ip for ip, pod in found if _on(topology, pod, node)]
    return here if local and here else [ip for ip, _ in found]


def virtual_servers(topology: Topology, node: NodeSpec, family: int) -> str:
    """``ipvsadm --restore`` text."""
    lines = []
    # Every address of the node but those of kube-ipvs0 and the loopback: cni0's too.
    own = [a.split("/")[0] for a in of_family(node.addresses, family)]
    if node.wiring == "bridge":
        own += [first_host(cidr).split("/")[0] for cidr in of_family(node.pod_cidrs, family)]
    for service in _services(topology, family):
        outside = service.external_policy == "Local"
        inside = service.internal_policy == "Local"
        to_all = endpoints(topology, node, service, family, outside)
        to_cluster_ip = endpoints(topology, node, service, family, inside)
        if inside and not outside and not _has_local(topology, node, service, family):
            # Where both policies are Local kube-proxy takes the other nodes' endpoints for the ClusterIP too.
            to_cluster_ip = []
        for ips, port, servers in (
            (of_family(service.cluster_ips, family), service.port, to_cluster_ip),
            (of_family(service.external_ips, family), service.port, to_all),
            (own if service.node_port else (), service.node_port, to_all),
        ):
            kind = "-t" if service.protocol == "tcp" else "-u"
            for ip in ips:
                virtual = f"{kind} {_at(ip, port)}"
                kept = f" -p {service.affinity}" if service.affinity else ""
                lines.append(f"-A {virtual} -s rr{kept}")
                lines += [f"-a {virtual} -r {_at(real, service.target_port)} -m -w 1" for real in servers]
    return "".join(line + "\n" for line in lines)


def members(topology: Topology, node: NodeSpec, family: int) -> dict[str, list[str]]:
    """What is in the sets of a node."""
    found: dict[str, list[str]] = {name: [] for name in SETS}
    for service in _services(topology, family):
        p = service.protocol
        for ip in of_family(service.cluster_ips, family):
            found["CLUSTER-IP"].append(f"{ip},{p}:{service.port}")
        local = "-LOCAL" if service.external_policy == "Local" else ""
        for ip in of_family(service.external_ips, family):
            found[f"EXTERNAL-IP{local}"].append(f"{ip},{p}:{service.port}")
        if service.node_port:
            names = {f"NODE-PORT-{p.upper()}", f"NODE-PORT{local}-{p.upper()}"}
            for name in sorted(names):
                found[name].append(str(service.node_port))
        for ip, pod in topology.endpoints(service, family):
            if _on(topology, pod, node):
                found["LOOP-BACK"].append(f"{ip},{p}:{service.target_port},{ip}")
    found["IPVS-IPS"] = bound(topology, family)
    return found


def sets(topology: Topology, node: NodeSpec, family: int) -> str:
    """``ipset restore`` text."""
    lines = []
    for name, entries in members(topology, node, family).items():
        kind = SETS[name]
        more = "range 0-65535" if kind == _PORTS else f"family {'inet6' if family == 6 else 'inet'}"
        lines.append(f"create {set_name(name, family)} {kind} {more}")
        lines += [f"add {set_name(name, family)} {entry}" for entry in dict.fromkeys(entries)]
    return "".join(line + "\n" for line in lines)


def rules(topology: Topology, node: NodeSpec, family: int) -> str:
    """iptables-restore text of a node's filter and nat tables."""
    has = {name for name, entries in members(topology, node, family).items() if entries}
    cidr = next(iter(of_family(topology.cluster_cidrs, family)), "")
    loopback = "127.0.0.0/8" if family == 4 else "::1/128"
    unreachable = "icmp-port-unreachable" if family == 4 else "icmp6-port-unreachable"

    def match(name: str, fields: str = "dst,dst") -> str:
        return f"-m set --match-set {set_name(name, family)} {fields}"

    def note(text: str) -> str:
        return f'-m comment --comment "{text}"'

    masquerade = note("Kubernetes service cluster ip + port for masquerade purpose")
    external = note("Kubernetes service external ip + port for masquerade and filter purpose")
    external_local = note("Kubernetes service external ip + port with externalTrafficPolicy=local")
    not_bridged = "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT"
    services = [
        ("", f"-s {loopback} -j RETURN"),
        ("CLUSTER-IP", f"! -s {cidr} {masquerade} {match('CLUSTER-IP')} -j KUBE-MARK-MASQ"),
        ("EXTERNAL-IP", f"{external} {match('EXTERNAL-IP')} -j KUBE-MARK-MASQ"),
        ("EXTERNAL-IP", f"{external} {match('EXTERNAL-IP')} {not_bridged}"),
        ("EXTERNAL-IP", f"{external} {match('EXTERNAL-IP')} -m addrtype --dst-type LOCAL -j ACCEPT"),
        ("EXTERNAL-IP-LOCAL", f"{external_local} {match('EXTERNAL-IP-LOCAL')} {not_bridged}"),
        ("EXTERNAL-IP-LOCAL", f"{external_local} {match('EXTERNAL-IP-LOCAL')} -m addrtype --dst-type LOCAL -j ACCEPT"),
        ("", "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"),
        ("CLUSTER-IP", f"{match('CLUSTER-IP')} -j ACCEPT"),
    ]
    node_ports = []
    for p in ("tcp", "udp"):
        text = f"Kubernetes nodeport {p.upper()} port"
        node_ports += [
            (
                f"NODE-PORT-LOCAL-{p.upper()}",
                f"-p {p} {note(f'{text} with externalTrafficPolicy=local')} "
                f"{match(f'NODE-PORT-LOCAL-{p.upper()}', 'dst')} -j RETURN",
            ),
            (
                f"NODE-PORT-{p.upper()}",
                f"-p {p} {note(f'{text} for masquerade purpose')} "
                f"{match(f'NODE-PORT-{p.upper()}', 'dst')} -j KUBE-MARK-MASQ",
            ),
        ]
    hairpin = note("Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose")
    access = note("kubernetes ipvs access filter")
    forward = note("kubernetes forwarding rules")
    lines = [
        "*filter",
        ":INPUT ACCEPT",
        ":FORWARD ACCEPT",
        ":OUTPUT ACCEPT",
        *(
            f":KUBE-{name} -"
            for name in (
                "FORWARD",
                "IPVS-FILTER",
                "IPVS-OUT-FILTER",
                "NODE-PORT",
                "PROXY-FIREWALL",
                "SOURCE-RANGES-FIREWALL",
            )
        ),
        f"-A INPUT {access} -j KUBE-IPVS-FILTER",
        f"-A INPUT {note('kube-proxy firewall rules')} -j KUBE-PROXY-FIREWALL",
        f"-A INPUT {note('kubernetes health check rules')} -j KUBE-NODE-PORT",
        f"-A FORWARD {note('kube-proxy firewall rules')} -j KUBE-PROXY-FIREWALL",
        f"-A FORWARD {forward} -j KUBE-FORWARD",
        f"-A OUTPUT {access} -j KUBE-IPVS-OUT-FILTER",
        f"-A KUBE-FORWARD {forward} -m mark --mark {MARK} -j ACCEPT",
        f"-A KUBE-FORWARD {note('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED "
        "-j ACCEPT",
        *(
            f"-A KUBE-IPVS-FILTER {match(name)} -j RETURN"
            for name in ("LOAD-BALANCER", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL")
        ),
        f"-A KUBE-IPVS-FILTER {match('HEALTH-CHECK-NODE-PORT', 'dst')} -j RETURN",
        f"-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW {match('IPVS-IPS', 'dst')} -j REJECT "
        f"--reject-with {unreachable}",
        f"-A KUBE-NODE-PORT {note('Kubernetes health check node port')} {match('HEALTH-CHECK-NODE-PORT', 'dst')} "
        "-j ACCEPT",
        "-A KUBE-SOURCE-RANGES-FIREWALL -j DROP",
        "COMMIT",
        "*nat",
        ":PREROUTING ACCEPT",
        ":INPUT ACCEPT",
        ":OUTPUT ACCEPT",
        ":POSTROUTING ACCEPT",
        *(f":KUBE-{name} -" for name in ("LOAD-BALANCER", "MARK-MASQ", "NODE-PORT", "POSTROUTING", "SERVICES")),
        f"-A PREROUTING {note('kubernetes service portals')} -j KUBE-SERVICES",
        f"-A OUTPUT {note('kubernetes service portals')} -j KUBE-SERVICES",
        f"-A POSTROUTING {note('kubernetes postrouting rules')} -j KUBE-POSTROUTING",
        "-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ",
        f"-A KUBE-MARK-MASQ -j MARK --set-xmark {MARK}",
        *(f"-A KUBE-NODE-PORT {rule}" for name, rule in node_ports if name in has),
        *(
            f"-A KUBE-POSTROUTING {hairpin} {match('LOOP-BACK', 'dst,dst,src')} -j MASQUERADE"
            for name in ("LOOP-BACK",)
            if name in has
        ),
        f"-A KUBE-POSTROUTING -m mark ! --mark {MARK} -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
        f"-A KUBE-POSTROUTING {note('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
        *(f"-A KUBE-SERVICES {rule}" for name, rule in services if not name or name in has),
        "COMMIT",
        "",
    ]
    return "\n".join(lines)


def _services(topology: Topology, family: int) -> list[ServiceSpec]:
    return [service for service in topology.services if of_family(service.cluster_ips, family)]


def _on(topology: Topology, pod: PodSpec, node: NodeSpec) -> bool:
    return topology.node(pod.node) is node


def _has_local(topology: Topology, node: NodeSpec, service: ServiceSpec, family: int) -> bool:
    return any(_on(topology, pod, node) for _, pod in topology.endpoints(service, family))


def _at(ip: str, port: int | None) -> str:
    return f"[{ip}]:{port}" if ip_interface(ip).version == 6 else f"{ip}:{port}"
