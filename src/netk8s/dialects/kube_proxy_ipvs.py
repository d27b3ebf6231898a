"""kube-proxy's IPVS mode: what its virtual servers, ipsets and chains say of Services.

Layouts of kube-proxy 1.14 to 1.36: pkg/proxy/ipvs/proxier.go, ipset.go. Virtual servers carry no Service names: those
are the API's, by address and port, or the comments of set entries where somebody put them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from ipaddress import ip_network

from msgspec import Struct
from msgspec.structs import replace

from netk8s.model import (
    PROTOCOL_NAMES,
    Addr,
    At,
    Backend,
    Cluster,
    IpSet,
    Missing,
    Node,
    Programmed,
    RealServer,
    Rule,
    ServicePort,
    Step,
    VirtualServer,
)

NAME = "kube-proxy (IPVS)"

DEVICE = "kube-ipvs0"
"""The dummy device that holds every ClusterIP, external IP and load balancer address (NodePorts: the node's own)."""

_KINDS = {
    "CLUSTER-IP": "ClusterIP", "LOAD-BALANCER": "LoadBalancer", "EXTERNAL-IP": "ExternalIP",
    "EXTERNAL-IP-LOCAL": "ExternalIP",
}  # fmt: skip
_COMMENT = re.compile(r'comment "?([a-z0-9.-]+/[a-z0-9.-]+)(?::([a-zA-Z0-9-]*))?')


class _Named(Struct, frozen=True):
    """What an address and port are to the cluster: "namespace/name" ("" where nothing tells), port name, kind."""

    service: str
    port_name: str
    kind: str


# ---------------------------------------------------------------- what is programmed


def programmed(node: Node, cluster: Cluster, mention: str = "", node_port: int | None = None) -> Iterator[Programmed]:
    """Every way to dial a Service that the node's virtual servers make. A NodePort is told once, not for each address.

    ``mention`` ("namespace/name", "-d ADDRESS/") and ``node_port`` narrow the search.
    """
    pods = {ip: f"{p.namespace}/{p.name}" for p in cluster.pods for ip in p.ips if not p.host_network}
    objects = _objects(cluster)
    members = _members(node.sets)
    entries = {each.name: frozenset(e.split(" ", 1)[0] for e in each.entries) for each in node.sets}
    virtual = {a.ip for a in node.addresses if a.dev == DEVICE}
    own = {a.ip for a in node.addresses if a.dev != DEVICE}
    told: set[tuple[int, int, int]] = set()
    node_ports: dict[tuple[int, int, int], list[Addr]] = {}
    for server in node.virtual_servers:
        if server.ip is not None and server.ip not in virtual:
            node_ports.setdefault((server.family, server.protocol, server.port), []).append(server.ip)
    for server in node.virtual_servers:
        if server.ip is None or node_port not in (None, server.port):
            continue
        name = _name(server, server.ip, objects, members, virtual, own)
        if node_port is not None and name.kind != "NodePort":
            continue
        if mention and mention not in f"{name.service} -d {server.ip}/":
            continue
        key = (server.family, server.protocol, server.port)
        if name.kind == "NodePort":
            if key in told:
                continue
            told.add(key)
        backends = tuple(_backends(server, pods))
        ip = None if name.kind == "NodePort" else server.ip
        verdict = "" if any(r.weight for r in server.real) else "REJECT"
        yield Programmed(
            node.name, name.service, name.port_name, server.protocol, name.kind, ip, server.port,
            f"IPVS {server.scheduler}", backends, verdict, server.persistence is not None, server.at, mode="ipvs",
            scheduler=server.scheduler, policy=_policy(server, name.kind, entries),
            affinity_seconds=server.persistence,
            addresses=tuple(node_ports.get(key, ())) if name.kind == "NodePort" else (),
        )  # fmt: skip


def _policy(server: VirtualServer, kind: str, entries: Mapping[str, frozenset[str]]) -> str:
    """The externalTrafficPolicy that the sets carry out, "" where there is no such set. Nothing tells the internal one."""
    protocol = PROTOCOL_NAMES.get(server.protocol, str(server.protocol))
    entry, prefix = f"{server.ip},{protocol}:{server.port}", "KUBE-6-" if server.family == 6 else "KUBE-"
    if kind == "NodePort":
        hashed = protocol == "sctp"
        names = [f"NODE-PORT-{local}{protocol.upper()}{'-HASH' if hashed else ''}" for local in ("LOCAL-", "")]
        entry = entry if hashed else str(server.port)
    elif kind in ("LoadBalancer", "ExternalIP"):
        word = "LOAD-BALANCER" if kind == "LoadBalancer" else "EXTERNAL-IP"
        names = [f"{word}-LOCAL", word]
    else:
        return ""
    for name, policy in zip(names, ("Local", "Cluster"), strict=True):
        # ipset cuts names at 31 characters.
        if entry in entries.get((prefix + name)[:31], ()):
            return policy
    return ""


def _objects(cluster: Cluster) -> dict[tuple[Addr | None, int, int], _Named]:
    """The API's Services by (address, port, protocol); address None for a NodePort."""
    out: dict[tuple[Addr | None, int, int], _Named] = {}
    for s in cluster.services:
        full = f"{s.namespace}/{s.service}"
        for kind, ips in _addresses(s):
            for ip in ips:
                out.setdefault((ip, s.port, s.protocol), _Named(full, s.name, kind))
        if s.node_port is not None:
            out.setdefault((None, s.node_port, s.protocol), _Named(full, s.name, "NodePort"))
    return out


def _addresses(s: ServicePort) -> tuple[tuple[str, tuple[Addr, ...]], ...]:
    return ("ClusterIP", s.cluster_ips), ("LoadBalancer", s.lb_ips), ("ExternalIP", s.external_ips)


def _members(sets: tuple[IpSet, ...]) -> dict[str, _Named]:
    """What the KUBE-* sets hold, by entry ("10.96.0.10,tcp:53", and "tcp:30000" for a NodePort)."""
    out: dict[str, _Named] = {}
    for each in sets:
        name = each.name.removeprefix("KUBE-").removeprefix("6-")
        if not each.name.startswith("KUBE-"):
            continue
        node_port = re.fullmatch(r"NODE-PORT-(TCP|UDP)", name)
        kind = _KINDS.get(name, "NodePort" if node_port or name == "NODE-PORT-SCTP-HASH" else "")
        if not kind:
            continue
        for entry in each.entries:
            key = entry.split(" ", 1)[0]
            found = _COMMENT.search(entry)
            said = _Named(found[1] if found else "", (found[2] or "") if found else "", kind)
            out.setdefault(f"{node_port[1].lower()}:{key}" if node_port else key, said)
    return out


def _name(
    server: VirtualServer,
    ip: Addr,
    objects: Mapping[tuple[Addr | None, int, int], _Named],
    members: Mapping[str, _Named],
    virtual: set[Addr],
    own: set[Addr],
) -> _Named:
    """By the API's objects, else the sets, else by whether the address is one of the node's own."""
    port = f"{PROTOCOL_NAMES.get(server.protocol, server.protocol)}:{server.port}"
    for found in (objects.get((ip, server.port, server.protocol)), members.get(f"{ip},{port}")):
        if found is not None and found.kind != "NodePort":
            return found
    if ip not in virtual:
        for found in (
            objects.get((None, server.port, server.protocol)),
            members.get(port),
            members.get(f"{ip},{port}"),
        ):
            if found is not None:
                return found
    return _Named("", "", "NodePort" if ip in own and ip not in virtual else "ClusterIP")


_EVEN = frozenset({"rr", "sh", "mh"})


def _backends(server: VirtualServer, pods: Mapping[Addr, str]) -> Iterator[Backend]:
    total = sum(_share(server, real) for real in server.real)
    usable = sum(1 for real in server.real if real.weight)
    chain = f"IPVS {server.scheduler}"
    known: dict[int, Fraction] = {}
    for real in server.real:
        share = _share(server, real)
        odds: Fraction | None = known.get(share)
        if odds is None:
            odds = known[share] = Fraction(share, total) if total else Fraction(0)
        if usable > 1 and real.weight and server.scheduler not in (*_EVEN, "wrr"):
            # lc, wlc, sed and nq go by live connections, dh and lblc by a hash of the one virtual address.
            odds = None
        pod = pods.get(real.ip) if pods else None
        yield Backend(real.ip, real.port, odds, chain, pod, real.at, real.weight)


def _share(server: VirtualServer, real: RealServer) -> int:
    """A real server of weight 0 gets nothing new, whatever the scheduler."""
    return min(real.weight, 1) if server.scheduler == "rr" else real.weight


# ---------------------------------------------------------------- sets that no dump has


def complete_node(node: Node, cluster: Cluster) -> tuple[Node, str, Missing] | None:
    """A node without ipset dump, with the KUBE-* sets as kube-proxy makes them; None when nothing is to add.

    From the API's Services all of them follow. Without those the virtual servers tell the NodePorts and which addresses
    are virtual, but not which of them are load balancers' nor any externalTrafficPolicy: what asks for that stays open.
    """
    if "ipset" in node.covered or not node.virtual_servers:
        return None
    nat = [table.chains for table in node.tables if table.name == "nat"]
    if not any(name in chains for chains in nat for name in ("KUBE-NODE-PORT", "KUBE-LOAD-BALANCER")):
        return None
    known = "services" in cluster.covered
    entries = _entries(node, cluster, known)
    sets = tuple(
        # ipset cuts names at 31 characters, which some of IPv6 are longer than.
        IpSet((prefix + name)[:31], kind, (), tuple(dict.fromkeys(entries.get((family, name), ()))), At(""))
        for family, prefix in ((4, "KUBE-"), (6, "KUBE-6-"))
        for name, kind in (_ALL_SETS if known else _TOLD_BY_SERVERS).items()
    )  # fmt: skip
    if known:
        note = f"no dump has the ipsets of {node.name}: they are taken to hold what kube-proxy makes of the Services"
    else:
        note = (
            f"no dump has the ipsets of {node.name} or the Services: virtual addresses are all taken to be ClusterIPs"
        )
    gap = Missing(f"ipsets of {node.name} (ipset save)", "which rules match")
    return replace(node, sets=(*node.sets, *sets)), note, gap


_TOLD_BY_SERVERS = {
    "LOOP-BACK": "hash:ip,port,ip", "CLUSTER-IP": "hash:ip,port", "EXTERNAL-IP": "hash:ip,port",
    "EXTERNAL-IP-LOCAL": "hash:ip,port", "LOAD-BALANCER": "hash:ip,port", "LOAD-BALANCER-FW": "hash:ip,port",
    "NODE-PORT-TCP": "bitmap:port", "NODE-PORT-UDP": "bitmap:port", "NODE-PORT-SCTP-HASH": "hash:ip,port",
    "IPVS-IPS": "hash:ip",
}  # fmt: skip
_ALL_SETS = {
    **_TOLD_BY_SERVERS, "LOAD-BALANCER-LOCAL": "hash:ip,port", "LOAD-BALANCER-SOURCE-CIDR": "hash:ip,port,net",
    "LOAD-BALANCER-SOURCE-IP": "hash:ip,port,ip", "NODE-PORT-LOCAL-TCP": "bitmap:port",
    "NODE-PORT-LOCAL-UDP": "bitmap:port", "NODE-PORT-LOCAL-SCTP-HASH": "hash:ip,port",
    "HEALTH-CHECK-NODE-PORT": "bitmap:port",
}  # fmt: skip


def _entries(node: Node, cluster: Cluster, known: bool) -> dict[tuple[int, str], list[str]]:
    """What kube-proxy puts into its sets (syncProxyRules), by family and set."""
    out: dict[tuple[int, str], list[str]] = {}

    def add(family: int, name: str, entry: str) -> None:
        out.setdefault((family, name), []).append(entry)

    virtual = {a.ip for a in node.addresses if a.dev == DEVICE}
    for ip in virtual:
        add(ip.version, "IPVS-IPS", str(ip))
    for server in node.virtual_servers:
        protocol = PROTOCOL_NAMES.get(server.protocol, str(server.protocol))
        for real in server.real:
            # Only a packet from an endpoint to itself is ever asked about, so remote ones do no harm here.
            add(real.ip.version, "LOOP-BACK", f"{real.ip},{protocol}:{real.port},{real.ip}")
        if not known and server.ip is not None:
            _server_entries(server, server.ip, protocol, virtual, add)
    # kube-proxy asks for the address the node is known by (nodeIP), not for those of its bridges and tunnels.
    texts = {text for n in cluster.nodes if n.name == node.name for _, text in n.addresses}
    own = [a.ip for a in node.addresses if a.dev != DEVICE and (not texts or str(a.ip) in texts)]
    for s in cluster.services if known else ():
        _service_entries(node, s, own, add)
    return out


_Add = Callable[[int, str, str], None]


def _server_entries(server: VirtualServer, ip: Addr, protocol: str, virtual: set[Addr], add: _Add) -> None:
    if ip in virtual:
        add(ip.version, "CLUSTER-IP", f"{ip},{protocol}:{server.port}")
    elif protocol == "sctp":
        add(ip.version, "NODE-PORT-SCTP-HASH", f"{ip},sctp:{server.port}")
    else:
        add(ip.version, f"NODE-PORT-{protocol.upper()}", str(server.port))


def _service_entries(node: Node, s: ServicePort, own: list[Addr], add: _Add) -> None:
    protocol = PROTOCOL_NAMES.get(s.protocol, str(s.protocol))
    port = f"{protocol}:{s.port}"
    local = s.external_policy == "Local"
    for ip in s.cluster_ips:
        add(ip.version, "CLUSTER-IP", f"{ip},{port}")
    for ip in s.external_ips:
        add(ip.version, "EXTERNAL-IP-LOCAL" if local else "EXTERNAL-IP", f"{ip},{port}")
    for ip in s.lb_ips:
        add(ip.version, "LOAD-BALANCER", f"{ip},{port}")
        if local:
            add(ip.version, "LOAD-BALANCER-LOCAL", f"{ip},{port}")
        if s.lb_source_ranges:
            add(ip.version, "LOAD-BALANCER-FW", f"{ip},{port}")
            _source_entries(s, own, ip, port, add)
    families = {ip.version for ip in s.cluster_ips}
    for family in families:
        if s.node_port is not None:
            names = ("NODE-PORT-", *(("NODE-PORT-LOCAL-",) if local else ()))
            for name in names:
                if protocol == "sctp":
                    for server in node.virtual_servers:
                        if (server.protocol, server.port, server.family) == (s.protocol, s.node_port, family):
                            add(family, f"{name}SCTP-HASH", f"{server.ip},sctp:{s.node_port}")
                else:
                    add(family, f"{name}{protocol.upper()}", str(s.node_port))
        if s.health_check_node_port is not None:
            add(family, "HEALTH-CHECK-NODE-PORT", str(s.health_check_node_port))


def _source_entries(s: ServicePort, own: list[Addr], ip: Addr, port: str, add: _Add) -> None:
    for text in s.lb_source_ranges:
        try:
            net = ip_network(text.strip(), strict=False)
        except ValueError:
            continue
        if net.version == ip.version:
            add(ip.version, "LOAD-BALANCER-SOURCE-CIDR", f"{ip},{port},{net}")
            if any(each in net for each in own):
                add(ip.version, "LOAD-BALANCER-SOURCE-IP", f"{ip},{port},{ip}")


# ---------------------------------------------------------------- words for steps


_TARGETS = {
    ("nat", "KUBE-NODE-PORT"): "NodePort lookup",
    ("filter", "KUBE-NODE-PORT"): "let health checks of Services in",
    ("nat", "KUBE-LOAD-BALANCER"): "masquerade for load balancer addresses, but not for externalTrafficPolicy Local",
    ("filter", "KUBE-IPVS-FILTER"): "of virtual addresses, only Service ports are let in",
    ("filter", "KUBE-IPVS-OUT-FILTER"): "LoadBalancer source ranges for the node itself",
    ("filter", "KUBE-SOURCE-RANGES-FIREWALL"): "LoadBalancer source ranges",
}
_SETS = {
    "LOOP-BACK": "an endpoint that dials itself",
    "CLUSTER-IP": "a ClusterIP and its port",
    "EXTERNAL-IP": "an external IP and its port",
    "EXTERNAL-IP-LOCAL": "an external IP with externalTrafficPolicy Local",
    "LOAD-BALANCER": "a load balancer address and its port",
    "LOAD-BALANCER-LOCAL": "a load balancer address with externalTrafficPolicy Local",
    "LOAD-BALANCER-FW": "a load balancer address with source ranges",
    "LOAD-BALANCER-SOURCE-CIDR": "a client within the source ranges",
    "LOAD-BALANCER-SOURCE-CID": "a client within the source ranges",
    "LOAD-BALANCER-SOURCE-IP": "a load balancer address that dials itself",
    "NODE-PORT-TCP": "a NodePort",
    "NODE-PORT-UDP": "a NodePort",
    "NODE-PORT-SCTP-HASH": "a NodePort",
    "NODE-PORT-LOCAL-TCP": "a NodePort with externalTrafficPolicy Local",
    "NODE-PORT-LOCAL-UDP": "a NodePort with externalTrafficPolicy Local",
    "NODE-PORT-LOCAL-SCTP-HASH": "a NodePort with externalTrafficPolicy Local",
    "NODE-PORT-LOCAL-SCTP-HAS": "a NodePort with externalTrafficPolicy Local",
    "HEALTH-CHECK-NODE-PORT": "the health check port of a Service",
    "IPVS-IPS": "a virtual address, and no port of a Service",
}
_ACTIONS = {"KUBE-MARK-MASQ": "mark for masquerade", "MASQUERADE": "masquerade", "REJECT": "refuse", "DROP": "drop"}


def means(step: Step) -> str:
    """What a step is for in kube-proxy's words, "" when the rule is not of its IPVS mode."""
    rule = step.detail
    if rule is None:
        return ""
    target = rule.target.name if rule.target else ""
    found = next((_SETS[name] for name in _set_names(rule) if name in _SETS), "")
    if found and (step.table, target) not in _TARGETS:
        return f"{found}: {_ACTIONS[target]}" if target in _ACTIONS else found
    if rule.chain == "KUBE-IPVS-OUT-FILTER":
        return "a load balancer address whose source ranges leave this node out"
    if rule.chain == "KUBE-SOURCE-RANGES-FIREWALL":
        return "not in the source ranges: drop"
    return _TARGETS.get((step.table, target), "")


def _set_names(rule: Rule) -> Iterator[str]:
    for match in rule.matches:
        if match.module == "set":
            for option in match.options:
                if option.name == "--match-set" and option.values and option.values[0].startswith("KUBE-"):
                    yield option.values[0].removeprefix("KUBE-").removeprefix("6-")
