"""What kube-proxy (1.30, iptables mode, --cluster-cidr) writes for a :class:`~lab.topology.Topology`, for one node.

Not a copy of kube-proxy: the usual Service kinds only, enough to make the lab's clusters look like real ones. Chain
names are the real hashes (reference/kube-proxy-iptables.md, section 1).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from .topology import NodeSpec, ServiceSpec, Topology, of_family

MARK = "0x4000/0x4000"


def _hash(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:16].decode()


def service_chain(service: ServiceSpec, kind: str = "SVC") -> str:
    """KUBE-SVC-…, KUBE-SVL-… or KUBE-EXT-… of a Service's (unnamed) port."""
    return f"KUBE-{kind}-{_hash(service.key + service.protocol)}"


def endpoint_chain(service: ServiceSpec, endpoint: str) -> str:
    """KUBE-SEP-… of one endpoint, ``ip:port`` or ``[ip]:port``."""
    return f"KUBE-SEP-{_hash(service.key + service.protocol + endpoint)}"


def kube_rules(topology: Topology, node: NodeSpec, family: int) -> str:
    """iptables-restore text of a node's mangle, filter and nat tables."""
    bits = 32 if family == 4 else 128
    cluster_cidr = next(iter(of_family(topology.cluster_cidrs, family)), "")
    chains: list[str] = []
    services: list[str] = []
    ports: list[str] = []
    rest: list[str] = []
    rejects: list[str] = []
    external_rejects: list[str] = []
    for service in topology.services:
        cluster_ip = next(iter(of_family(service.cluster_ips, family)), "")
        if not cluster_ip:
            continue
        p, key = service.protocol, service.key
        endpoints = [
            (ip, pod, f"[{ip}]:{service.target_port}" if family == 6 else f"{ip}:{service.target_port}")
            for ip, pod in topology.endpoints(service, family)
        ]
        if not endpoints:
            why = f'-m comment --comment "{key} has no endpoints" -m {p}'
            reject = f"icmp{'6' if family == 6 else ''}-port-unreachable"
            rejects.append(
                f"-A KUBE-SERVICES -d {cluster_ip}/{bits} -p {p} {why} --dport {service.port} "
                f"-j REJECT --reject-with {reject}"
            )
            if service.node_port:
                external_rejects.append(
                    f"-A KUBE-EXTERNAL-SERVICES -p {p} -m addrtype --dst-type LOCAL {why} "
                    f"--dport {service.node_port} -j REJECT --reject-with {reject}"
                )
            continue
        svc, svl, ext = (service_chain(service, kind) for kind in ("SVC", "SVL", "EXT"))
        local = [e for e in endpoints if e[1].node == node.name]
        internal = svc if service.internal_policy == "Cluster" else svl
        uses_local = "Local" in (service.internal_policy, service.external_policy) and local
        chains += [svc, *([svl] if uses_local else [])]
        if internal == svc or local:
            services.append(
                f'-A KUBE-SERVICES -d {cluster_ip}/{bits} -p {p} -m comment --comment "{key} cluster IP" '
                f"-m {p} --dport {service.port} -j {internal}"
            )
            mark = (
                f"-A {internal} ! -s {cluster_cidr} -d {cluster_ip}/{bits} -p {p} -m comment --comment "
                f'"{key} cluster IP" -m {p} --dport {service.port} -j KUBE-MARK-MASQ'
            )
            rest.append(mark)
        else:
            rejects.append(
                f"-A KUBE-SERVICES -d {cluster_ip}/{bits} -p {p} -m comment --comment "
                f'"{key} has no local endpoints" -m {p} --dport {service.port} -j DROP'
            )
        if service.node_port or service.external_ips:
            chains.append(ext)
            note = f"for {key} external destinations"
            for ip in of_family(service.external_ips, family):
                services.append(
                    f'-A KUBE-SERVICES -d {ip}/{bits} -p {p} -m comment --comment "{key} external IP" '
                    f"-m {p} --dport {service.port} -j {ext}"
                )
            if service.node_port:
                ports.append(
                    f"-A KUBE-NODEPORTS -p {p} -m comment --comment {key} -m {p} --dport {service.node_port} -j {ext}"
                )
            if service.external_policy == "Cluster":
                rest += [
                    f'-A {ext} -m comment --comment "masquerade traffic {note}" -j KUBE-MARK-MASQ',
                    f"-A {ext} -j {svc}",
                ]
            else:
                rest += [
                    f'-A {ext} -s {cluster_cidr} -m comment --comment "pod traffic {note}" -j {svc}',
                    f'-A {ext} -m comment --comment "masquerade LOCAL traffic {note}" -m addrtype --src-type LOCAL '
                    f"-j KUBE-MARK-MASQ",
                    f'-A {ext} -m comment --comment "route LOCAL traffic {note}" -m addrtype --src-type LOCAL -j {svc}',
                ]
                if local:
                    rest.append(f"-A {ext} -j {svl}")
                elif service.node_port:
                    external_rejects.append(
                        f"-A KUBE-EXTERNAL-SERVICES -p {p} -m addrtype --dst-type LOCAL -m comment --comment "
                        f'"{key} has no local endpoints" -m {p} --dport {service.node_port} -j DROP'
                    )
        rest += _balance(svc, service, endpoints)
        if uses_local:
            rest += _balance(svl, service, local)
        for ip, _, endpoint in endpoints:
            sep = endpoint_chain(service, endpoint)
            chains.append(sep)
            rest += [
                f"-A {sep} -s {ip}/{bits} -m comment --comment {key} -j KUBE-MARK-MASQ",
                f"-A {sep} -p {p} -m comment --comment {key} -m {p} -j DNAT --to-destination {endpoint}",
            ]
    nodeports = (
        '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in '
        'this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS'
    )
    if family == 6:
        nodeports = nodeports.replace("-A KUBE-SERVICES", "-A KUBE-SERVICES ! -d ::1/128")
    own = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-PROXY-CANARY"]
    portals = '-m comment --comment "kubernetes service portals"'
    new = "-m conntrack --ctstate NEW"
    balancer = '-m comment --comment "kubernetes load balancer firewall"'
    visible = '-m comment --comment "kubernetes externally-visible service portals"'
    firewall = (
        [
            "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "
            '"block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP'
        ]
        if family == 4
        else []
    )
    lines = [
        "*mangle",
        ":KUBE-PROXY-CANARY -",
        "COMMIT",
        "*filter",
        ":INPUT ACCEPT",
        ":FORWARD ACCEPT",
        ":OUTPUT ACCEPT",
        *(
            f":{c} -"
            for c in (
                "KUBE-EXTERNAL-SERVICES",
                "KUBE-FIREWALL",
                "KUBE-FORWARD",
                "KUBE-NODEPORTS",
                "KUBE-PROXY-CANARY",
                "KUBE-PROXY-FIREWALL",
                "KUBE-SERVICES",
            )
        ),
        f"-A INPUT {new} {balancer} -j KUBE-PROXY-FIREWALL",
        '-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS',
        f"-A INPUT {new} {visible} -j KUBE-EXTERNAL-SERVICES",
        "-A INPUT -j KUBE-FIREWALL",
        f"-A FORWARD {new} {balancer} -j KUBE-PROXY-FIREWALL",
        '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
        f"-A FORWARD {new} {portals} -j KUBE-SERVICES",
        f"-A FORWARD {new} {visible} -j KUBE-EXTERNAL-SERVICES",
        f"-A OUTPUT {new} {balancer} -j KUBE-PROXY-FIREWALL",
        f"-A OUTPUT {new} {portals} -j KUBE-SERVICES",
        "-A OUTPUT -j KUBE-FIREWALL",
        *firewall,
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        f'-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark {MARK} -j ACCEPT',
        '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack '
        "--ctstate RELATED,ESTABLISHED -j ACCEPT",
        *rejects,
        *external_rejects,
        "COMMIT",
        "*nat",
        ":PREROUTING ACCEPT",
        ":INPUT ACCEPT",
        ":OUTPUT ACCEPT",
        ":POSTROUTING ACCEPT",
        *(f":{chain} -" for chain in (*own, *dict.fromkeys(chains))),
        f"-A PREROUTING {portals} -j KUBE-SERVICES",
        f"-A OUTPUT {portals} -j KUBE-SERVICES",
        '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
        f"-A KUBE-POSTROUTING -m mark ! --mark {MARK} -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
        '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" '
        "-j MASQUERADE --random-fully",
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
        *services,
        nodeports,
        *ports,
        *rest,
        "COMMIT",
        "",
    ]
    return "\n".join(lines)


def _balance(chain: str, service: ServiceSpec, endpoints: Sequence[tuple[str, object, str]]) -> list[str]:
    lines = []
    for i, (_, _, endpoint) in enumerate(endpoints):
        left = len(endpoints) - i
        dice = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
        lines.append(
            f'-A {chain} -m comment --comment "{service.key} -> {endpoint}" {dice}'
            f"-j {endpoint_chain(service, endpoint)}"
        )
    return lines
