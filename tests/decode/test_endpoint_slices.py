"""EndpointSlices: read quickly and read by member, with the same endpoints and the same complaints."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s.decode import _json, kubectl
from netk8s.model import Coverage, Dump, Endpoint
from tests.decode.spelled import an_object, or_odd, read_alike, told

names = st.sampled_from(["a", "b", ""])
flags = st.sampled_from([True, False, None])
hint = an_object(name=names)
topology = st.dictionaries(
    st.sampled_from(["kubernetes.io/hostname", "topology.kubernetes.io/zone", "other"]), or_odd(names)
)
endpoint = an_object(
    addresses=st.lists(st.sampled_from(["10.0.0.1", "10.0.0.02", "fd00::1", "1"]), max_size=2),
    conditions=an_object(ready=flags, serving=flags, terminating=flags),
    targetRef=an_object(kind=st.sampled_from(["Pod", "Node"]), namespace=names, name=names),
    nodeName=names,
    zone=names,
    hints=an_object(forZones=st.lists(hint, max_size=2), forNodes=st.lists(hint, max_size=2)),
    deprecatedTopology=topology,
    topology=topology,
)
port = an_object(name=names, protocol=st.sampled_from(["TCP", "UDP", "SCTP", "ICMP"]), port=st.integers(-1, 65537))
labels = st.fixed_dictionaries({"kubernetes.io/service-name": st.sampled_from(["web", "web", "web", ""])})
slices = st.fixed_dictionaries(
    {
        "apiVersion": st.just("discovery.k8s.io/v1"),
        "kind": st.just("EndpointSlice"),
        "metadata": or_odd(st.fixed_dictionaries({"name": st.just("s"), "namespace": names, "labels": or_odd(labels)})),
        "addressType": st.sampled_from(["IPv4", "IPv4", "FQDN", None]),
        "endpoints": or_odd(st.lists(endpoint, max_size=3)),
        "ports": or_odd(st.lists(port, max_size=2)),
    }
)


@given(st.lists(slices, min_size=1, max_size=3))
def test_read_quickly_as_read_by_member(listed: list[object]) -> None:
    read_alike(listed)


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
    slow = told(data)
    monkeypatch.setattr(_json, "_LARGE", 0)
    assert told(data) == slow


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
