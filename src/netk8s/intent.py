"""What kube-proxy intends on a node for every way to dial a Service port, from the API's objects alone.

The choice of endpoints is that of pkg/proxy/topology.go (1.26 to 1.36); what earlier versions and IPVS mode choose in the
same place is given beside it, so that a difference is only called one when no version explains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from netk8s.model import Addr, Cluster, Endpoint, ServicePort

Where = tuple[Addr, int]
"""An endpoint's address and port."""

CLUSTER, LOCAL = "Cluster", "Local"
DEFAULT_AFFINITY = 10800
"""Seconds a client keeps its endpoint where sessionAffinityConfig says nothing (core/v1)."""


class Intended(Struct, frozen=True):
    """One way to dial a Service port on a node, in one address family. ``ip`` None: a NodePort.

    ``choices``: the endpoints that clients outside (of a ClusterIP: those inside) are sent to; the first set is what
    kube-proxy of today chooses, the others are what it chose in other versions or in IPVS mode. ``known``: every address
    of the port, usable or not.
    """

    port: ServicePort
    kind: str
    ip: Addr | None
    number: int
    family: int
    policy: str
    choices: tuple[frozenset[Where], ...]
    known: tuple[Endpoint, ...]

    @property
    def service(self) -> str:
        """namespace/name."""
        return f"{self.port.namespace}/{self.port.service}"

    @property
    def affinity_seconds(self) -> int | None:
        """How long a client keeps its endpoint, None without session affinity."""
        if self.port.affinity != "ClientIP":
            return None
        return self.port.affinity_seconds or DEFAULT_AFFINITY


class _Place(Struct, frozen=True):
    """The node for which endpoints are chosen. ``zone`` None: not known."""

    node: str
    zone: str | None


def intended(cluster: Cluster, node: str) -> Iterator[Intended]:
    """Every way to dial every Service port that kube-proxy of a node serves.

    Headless Services, those of another proxy (label service.kubernetes.io/service-proxy-name) and load balancer addresses
    of ipMode Proxy are none.
    """
    zone = next((item.zone for item in cluster.nodes if item.name == node), None)
    place = _Place(node, zone)
    by_port: dict[tuple[str, str, str, int], list[Endpoint]] = {}
    for e in cluster.endpoints:
        by_port.setdefault((e.namespace, e.service, e.port_name, e.protocol), []).append(e)
    for port in cluster.services:
        if not port.cluster_ips or port.proxy:
            continue
        found = by_port.get((port.namespace, port.service, port.name, port.protocol), [])
        for family in dict.fromkeys(ip.version for ip in port.cluster_ips):
            known = tuple(e for e in found if e.ip.version == family)
            everywhere, here = _everywhere(known, place), _here(known, node)
            internal = _internal(port, everywhere, here)
            external = _external(port, everywhere, here)
            for kind, ip, number in _dialled(port, family):
                choices = internal if kind == "ClusterIP" else external
                policy = port.internal_policy if kind == "ClusterIP" else port.external_policy
                yield Intended(port, kind, ip, number, family, policy, tuple(dict.fromkeys(choices)), known)


class Chosen(Struct, frozen=True):
    """The endpoints of a port that a node uses, in no order: of the whole cluster, and its own."""

    everywhere: tuple[Where, ...]
    here: tuple[Where, ...]


def chosen(known: Iterable[Endpoint], family: int, node: str, zone: str | None) -> Chosen:
    """What kube-proxy of today chooses on a node of a port's endpoints in one address family (CategorizeEndpoints)."""
    mine = [e for e in known if e.ip.version == family]
    return Chosen(tuple(_everywhere(mine, _Place(node, zone))[0]), tuple(_here(mine, node)[0]))


def _dialled(port: ServicePort, family: int) -> Iterator[tuple[str, Addr | None, int]]:
    addresses = (("ClusterIP", port.cluster_ips), ("ExternalIP", port.external_ips), ("LoadBalancer", port.lb_ips))
    for kind, ips in addresses:
        yield from ((kind, ip, port.port) for ip in ips if ip.version == family)
    if port.node_port is not None:
        yield "NodePort", None, port.node_port


Choices = tuple[frozenset[Where], ...]


def _internal(port: ServicePort, everywhere: Choices, here: Choices) -> Choices:
    if port.internal_policy != LOCAL:
        return everywhere
    # Where external traffic is Local too, 1.23 and earlier, and IPVS mode without a local endpoint, use them all.
    return (*here, *everywhere) if port.external_policy == LOCAL else here


def _external(port: ServicePort, everywhere: Choices, here: Choices) -> Choices:
    if port.external_policy != LOCAL:
        return everywhere
    # IPVS mode falls back to endpoints of other nodes where the node has none (pkg/proxy/ipvs syncEndpoint).
    return (*here, *everywhere) if not here[0] else here


def _everywhere(known: Iterable[Endpoint], place: _Place) -> Choices:
    ready = [e for e in known if e.ready]
    draining = _where(e for e in known if e.terminating and e.serving)
    if not ready:
        # Before 1.26 an endpoint that terminates was never used for the policy Cluster.
        return (draining, frozenset())
    hinted = _hinted(ready, place)
    return (_where(hinted), _where(ready)) if hinted is not None else (_where(ready),)


def _here(known: Iterable[Endpoint], node: str) -> Choices:
    mine = [e for e in known if e.node == node]
    ready = _where(e for e in mine if e.ready)
    return (ready,) if ready else (_where(e for e in mine if e.terminating and e.serving), frozenset())


def _hinted(ready: list[Endpoint], place: _Place) -> list[Endpoint] | None:
    """The endpoints whose hints name the node, else those whose hints name its zone; None where hints are not followed.

    They are when every ready endpoint has some and at least one fits.
    """
    if not all(e.hints for e in ready):
        return None
    mine = [e for e in ready if f"node/{place.node}" in e.hints]
    return mine or [e for e in ready if place.zone is not None and place.zone in e.hints] or None


def _where(found: Iterable[Endpoint]) -> frozenset[Where]:
    return frozenset((e.ip, e.port) for e in found)
