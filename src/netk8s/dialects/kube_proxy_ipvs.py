"""kube-proxy's IPVS mode: what its virtual servers, ipsets and chains say of Services.

Layouts of kube-proxy 1.14 to 1.36: pkg/proxy/ipvs/proxier.go, ipset.go. Virtual servers carry no Service names: those are
the API's, by address and port, or the comments of set entries where somebody put them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from netk8s.model import (
    PROTOCOL_NAMES,
    Addr,
    Backend,
    Cluster,
    IpSet,
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
    "CLUSTER-IP": "ClusterIP", "LOAD-BALANCER": "LoadBalancer", "EXTERNAL-IP": "ExternalIP", "EXTERNAL-IP-LOCAL": "ExternalIP",
}  # fmt: skip
_COMMENT = re.compile(r'comment "?([a-z0-9.-]+/[a-z0-9.-]+)(?::([a-zA-Z0-9-]*))?')


@dataclass(frozen=True, slots=True)
class _Named:
    """What an address and port are to the cluster: "namespace/name" ("" where nothing tells), port name, kind."""

    service: str
    port_name: str
    kind: str


# ---------------------------------------------------------------- what is programmed


def programmed(node: Node, cluster: Cluster, mention: str = "", port: int | None = None) -> Iterator[Programmed]:
    """Every way to dial a Service that the node's virtual servers make. A NodePort is told once, not for each address.

    ``mention`` ("namespace/name", "-d ADDRESS/") and ``port`` narrow the search.
    """
    pods = {ip: f"{p.namespace}/{p.name}" for p in cluster.pods for ip in p.ips if not p.host_network}
    objects = _objects(cluster)
    members = _members(node.sets)
    virtual = {a.ip for a in node.addresses if a.dev == DEVICE}
    own = {a.ip for a in node.addresses if a.dev != DEVICE}
    told: set[tuple[int, int]] = set()
    for server in node.virtual_servers:
        if server.ip is None or port not in (None, server.port):
            continue
        name = _name(server, server.ip, objects, members, virtual, own)
        if mention and mention not in f"{name.service} -d {server.ip}/":
            continue
        if name.kind == "NodePort":
            if (server.protocol, server.port) in told:
                continue
            told.add((server.protocol, server.port))
        backends = tuple(_backends(server, pods))
        yield Programmed(
            node.name, name.service, name.port_name, server.protocol, name.kind, None if name.kind == "NodePort" else server.ip,
            server.port, f"IPVS {server.scheduler}", backends, "" if any(r.weight for r in server.real) else "REJECT",
            server.persistence is not None, server.at,
        )  # fmt: skip


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
        for found in (objects.get((None, server.port, server.protocol)), members.get(port), members.get(f"{ip},{port}")):
            if found is not None:
                return found
    return _Named("", "", "NodePort" if ip in own and ip not in virtual else "ClusterIP")


_EVEN = frozenset({"rr", "sh", "mh"})


def _backends(server: VirtualServer, pods: Mapping[Addr, str]) -> Iterator[Backend]:
    total = sum(_share(server, real) for real in server.real)
    usable = sum(1 for real in server.real if real.weight)
    for real in server.real:
        odds: Fraction | None = Fraction(_share(server, real), total) if total else Fraction(0)
        if usable > 1 and real.weight and server.scheduler not in (*_EVEN, "wrr"):
            # lc, wlc, sed and nq go by live connections, dh and lblc by a hash of the one virtual address.
            odds = None
        chain = f"IPVS {server.scheduler}, weight {real.weight}"
        yield Backend(real.ip, real.port, odds, chain, pods.get(real.ip), real.at)


def _share(server: VirtualServer, real: RealServer) -> int:
    """A real server of weight 0 gets nothing new, whatever the scheduler."""
    return min(real.weight, 1) if server.scheduler == "rr" else real.weight


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
    if found and not (step.table, target) in _TARGETS:
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


