"""Endpoints objects: what clusters before EndpointSlices have, read where no EndpointSlice says more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from netk8s import decode
from netk8s.errors import DecodeError
from netk8s.model import Dump, Snapshot, World

ADDRESSES = [
    {"ip": "10.244.1.5", "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "web-a", "namespace": "shop"}},
    {"ip": "10.244.2.5", "nodeName": "n2", "targetRef": {"kind": "Pod", "name": "web-b"}},
]
UNREADY = [{"ip": "10.244.2.6", "hostname": "web-c"}]
PORTS = [{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}]


def endpoints(name: str = "web", *subsets: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "namespace": "shop", **metadata},
        "subsets": list(subsets),
    }  # fmt: skip


def a_slice(service: str, *addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"{service}-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 8080}], "endpoints": [{"addresses": [ip]} for ip in addresses],
    }  # fmt: skip


def world(*dumps: Any, partial: bool = False) -> World:
    texts = (json.dumps(value).encode() for value in dumps)
    return decode.decode(Snapshot(tuple(Dump(f"{i}.json", text, partial=partial) for i, text in enumerate(texts))))


def listed(*items: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


WEB = endpoints("web", {"addresses": ADDRESSES, "notReadyAddresses": UNREADY, "ports": PORTS})


def test_an_address_and_port_of_each_subset() -> None:
    found = world(listed(WEB, endpoints("none"), endpoints("two", {"addresses": ADDRESSES[:1], "ports": PORTS[:1]})))
    told = [
        (e.service, e.port_name, e.protocol, str(e.ip), e.port, e.node, e.pod, e.ready, e.serving)
        for e in found.cluster.endpoints
    ]
    assert told == [
        ("web", "http", 6, "10.244.1.5", 8080, "n1", "shop/web-a", True, True),
        ("web", "dns", 17, "10.244.1.5", 5353, "n1", "shop/web-a", True, True),
        ("web", "http", 6, "10.244.2.5", 8080, "n2", "shop/web-b", True, True),
        ("web", "dns", 17, "10.244.2.5", 5353, "n2", "shop/web-b", True, True),
        ("web", "http", 6, "10.244.2.6", 8080, None, None, False, False),
        ("web", "dns", 17, "10.244.2.6", 5353, None, None, False, False),
        ("two", "http", 6, "10.244.1.5", 8080, "n1", "shop/web-a", True, True),
    ]
    assert found.cluster.covered == {"endpoints"}
    assert [note for note in found.notes if "Endpoints objects" in note]


def test_a_list_of_a_kind_of_its_own() -> None:
    items = [{key: value for key, value in WEB.items() if key not in ("kind", "apiVersion")}]
    found = world({"apiVersion": "v1", "kind": "EndpointsList", "items": items})
    assert len(found.cluster.endpoints) == 6
    assert world({"apiVersion": "v1", "kind": "EndpointsList", "items": []}).cluster.covered == {"endpoints"}


def test_a_whole_list_of_slices_leaves_nothing_to_say() -> None:
    found = world(listed(WEB), listed(a_slice("other", "10.244.1.9")))
    assert [str(e.ip) for e in found.cluster.endpoints] == ["10.244.1.9"]
    assert found.cluster.covered == {"endpoints"}
    assert not found.notes


@pytest.mark.parametrize("first", [0, 1])
def test_of_a_service_with_a_slice_the_slice_counts(first: int) -> None:
    other = endpoints("other", {"addresses": ADDRESSES[:1], "ports": PORTS[:1]})
    dumps = [listed(WEB, other), a_slice("web", "10.244.1.9")]
    found = world(dumps[first], dumps[1 - first], partial=True)
    assert {(e.service, str(e.ip)) for e in found.cluster.endpoints} == {("web", "10.244.1.9"), ("other", "10.244.1.5")}
    assert found.cluster.covered == frozenset(), "neither list is whole"
    assert found.notes


def test_an_object_by_itself_covers_nothing() -> None:
    found = world(WEB)
    assert len(found.cluster.endpoints) == 6
    assert found.cluster.covered == frozenset()


def test_more_endpoints_than_an_object_holds() -> None:
    cut = endpoints(
        "web",
        {"addresses": ADDRESSES, "ports": PORTS},
        annotations={"endpoints.kubernetes.io/over-capacity": "truncated"},
    )
    found = world(listed(cut))
    assert len(found.cluster.endpoints) == 4
    assert found.cluster.covered == frozenset()


@pytest.mark.parametrize(
    ("subset", "why"),
    [
        ({"addresses": [{"ip": "x"}]}, "ip"),
        ({"addresses": [{}], "ports": []}, "ip"),
        ({"ports": [{"name": "a"}]}, "port"),
        ({"ports": [{"port": 1, "protocol": "ICMP"}]}, "TCP, UDP or SCTP"),
        ({"addresses": [{"ip": "10.0.0.1", "targetRef": {"kind": "Pod"}}]}, "name"),
        (3, "subsets"),
    ],
)
def test_what_is_none_is_refused_with_its_place(subset: Any, why: str) -> None:
    with pytest.raises(DecodeError, match=why) as error:
        world(listed(endpoints("web", subset)))
    assert error.value.origin == "0.json"
