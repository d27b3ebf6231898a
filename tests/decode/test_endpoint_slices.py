"""EndpointSlices: read quickly and read by member, with the same endpoints and the same complaints."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s.decode import _json, kubectl
from netk8s.errors import DecodeError
from netk8s.model import Coverage, Dump, Endpoint

odd = st.sampled_from(
    [None, "", "x", 0, 80, 70000, -1, 1.5, True, [], {}, [None], ["10.0.0.1"], "TCP", "80", "\ud800", "é"]
)


def _or_odd(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 30).flatmap(lambda n: odd if n == 0 else usual)


def _object(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _or_odd(st.fixed_dictionaries({}, optional={name: _or_odd(each) for name, each in members.items()}))


names = st.sampled_from(["a", "b", ""])
flags = st.sampled_from([True, False, None])
hint = _object(name=names)
topology = st.dictionaries(
    st.sampled_from(["kubernetes.io/hostname", "topology.kubernetes.io/zone", "other"]), _or_odd(names)
)
endpoint = _object(
    addresses=st.lists(st.sampled_from(["10.0.0.1", "10.0.0.02", "fd00::1", "1"]), max_size=2),
    conditions=_object(ready=flags, serving=flags, terminating=flags),
    targetRef=_object(kind=st.sampled_from(["Pod", "Node"]), namespace=names, name=names),
    nodeName=names,
    zone=names,
    hints=_object(forZones=st.lists(hint, max_size=2), forNodes=st.lists(hint, max_size=2)),
    deprecatedTopology=topology,
    topology=topology,
)
port = _object(name=names, protocol=st.sampled_from(["TCP", "UDP", "SCTP", "ICMP"]), port=st.integers(-1, 65537))
labels = st.fixed_dictionaries({"kubernetes.io/service-name": st.sampled_from(["web", "web", "web", ""])})
slices = st.fixed_dictionaries(
    {
        "apiVersion": st.just("discovery.k8s.io/v1"),
        "kind": st.just("EndpointSlice"),
        "metadata": _or_odd(
            st.fixed_dictionaries({"name": st.just("s"), "namespace": names, "labels": _or_odd(labels)})
        ),
        "addressType": st.sampled_from(["IPv4", "IPv4", "FQDN", None]),
        "endpoints": _or_odd(st.lists(endpoint, max_size=3)),
        "ports": _or_odd(st.lists(port, max_size=2)),
    }
)


def _told(data: bytes) -> object:
    try:
        return [f for f in kubectl.decode(Dump("x", data)) if isinstance(f, Endpoint | Coverage)]
    except DecodeError as error:
        return str(error)


@given(st.lists(slices, min_size=1, max_size=3))
def test_read_quickly_as_read_by_member(listed: list[object]) -> None:
    data = json.dumps({"kind": "List", "apiVersion": "v1", "items": listed}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_json, "_LARGE", 1 << 40)
        slow = _told(data)
        patch.setattr(_json, "_LARGE", 0)
        assert _told(data) == slow


@pytest.mark.parametrize("node", ["", "n1", None])
@pytest.mark.parametrize("zone", ["", "a", None])
def test_a_node_or_zone_of_no_letters_is_read_alike(
    node: str | None, zone: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["10.1.0.5"], "nodeName": node, "zone": zone}],
        "ports": [{"port": 8080}],
    }
    data = json.dumps({"kind": "List", "apiVersion": "v1", "items": [item]}).encode()
    slow = _told(data)
    monkeypatch.setattr(_json, "_LARGE", 0)
    assert _told(data) == slow


def test_a_large_list_is_read_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.5"], "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "web-0"}}],
        "ports": [{"name": "http", "port": 8080}],
    }
    data = json.dumps({"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "items": [item] * 2}, indent=1)
    monkeypatch.setattr(_json, "_LARGE", 0)
    monkeypatch.setattr(kubectl, "member", lambda text: pytest.fail("read by member"))
    covers, *found = kubectl.decode(Dump("x", data.encode()))
    assert isinstance(covers, Coverage)
    assert covers.kind == "endpoints"
    assert [(e.namespace, e.service, str(e.ip), e.port, e.node, e.pod) for e in found if isinstance(e, Endpoint)] == [
        ("shop", "web", "10.1.0.5", 8080, "n1", "shop/web-0")
    ] * 2
