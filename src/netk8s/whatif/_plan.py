"""What kube-proxy is to program for one Service port on one node, in one address family, whatever its mode.

After CategorizeEndpoints() and the beginning of each port's part of syncProxyRules() (1.26 to 1.36).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from netk8s.intent import Where, chosen
from netk8s.model import PROTOCOL_NAMES, Addr, Endpoint, ServicePort


class Plan(Struct, frozen=True):
    """A port with the endpoints that a node uses for it, in kube-proxy's order: of the whole cluster, and its own.

    ``own``: every endpoint that is on the node, ready or not.
    """

    port: ServicePort
    family: int
    everywhere: tuple[Where, ...]
    here: tuple[Where, ...]
    own: frozenset[Where] = frozenset()

    @property
    def protocol(self) -> str:
        return PROTOCOL_NAMES[self.port.protocol]

    @property
    def service(self) -> str:
        """namespace/name."""
        return f"{self.port.namespace}/{self.port.service}"

    @property
    def name(self) -> str:
        """namespace/name:port, as kube-proxy's comments have it."""
        return f"{self.service}:{self.port.name}" if self.port.name else self.service

    @property
    def cluster_ips(self) -> list[Addr]:
        return self._of(self.port.cluster_ips)

    @property
    def external_ips(self) -> list[Addr]:
        return self._of(self.port.external_ips)

    @property
    def lb_ips(self) -> list[Addr]:
        return self._of(self.port.lb_ips)

    def _of(self, ips: Iterable[Addr]) -> list[Addr]:
        return [ip for ip in ips if ip.version == self.family]

    @property
    def ranges(self) -> list[str]:
        return [text for text in self.port.lb_source_ranges if (":" in text) == (self.family == 6)]

    @property
    def inside_local(self) -> bool:
        return self.port.internal_policy == "Local"

    @property
    def outside_local(self) -> bool:
        return self.port.external_policy == "Local"

    @property
    def outside(self) -> bool:
        """Whether there is an address for clients outside."""
        return bool(self.port.node_port or self.external_ips or self.lb_ips)

    @property
    def some(self) -> bool:
        """Whether any endpoint is usable, on whichever node."""
        return bool(self.everywhere)

    @property
    def serves_inside(self) -> bool:
        return bool(self.here) if self.inside_local else self.some

    @property
    def serves_outside(self) -> bool:
        return bool(self.here) if self.outside_local else self.some

    @property
    def cluster_ends(self) -> tuple[Where, ...]:
        """The endpoints of the policy Cluster, where it is in use: pods and nodes always follow it to outer addresses."""
        return self.everywhere if not self.inside_local or self.outside else ()

    @property
    def local_ends(self) -> tuple[Where, ...]:
        """The endpoints of the policy Local, where it is in use."""
        return self.here if self.inside_local or (self.outside_local and self.outside) else ()

    @property
    def used(self) -> tuple[Where, ...]:
        """Every endpoint that a packet may be sent to."""
        return tuple(dict.fromkeys((*self.cluster_ends, *self.local_ends)))


def planned(port: ServicePort, known: Iterable[Endpoint], family: int, node: str, zone: str | None) -> Plan:
    """The plan for a port whose endpoints are ``known``."""
    known = tuple(known)
    found = chosen(known, family, node, zone)
    own = frozenset((e.ip, e.port) for e in known if e.node == node and e.ip.version == family)
    return Plan(port, family, in_order(found.everywhere), in_order(found.here), own)


def shown(end: Where) -> str:
    """An endpoint as kube-proxy writes it."""
    return f"[{end[0]}]:{end[1]}" if end[0].version == 6 else f"{end[0]}:{end[1]}"


def in_order(ends: Iterable[Where]) -> tuple[Where, ...]:
    """Endpoints as kube-proxy sorts them (endpointslicecache.go): by their text."""
    return tuple(sorted(ends, key=shown))
