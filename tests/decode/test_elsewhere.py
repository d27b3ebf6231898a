"""What an agent is told of other nodes' pods: read as it is written, and a wrong one is told with its place."""

from __future__ import annotations

import json
from ipaddress import ip_address as ip
from typing import Any

import pytest

from netk8s import decode, elsewhere
from netk8s.decode import elsewhere as read
from netk8s.errors import DecodeError
from netk8s.model import At, Dump, Elsewhere, Pod, Snapshot

WRITTEN: dict[str, Any] = {
    "schema": "netk8s.dev/elsewhere/v1",
    "addresses": ["10.244.1.9", "fd00::9"],
    "pods": [
        {
            "namespace": "shop",
            "labels": {"app": "web"},
            "ports": [{"name": "http", "port": 8080, "protocol": 6}],
            "endpoints": ["10.244.2.5 fd00::5"],
            "clients": ["front n2 10.244.2.6"],
        }
    ],
    "idle": ["shop/nobody"],
}
HTTP = (("http", 8080, 6, None, ""),)
LABELS = (("app", "web"),)
READ = Elsewhere(
    frozenset({ip("10.244.1.9"), ip("fd00::9")}),
    (Pod("shop", "", None, (ip("10.244.2.5"), ip("fd00::5")), ports=HTTP, labels=LABELS),),
    (Pod("shop", "front", "n2", (ip("10.244.2.6"),), ports=HTTP, labels=LABELS),),
    ("shop/nobody",),
    At("cluster/elsewhere.json", 1),
)


def found(document: object) -> Elsewhere:
    world = decode.decode(Snapshot((Dump("cluster/elsewhere.json", json.dumps(document).encode()),)))
    assert world.cluster.knows_pods
    (one,) = world.cluster.elsewhere
    return one


def values(one: Elsewhere) -> tuple[object, ...]:
    return one.addresses, one.peers, one.clients, one.idle


def test_what_is_written() -> None:
    one = found(WRITTEN)
    assert values(one) == values(READ)
    assert one.at == READ.at


def test_what_it_is_written_from_comes_back() -> None:
    (again,) = read.decode(Dump("x", elsewhere.text(READ)))
    assert isinstance(again, Elsewhere)
    assert values(again) == values(READ)


def test_nothing_known_is_no_list_that_is_empty() -> None:
    assert not decode.decode(
        Snapshot((Dump("a", b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}'),))
    ).cluster.knows_pods


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "netk8s.dev/elsewhere/v9"}, "a newer netk8s may read it"),
        ({"addresses": ["x"]}, "expected an array of IP addresses"),
        ({"pods": [{"namespace": "a", "endpoints": [""]}]}, "names and addresses of pods"),
        ({"pods": [{"namespace": "a", "clients": ["front n2"]}]}, "names and addresses of pods"),
        ({"pods": [{"namespace": "a", "endpoints": ["front"]}]}, "names and addresses of pods"),
        ({"pods": [{"namespace": "a", "ports": [{"name": "x", "port": 80, "protocol": 99}]}]}, "protocol"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        found({**WRITTEN, **change})
