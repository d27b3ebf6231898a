"""Services: read quickly and read by member, with the same ports and the same complaints."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s.decode import _json, kubectl
from netk8s.model import Coverage, Dump, ServicePort
from tests.decode.spelled import an_object, or_odd, read_alike

names = st.sampled_from(["a", "b", ""])
addresses = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.02", "fd00::1", "None", ""]), max_size=2)
policies = st.sampled_from(["Cluster", "Local", ""])
port = st.fixed_dictionaries(
    {"port": or_odd(st.integers(0, 65536))},
    optional={
        "name": or_odd(names),
        "protocol": or_odd(st.sampled_from(["TCP", "UDP", "SCTP", "ICMP"])),
        "targetPort": or_odd(st.sampled_from(["http", 8080, ""])),
        "nodePort": or_odd(st.integers(-1, 65536)),
    },
)
spec = an_object(
    type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
    ports=st.lists(port, max_size=2),
    clusterIP=st.sampled_from(["10.96.0.1", "None", "", "x"]),
    clusterIPs=addresses,
    externalIPs=addresses,
    loadBalancerSourceRanges=st.lists(st.sampled_from(["10.0.0.0/8", " fd00::/64 "]), max_size=2),
    externalTrafficPolicy=policies,
    internalTrafficPolicy=policies,
    sessionAffinity=st.sampled_from(["None", "ClientIP"]),
    sessionAffinityConfig=an_object(clientIP=an_object(timeoutSeconds=st.integers(-1, 1 << 33))),
    healthCheckNodePort=st.integers(-1, 65536),
    externalName=st.sampled_from(["example.org", ""]),
)
status = an_object(
    loadBalancer=an_object(
        ingress=st.lists(
            an_object(
                ip=st.sampled_from(["192.0.2.1", "x"]),
                hostname=st.just("lb"),
                ipMode=st.sampled_from(["VIP", "Proxy"]),
            ),
            max_size=2,
        )
    )
)
labels = st.dictionaries(st.sampled_from(["service.kubernetes.io/service-proxy-name", "other"]), or_odd(names))
services = st.fixed_dictionaries(
    {
        "apiVersion": st.just("v1"),
        "kind": st.just("Service"),
        "metadata": or_odd(
            st.fixed_dictionaries({"name": or_odd(names), "namespace": names, "labels": or_odd(labels)})
        ),
        "spec": spec,
        "status": status,
    }
)


@given(st.lists(services, min_size=1, max_size=3))
def test_read_quickly_as_read_by_member(listed: list[object]) -> None:
    read_alike(listed)


def test_a_large_list_is_read_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "type": "NodePort",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10"],
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        },
        "status": {"loadBalancer": {}},
    }
    data = json.dumps({"kind": "List", "apiVersion": "v1", "items": [item] * 2}, indent=1)
    monkeypatch.setattr(_json, "_LARGE", 0)
    monkeypatch.setattr(kubectl, "member", lambda text: pytest.fail("read by member"))
    covers, *found = kubectl.decode(Dump("x", data.encode()))
    assert isinstance(covers, Coverage)
    assert covers.kind == "services"
    assert [
        (s.namespace, s.service, s.name, s.port, s.target_port, s.node_port, list(map(str, s.cluster_ips)))
        for s in found
        if isinstance(s, ServicePort)
    ] == [("shop", "web", "http", 80, "http", 30080, ["10.96.0.10"])] * 2
    assert {(s.affinity, s.affinity_seconds) for s in found if isinstance(s, ServicePort)} == {("ClientIP", 60)}
