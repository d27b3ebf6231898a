"""Services: read quickly and read by member, with the same ports and the same complaints."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s.decode import _json, kubectl
from netk8s.errors import DecodeError
from netk8s.model import Coverage, Dump, ExternalName, ServicePort

odd = st.sampled_from(
    [None, "", "x", 0, 80, 80.0, 70000, -1, 1.5, True, [], {}, [None], ["10.0.0.1"], "TCP", "80", "\ud800", "é"]
)


def _or_odd(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 40).flatmap(lambda n: odd if n == 0 else usual)


def _object(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _or_odd(st.fixed_dictionaries({}, optional={name: _or_odd(each) for name, each in members.items()}))


names = st.sampled_from(["a", "b", ""])
addresses = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.02", "fd00::1", "None", ""]), max_size=2)
policies = st.sampled_from(["Cluster", "Local", ""])
port = st.fixed_dictionaries(
    {"port": _or_odd(st.integers(0, 65536))},
    optional={
        "name": _or_odd(names),
        "protocol": _or_odd(st.sampled_from(["TCP", "UDP", "SCTP", "ICMP"])),
        "targetPort": _or_odd(st.sampled_from(["http", 8080, ""])),
        "nodePort": _or_odd(st.integers(-1, 65536)),
    },
)
spec = _object(
    type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
    ports=st.lists(port, max_size=2),
    clusterIP=st.sampled_from(["10.96.0.1", "None", "", "x"]),
    clusterIPs=addresses,
    externalIPs=addresses,
    loadBalancerSourceRanges=st.lists(st.sampled_from(["10.0.0.0/8", " fd00::/64 "]), max_size=2),
    externalTrafficPolicy=policies,
    internalTrafficPolicy=policies,
    sessionAffinity=st.sampled_from(["None", "ClientIP"]),
    sessionAffinityConfig=_object(clientIP=_object(timeoutSeconds=st.integers(-1, 1 << 33))),
    healthCheckNodePort=st.integers(-1, 65536),
    externalName=st.sampled_from(["example.org", ""]),
)
status = _object(
    loadBalancer=_object(
        ingress=st.lists(
            _object(
                ip=st.sampled_from(["192.0.2.1", "x"]),
                hostname=st.just("lb"),
                ipMode=st.sampled_from(["VIP", "Proxy"]),
            ),
            max_size=2,
        )
    )
)
labels = st.dictionaries(st.sampled_from(["service.kubernetes.io/service-proxy-name", "other"]), _or_odd(names))
services = st.fixed_dictionaries(
    {
        "apiVersion": st.just("v1"),
        "kind": st.just("Service"),
        "metadata": _or_odd(
            st.fixed_dictionaries({"name": _or_odd(names), "namespace": names, "labels": _or_odd(labels)})
        ),
        "spec": spec,
        "status": status,
    }
)


def _told(data: bytes) -> object:
    try:
        return [f for f in kubectl.decode(Dump("x", data)) if isinstance(f, ServicePort | ExternalName | Coverage)]
    except DecodeError as error:
        return str(error)


@given(st.lists(services, min_size=1, max_size=3))
def test_read_quickly_as_read_by_member(listed: list[object]) -> None:
    data = json.dumps({"kind": "List", "apiVersion": "v1", "items": listed}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_json, "_LARGE", 1 << 40)
        slow = _told(data)
        patch.setattr(_json, "_LARGE", 0)
        assert _told(data) == slow


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
