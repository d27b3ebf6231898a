"""What a check of one node needs of the other nodes' pods, in few bytes.

All of a cluster's pods would be most of what each agent is sent. EndpointSlices tell of those that are endpoints; of the
others the addresses are enough, to know which ones nobody has. Where there are NetworkPolicies, it takes what their
selectors see of the pods at the other end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from netk8s import policies, survey
from netk8s.model import Addr, Cluster, Elsewhere, NetworkPolicy, Pod, PolicyRule, Selector

SCHEMA = "netk8s.dev/elsewhere/v1"


def of(cluster: Cluster) -> Elsewhere | None:
    """What all nodes need; None for a cluster whose pods are not all listed."""
    if not {"pods", "endpoints"} <= cluster.covered:
        return None
    ends = {e.ip for e in cluster.endpoints if e.pod is not None}
    pods = [p for p in cluster.pods if not p.host_network and p.phase not in ("Succeeded", "Failed")]
    addresses = frozenset(ip for pod in pods for ip in pod.ips if ip not in ends)
    seen = _Seen(cluster.policies)
    clients = {(p.namespace, p.name): seen.of(p, p.name) for p in _clients(cluster)}
    peers = [p for p in pods if seen.receivers and not ends.isdisjoint(p.ips) and (p.namespace, p.name) not in clients]
    idle = tuple(f"{p.namespace}/{p.name}" for p in cluster.policies if not policies.selected(cluster, p))
    return Elsewhere(addresses, tuple(seen.of(p, "") for p in peers), tuple(clients.values()), idle)


class _Seen:
    """What the selectors and ports of policies see of a pod. ``receivers``: whether they ask who a pod sends to."""

    def __init__(self, found: Iterable[NetworkPolicy]) -> None:
        rules = [(rule, rule in p.egress) for p in found for rule in (*p.ingress, *p.egress)]
        self._keys = {requirement.key for rule, _ in rules for each in _selectors(rule) for requirement in each}
        self._named = {port.port for rule, _ in rules for port in rule.ports or () if isinstance(port.port, str)}
        self.receivers = any(egress and (_by_selector(rule) or self._named) for rule, egress in rules)

    def of(self, pod: Pod, name: str) -> Pod:
        labels = tuple((key, value) for key, value in pod.labels if key in self._keys)
        ports = tuple(
            (port, number, protocol, None, "") for port, number, protocol, *_ in pod.ports if port in self._named
        )
        return Pod(pod.namespace, name, pod.node, pod.ips, ports=ports, labels=labels)


def _by_selector(rule: PolicyRule) -> bool:
    return any(peer.block is None for peer in rule.peers or ())


def _selectors(rule: PolicyRule) -> Iterator[Selector]:
    return (peer.pods for peer in rule.peers or () if peer.pods is not None)


def _clients(cluster: Cluster) -> Iterator[Pod]:
    """Of each node the pods that a Service is asked by there: one that serves it not is among them."""
    serves: dict[Addr, set[tuple[str, str]]] = {}
    for end in cluster.endpoints:
        serves.setdefault(end.ip, set()).add((end.namespace, end.service))
    for pods in survey.clients(cluster).values():
        shared: set[tuple[str, str]] | None = None
        for pod in pods:
            yield pod
            mine = {service for ip in pod.ips for service in serves.get(ip, ())}
            shared = mine if shared is None else shared & mine
            if not shared:
                break


PIECES = 16
SPLIT_FROM = 20_000


def texts(found: Elsewhere) -> list[bytes]:
    """What netk8s.decode.elsewhere reads; in pieces where there is much of it, so that few change when a pod does."""
    if len(found.addresses) + len(found.peers) + len(found.clients) < SPLIT_FROM:
        return [text(found)]
    parts = [
        Elsewhere(
            frozenset(ip for ip in found.addresses if _piece(ip) == number),
            tuple(pod for pod in found.peers if _piece(pod.ips[0]) == number),
            tuple(pod for pod in found.clients if _piece(pod.ips[0]) == number),
        )
        for number in range(PIECES)
    ]
    return [text(part) for part in (*parts, Elsewhere(idle=found.idle))]


def _piece(ip: Addr) -> int:
    """Addresses of one node mostly go together."""
    return (int(ip) >> 8) % PIECES


def text(found: Elsewhere) -> bytes:
    """What netk8s.decode.elsewhere reads."""
    kinds: dict[tuple[object, ...], list[Pod]] = {}
    for pod in (*found.peers, *found.clients):
        kinds.setdefault((pod.namespace, pod.labels, pod.ports), []).append(pod)
    alike = [
        {
            "namespace": namespace,
            "labels": dict(labels),  # type: ignore[call-overload]
            "ports": [{"name": name, "port": port, "protocol": protocol} for name, port, protocol, *_ in ports],  # type: ignore[attr-defined]
            "endpoints": [" ".join(map(str, pod.ips)) for pod in pods if not pod.name],
            "clients": [" ".join((pod.name, pod.node or "", *map(str, pod.ips))) for pod in pods if pod.name],
        }
        for (namespace, labels, ports), pods in kinds.items()
    ]
    addresses = [str(ip) for ip in sorted(found.addresses, key=lambda ip: (ip.version, int(ip)))]
    document = {"schema": SCHEMA, "addresses": addresses, "pods": alike, "idle": list(found.idle)}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
