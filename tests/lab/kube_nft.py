"""What kube-proxy in nftables mode writes for a :class:`~lab.topology.Topology`, for one node and family.

Not a copy of kube-proxy: the usual Service kinds, in three layouts of its table (reference/kube-proxy-nftables.md), held
against what real ones wrote (test_kube_nft.py).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from .topology import NodeSpec, PodSpec, ServiceSpec, Topology, of_family

LAYOUTS = ("1.33", "1.34", "1.36")
"""The first that has each: hooks of the lookups before DNAT; the same after DNAT; endpoints in the map that balances."""
FIRST_HAIRPIN_SET = "1.36"
MARK = "0x00004000"
_LOOKUP = "ip daddr . meta l4proto . th dport vmap"
_HOOKS = {
    "1.33": (
        ("filter-prerouting", "filter", "prerouting", -110, ("firewall-check",)),
        ("filter-input", "filter", "input", -110, ("nodeport-endpoints-check", "service-endpoints-check")),
        ("filter-forward", "filter", "forward", -110, ("service-endpoints-check", "cluster-ips-check")),
        ("filter-output", "filter", "output", -110, ("service-endpoints-check", "firewall-check")),
        ("filter-output-post-dnat", "filter", "output", -90, ("cluster-ips-check",)),
    ),
    "1.34": (
        ("filter-prerouting-pre-dnat", "filter", "prerouting", -110, ("firewall-check",)),
        ("filter-output-pre-dnat", "filter", "output", -110, ("firewall-check",)),
        ("filter-input", "filter", "input", 0, ("nodeport-endpoints-check", "service-endpoints-check")),
        ("filter-forward", "filter", "forward", 0, ("service-endpoints-check", "cluster-ips-check")),
        ("filter-output", "filter", "output", 0, ("service-endpoints-check", "cluster-ips-check")),
    ),
}
_NAT = (
    ("nat-prerouting", "prerouting", -100, "services"),
    ("nat-output", "output", -100, "services"),
    ("nat-postrouting", "postrouting", 100, "masquerading"),
)


def _hashed(name: str) -> str:
    return base64.b32encode(hashlib.sha256(name.encode()).digest())[:8].decode() + "-" + name


def port_name(service: ServiceSpec) -> str:
    """What the names of a Service's chains end with."""
    return _hashed(f"{service.key}/{service.protocol}/")


def endpoint_name(service: ServiceSpec, ip: str, port: int) -> str:
    """What the names of an endpoint's chain and affinity set end with."""
    return _hashed(f"{service.key}/{service.protocol}/__{ip.replace(':', '.')}/{port}")


def kube_nft(topology: Topology, node: NodeSpec, family: int = 4, layout: str = LAYOUTS[-1]) -> str:
    """Text for ``nft -f`` that puts a node's table ``ip kube-proxy`` (``ip6``) in the place of the one before."""
    return _Table(topology, node, family, layout).text()


