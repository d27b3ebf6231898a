"""Lookups in the API's objects give what a pass over the list gives, in its order."""

from __future__ import annotations

import random
from ipaddress import ip_address

from netk8s import objects
from netk8s.model import TCP, UDP, Addr, Cluster, Endpoint, Pod, ServicePort, service_ranges


def some_cluster(rng: random.Random) -> Cluster:
    def ips(most: int) -> tuple[Addr, ...]:
        return tuple(ip_address(f"10.0.0.{rng.randrange(12)}") for _ in range(rng.randrange(most + 1)))

    def name() -> str:
        return rng.choice("abc")

    services = tuple(
        ServicePort(
            name(), name(), "", rng.choice((TCP, UDP)), 80, "80", rng.choice((None, 30000, 30001)), "NodePort", ips(2),
            ips(1), ips(1), ips(1), health_check_node_port=rng.choice((None, 30001, 30002)),
        )
        for _ in range(rng.randrange(20))
    )  # fmt: skip
    endpoints = tuple(
        Endpoint(name(), name(), "", TCP, ip, rng.choice((80, 81))) for _ in range(rng.randrange(20)) for ip in ips(1)
    )
    pods = tuple(Pod(name(), name(), "node", ips(2)) for _ in range(rng.randrange(9)))
    return Cluster(services, endpoints, pods)


def test_lookups_are_passes_over_the_lists() -> None:
    rng = random.Random(7)  # noqa: S311 - chance that can be repeated, no secret
    met = 0
    for _ in range(60):
        cluster = some_cluster(rng)
        known = objects.of(cluster)
        assert known.service_ranges == service_ranges(cluster.services)
        for number in (None, 30000, 30001, 30002):
            asked = [s for s in cluster.services if number is not None and s.node_port == number]
            assert list(known.with_node_port(number)) == asked
            checked = [s for s in cluster.services if number is not None and s.health_check_node_port == number]
            assert list(known.with_health_check(number)) == checked
        for last in range(12):
            ip = ip_address(f"10.0.0.{last}")
            having = [
                s for s in cluster.services if ip in (*s.cluster_ips, *s.external_ips, *s.lb_ips, *s.lb_ips_proxy)
            ]
            met += len(having)
            assert list(known.services_at(ip)) == having
            assert list(known.endpoints_at(ip)) == [e for e in cluster.endpoints if e.ip == ip]
            assert list(known.pods_at(ip)) == [p for p in cluster.pods if ip in p.ips]
        for space in "abc":
            for name in "abc":
                assert list(known.services_named(space, name)) == [
                    s for s in cluster.services if (s.namespace, s.service) == (space, name)
                ]
                assert list(known.endpoints_of(space, name)) == [
                    e for e in cluster.endpoints if (e.namespace, e.service) == (space, name)
                ]
                first = next((p for p in cluster.pods if (p.namespace, p.name) == (space, name)), None)
                assert known.pod_named(space, name) is first
    assert met
