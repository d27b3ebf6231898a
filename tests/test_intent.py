"""What kube-proxy intends: endpoints by readiness, policy and hints, as pkg/proxy/topology_test.go has it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from netk8s.intent import Intended, intended
from netk8s.model import TCP, Cluster, ClusterNode, Endpoint, ServicePort

NODES = (ClusterNode("a", (), zone="z1"), ClusterNode("b", (), zone="z2"))


def end(n: int, node: str = "a", **more: object) -> Endpoint:
    return Endpoint("default", "web", "", TCP, ip_address(f"10.1.0.{n}"), 8080, node, **more)  # type: ignore[arg-type]


def service(**more: object) -> ServicePort:
    words: dict[str, object] = {"external_policy": "Cluster", "internal_policy": "Cluster", **more}
    return ServicePort(
        "default", "web", "", TCP, 80, "8080", 30000, "NodePort", (ip_address("10.96.0.9"),), **words  # type: ignore[arg-type]
    )  # fmt: skip


def chosen(node: str, port: ServicePort, *ends: Endpoint) -> dict[str, list[int]]:
    """The last byte of the endpoints that kube-proxy of today chooses, by how the port is dialled."""
    cluster = Cluster(services=(port,), endpoints=ends, nodes=NODES)
    return {want.kind: sorted(int(ip) & 255 for ip, _ in want.choices[0]) for want in intended(cluster, node)}


GOING = {"ready": False, "serving": True, "terminating": True}


@pytest.mark.parametrize(
    ("node", "policies", "ends", "internal", "external"),
    [
        ("a", {}, (end(1), end(2, "b")), [1, 2], [1, 2]),
        ("a", {}, (end(1, ready=False), end(2, "b")), [2], [2]),
        ("a", {}, (end(1, **GOING), end(2, "b")), [2], [2]),
        ("a", {}, (end(1, **GOING), end(2, "b", ready=False)), [1], [1]),
        ("a", {"external_policy": "Local"}, (end(1), end(2, "b")), [1, 2], [1]),
        ("a", {"external_policy": "Local"}, (end(1, **GOING), end(2, "b")), [2], [1]),
        ("a", {"external_policy": "Local"}, (end(2, "b"),), [2], []),
        ("b", {"internal_policy": "Local"}, (end(1), end(2, "b")), [2], [1, 2]),
        ("a", {}, (end(1, hints=("z1",)), end(2, "b", hints=("z2",))), [1], [1]),
        ("a", {}, (end(1, hints=("z1",)), end(2, "b")), [1, 2], [1, 2]),
        ("a", {}, (end(1, hints=("z2",)), end(2, "b", hints=("z2",))), [1, 2], [1, 2]),
        ("b", {}, (end(1, hints=("z1", "node/a")), end(2, "b", hints=("z1", "node/b"))), [2], [2]),
        ("a", {"external_policy": "Local"}, (end(1, hints=("z2",)), end(2, "b", hints=("z1",))), [2], [1]),
    ],
)  # fmt: skip
def test_which_endpoints_are_chosen(
    node: str, policies: dict[str, str], ends: tuple[Endpoint, ...], internal: list[int], external: list[int]
) -> None:
    assert chosen(node, service(**policies), *ends) == {"ClusterIP": internal, "NodePort": external}


def test_older_versions_and_ipvs_have_choices_of_their_own() -> None:
    def sets(port: ServicePort, *ends: Endpoint) -> dict[str, list[set[int]]]:
        cluster = Cluster(services=(port,), endpoints=ends, nodes=NODES)
        return {w.kind: [{int(ip) & 255 for ip, _ in c} for c in w.choices] for w in intended(cluster, "a")}

    assert sets(service(), end(1, **GOING))["ClusterIP"] == [{1}, set()]
    assert sets(service(external_policy="Local"), end(2, "b"))["NodePort"] == [set(), {2}]
    assert sets(service(external_policy="Local"), end(1), end(2, "b"))["NodePort"] == [{1}]
    assert sets(service(internal_policy="Local"), end(2, "b"))["ClusterIP"] == [set()]


def test_who_is_not_served_by_kube_proxy() -> None:
    def kinds(port: ServicePort) -> list[Intended]:
        return list(intended(Cluster(services=(port,), nodes=NODES), "a"))

    assert not kinds(service(proxy="cilium"))
    headless = ServicePort("default", "db", "", TCP, 80, "80", None, "ClusterIP", ())
    assert not kinds(headless)
    balanced = service(lb_ips=(ip_address("192.0.2.1"),), lb_ips_proxy=(ip_address("192.0.2.2"),))
    assert [str(w.ip) for w in kinds(balanced) if w.kind == "LoadBalancer"] == ["192.0.2.1"]


def test_affinity() -> None:
    def seconds(port: ServicePort) -> set[int | None]:
        return {w.affinity_seconds for w in intended(Cluster(services=(port,), nodes=NODES), "a")}

    assert seconds(service()) == {None}
    assert seconds(service(affinity="ClientIP")) == {10800}
    assert seconds(service(affinity="ClientIP", affinity_seconds=60)) == {60}