class _Table:
    def __init__(self, topology: Topology, node: NodeSpec, family: int, layout: str) -> None:
        self.topology, self.node, self.family = topology, node, family
        self.ip = "ip" if family == 4 else "ip6"
        self.layout, self.direct = layout, layout >= FIRST_HAIRPIN_SET
        cidr = next(iter(of_family(topology.cluster_cidrs, family)), "")
        self.pods = f"{self.ip} saddr {cidr}"
        self.others = f"{self.ip} saddr != {cidr}"
        self.mark = f"meta mark set meta mark | {MARK}" if self.direct else "jump mark-for-masquerade"
        self.elements: dict[str, dict[str, None]] = {
            name: {}
            for name in (
                "cluster-ips", "nodeport-ips", "no-endpoint-services", "no-endpoint-nodeports", "firewall-ips", "service-ips",
                "service-nodeports", *(["hairpin-connections"] if self.direct else []),
            )
        }  # fmt: skip
        self.affinity: dict[str, int] = {}
        self.chains: dict[str, list[str]] = {}

    def put(self, name: str, element: str) -> None:
        self.elements[name][element] = None

    def text(self) -> str:
        self.put("nodeport-ips", self.node.ip(self.family))
        self._static()
        for service in self.topology.services:
            for ip in of_family(service.cluster_ips, self.family)[:1]:
                self._service(service, ip)
        head = f"table {self.ip} kube-proxy"
        lines = [f"add {head}", f"delete {head}", head + " {", ' comment "rules for kube-proxy"']
        address = "ipv4_addr" if self.family == 4 else "ipv6_addr"
        for name, elements in self.elements.items():
            if name.endswith(("services", "nodeports")) or name in ("service-ips", "firewall-ips"):
                key = "" if name.endswith("nodeports") else f"{address} . "
                kind, declared = "map", f"{key}inet_proto . inet_service : verdict"
            elif name == "hairpin-connections":
                kind, declared = "set", f"{address} . {address} . inet_proto . inet_service"
            else:
                kind, declared = "set", address
            told = f"; elements = {{ {', '.join(elements)} }}" if elements else ""
            lines.append(f" {kind} {name} {{ type {declared}{told}; }}")
        for name, seconds in self.affinity.items():
            lines.append(f" set {name} {{ type {address}; flags dynamic,timeout; timeout {seconds}s; }}")
        for name, kind, hook, priority, targets in _HOOKS["1.33" if self.layout < "1.34" else "1.34"]:
            rules = [f"ct state new jump {target}" for target in targets]
            self._listed(lines, name, [f"type {kind} hook {hook} priority {priority};", *rules])
        for name, hook, priority, target in _NAT:
            self._listed(lines, name, [f"type nat hook {hook} priority {priority};", f"jump {target}"])
        # What is jumped to has to be there when the rule is.
        for name, rules in reversed(self.chains.items()):
            self._listed(lines, name, rules)
        return "\n".join([*lines, "}", ""])

    @staticmethod
    def _listed(lines: list[str], name: str, rules: Sequence[str]) -> None:
        lines += [f" chain {name} {{", *(f"  {rule}" for rule in rules), " }"]

    def _static(self) -> None:
        lookup = _LOOKUP if self.family == 4 else _LOOKUP.replace("ip ", "ip6 ")
        clusters = f"{self.ip} daddr @cluster-ips"
        nodeports = f"{self.ip} daddr @nodeport-ips meta l4proto . th dport vmap"
        rules = self.chains
        rules["nodeport-endpoints-check"] = [f"{nodeports} @no-endpoint-nodeports"]
        rules["service-endpoints-check"] = [f"{lookup} @no-endpoint-services"]
        rules["firewall-check"] = [f"{lookup} @firewall-ips"]
        rules["services"] = [f"{lookup} @service-ips", f"{nodeports} @service-nodeports"]
        rules["masquerading"] = [
            f"meta mark & {MARK} == 0x00000000 return",
            f"meta mark set meta mark ^ {MARK}",
            "masquerade fully-random",
        ]
        rules["cluster-ips-check"] = [f'{clusters} reject comment "Reject traffic to invalid ports of ClusterIPs"']
        rules["reject-chain"] = ["reject"]
        if not self.direct:
            rules["mark-for-masquerade"] = [f"meta mark set meta mark | {MARK}"]
            return
        why = 'comment "masquerade clusterIP traffic from outside cluster"'
        rules["services"].insert(0, f"{clusters} {self.others} {self.mark} {why}")
        rules["masquerading"] = [
            f"meta mark & {MARK} != 0x00000000 meta mark set meta mark ^ {MARK} masquerade fully-random",
            f"ct status dnat {self.ip} saddr . {self.ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random",
        ]

    def _service(self, service: ServiceSpec, cluster_ip: str) -> None:
        proto, port, ends = service.protocol, service.port, self.topology.endpoints(service, self.family)
        here = [end for end in ends if end[1].node == self.node.name]
        svc, local, external = (f"{kind}-{port_name(service)}" for kind in ("service", "local", "external"))
        inside_local, outside_local = service.internal_policy == "Local", service.external_policy == "Local"
        outside = bool(service.node_port or service.external_ips)
        stop = f'comment "{service.key}" : {"drop" if ends else "goto reject-chain"}'
        self.put("cluster-ips", cluster_ip)
        if here if inside_local else ends:
            self.put("service-ips", f"{cluster_ip} . {proto} . {port} : goto {local if inside_local else svc}")
        else:
            self.put("no-endpoint-services", f"{cluster_ip} . {proto} . {port} {stop}")
        keys = [("service-ips", "no-endpoint-services", f"{ip} . {proto} . {port}")
                for ip in of_family(service.external_ips, self.family)]  # fmt: skip
        if service.node_port:
            keys.append(("service-nodeports", "no-endpoint-nodeports", f"{proto} . {service.node_port}"))
        for served, stopped, key in keys:
            if ends:
                self.put(served, f"{key} : goto {external}")
            if not (here if outside_local else ends):
                self.put(stopped, f"{key} {stop}")
        if not ends:
            return
        if outside:
            self.chains[external] = self._external(svc, local if here else "", outside_local)
        whole = not inside_local or outside
        if whole:
            self.chains[svc] = self._balanced(service, ends)
        if here and (inside_local or (outside_local and outside)):
            self.chains[local] = self._balanced(service, here)
        if not self.direct and (here if inside_local else ends):
            named = f"{proto} dport {port} " if self.layout < "1.34" else ""
            head = f"{self.ip} daddr {cluster_ip} {named}{self.others} {self.mark}"
            self.chains[local if inside_local else svc].insert(0, head)
        for ip, pod in ends if whole else here:
            self._endpoint(service, ip, pod)

    def _external(self, svc: str, local: str, outside_local: bool) -> list[str]:
        if not outside_local:
            return [self.mark + (' comment "masquerade"' if self.direct else ""), f"goto {svc}"]
        return [
            f'{self.pods} goto {svc} comment "short-circuit pod traffic"',
            f'fib saddr type local {self.mark} comment "masquerade local traffic"',
            f'fib saddr type local goto {svc} comment "short-circuit local traffic"',
            *([f"goto {local}"] if local else []),
        ]

    def _balanced(self, service: ServiceSpec, ends: Sequence[tuple[str, PodSpec]]) -> list[str]:
        names = [endpoint_name(service, ip, service.target_port) for ip, _ in ends]
        dice = f"numgen random mod {len(ends)}"
        if self.direct and not service.affinity:
            to = ", ".join(f"{place} : {ip} . {service.target_port}" for place, (ip, _) in enumerate(ends))
            return [f"meta l4proto {service.protocol} dnat {self.ip} to {dice} map {{ {to} }}"]
        kept = [f"{self.ip} saddr @affinity-{name} goto endpoint-{name}" for name in names if service.affinity]
        to = ", ".join(f"{place} : goto endpoint-{name}" for place, name in enumerate(names))
        return [*kept, f"{dice} vmap {{ {to} }}"]

    def _endpoint(self, service: ServiceSpec, ip: str, pod: PodSpec) -> None:
        port, name = service.target_port, endpoint_name(service, ip, service.target_port)
        if self.direct and pod.node == self.node.name:
            self.put("hairpin-connections", f"{ip} . {ip} . {service.protocol} . {port}")
        if self.direct and not service.affinity:
            return
        rules = [] if self.direct else [f"{self.ip} saddr {ip} {self.mark}"]
        if service.affinity:
            self.affinity[f"affinity-{name}"] = service.affinity
            rules.append(f"update @affinity-{name} {{ {self.ip} saddr }}")
        where = f"[{ip}]:{port}" if self.family == 6 else f"{ip}:{port}"
        self.chains[f"endpoint-{name}"] = [*rules, f"meta l4proto {service.protocol} dnat to {where}"]
