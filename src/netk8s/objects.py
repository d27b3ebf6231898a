"""The API's objects by what they are looked up by: put in order when first asked for, once for a cluster.

Every question about a large cluster asks for a few objects of thousands. Each lookup gives what a pass over the list
gives, in the list's order.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import cached_property, lru_cache
from typing import TypeVar

from netk8s.model import Addr, Cluster, Endpoint, Net, Pod, ServicePort, service_ranges

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Objects:
    """Lookups in the objects of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @cached_property
    def _services_by_ip(self) -> dict[Addr, tuple[ServicePort, ...]]:
        return _grouped(
            (ip, s)
            for s in self._cluster.services
            for ip in dict.fromkeys((*s.cluster_ips, *s.external_ips, *s.lb_ips, *s.lb_ips_proxy))
        )

    @cached_property
    def _services_by_node_port(self) -> dict[int, tuple[ServicePort, ...]]:
        return _grouped((s.node_port, s) for s in self._cluster.services if s.node_port is not None)

    @cached_property
    def _services_by_health_check(self) -> dict[int, tuple[ServicePort, ...]]:
        return _grouped(
            (s.health_check_node_port, s) for s in self._cluster.services if s.health_check_node_port is not None
        )

    @cached_property
    def _services_by_name(self) -> dict[tuple[str, str], tuple[ServicePort, ...]]:
        return _grouped(((s.namespace, s.service), s) for s in self._cluster.services)

    @cached_property
    def _endpoints_by_service(self) -> dict[tuple[str, str], tuple[Endpoint, ...]]:
        return _grouped(((e.namespace, e.service), e) for e in self._cluster.endpoints)

    @cached_property
    def _endpoints_by_ip(self) -> dict[Addr, tuple[Endpoint, ...]]:
        return _grouped((e.ip, e) for e in self._cluster.endpoints)

    @cached_property
    def _pods_by_ip(self) -> dict[Addr, tuple[Pod, ...]]:
        return _grouped((ip, pod) for pod in self._cluster.pods for ip in dict.fromkeys(pod.ips))

    @cached_property
    def _pods_by_name(self) -> dict[tuple[str, str], Pod]:
        return {(pod.namespace, pod.name): pod for pod in reversed(self._cluster.pods)}

    @cached_property
    def service_ranges(self) -> tuple[Net, ...]:
        """See :func:`netk8s.model.service_ranges`."""
        return service_ranges(self._cluster.services)

    def services_at(self, ip: Addr) -> tuple[ServicePort, ...]:
        """The ports of Services that have an address: ClusterIP, external IP or a load balancer's."""
        return self._services_by_ip.get(ip, ())

    def with_node_port(self, number: int | None) -> tuple[ServicePort, ...]:
        """The ports with this NodePort, of any protocol."""
        return self._services_by_node_port.get(number, ()) if number is not None else ()

    def with_health_check(self, number: int | None) -> tuple[ServicePort, ...]:
        """The ports of Services with this healthCheckNodePort."""
        return self._services_by_health_check.get(number, ()) if number is not None else ()

    def services_named(self, namespace: str, name: str) -> tuple[ServicePort, ...]:
        """The ports of a Service."""
        return self._services_by_name.get((namespace, name), ())

    def endpoints_of(self, namespace: str, service: str) -> tuple[Endpoint, ...]:
        """The endpoints of all ports of a Service."""
        return self._endpoints_by_service.get((namespace, service), ())

    def endpoints_at(self, ip: Addr) -> tuple[Endpoint, ...]:
        """The endpoints of any Service that have an address."""
        return self._endpoints_by_ip.get(ip, ())

    def pods_at(self, ip: Addr) -> tuple[Pod, ...]:
        """The pods that have an address, those of the node's network and those that are over too."""
        return self._pods_by_ip.get(ip, ())

    def pod_named(self, namespace: str, name: str) -> Pod | None:
        """The first pod of a name."""
        return self._pods_by_name.get((namespace, name))


@lru_cache(maxsize=4)
def of(cluster: Cluster) -> Objects:
    """The lookups in a cluster's objects."""
    return Objects(cluster)


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    out: dict[K, list[V]] = {}
    for key, value in pairs:
        out.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in out.items()}
