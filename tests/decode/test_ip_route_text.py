"""``ip route`` as it prints for people: the same routes as from JSON that was taken in the same moment."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode
from netk8s.decode import ip_route_text
from netk8s.errors import DecodeError
from netk8s.model import At, Dump, Fact, Route

# Printed by iproute2 6.1: routes of every kind, in a network namespace of their own.
RECORDED = Path(__file__).parent / "iproute2"


def facts(name: str) -> list[Fact]:
    path = RECORDED / name
    dump = Dump(name, path.read_bytes())
    decoder = decode.recognise(dump)
    assert decoder is not None
    assert (decoder.NAME == "ip-route-text") is name.endswith(".txt")
    return [replace(fact, at=At("")) for fact in decoder.decode(dump)]


@pytest.mark.parametrize(
    ("text", "json"),
    [
        ("route", "route"),
        ("route-details", "route"),
        ("route-oneline", "route"),
        ("route6", "route6"),
        ("route-main", "route-main"),
    ],
)
def test_as_from_json(text: str, json: str) -> None:
    found = facts(f"{text}.txt")
    assert len(found) > 10
    assert found == facts(f"{json}.json")


def test_an_encapsulation_has_addresses_of_its_own() -> None:
    dump = Dump("x", (RECORDED / "route.txt").read_bytes())
    (route,) = (f for f in ip_route_text.decode(dump) if isinstance(f, Route) and "encap" in f.flags)
    assert (route.dst, route.prefsrc, route.nexthops[0].dev) == (ip_network("10.73.0.0/16"), None, "v1")
    assert route.at == At("x", 12)


@pytest.mark.parametrize(
    "line",
    [
        "default via 10.0.0.1 dev eth0",
        "10.0.0.5 dev cali1 scope link",
        "10.0.0.5 via 10.0.0.1 dev eth0 proto bird",
        "default nhid 7 via 10.0.0.1 dev eth0",
        "10.0.0.0/8\n\tnexthop via 10.1.0.1 dev a weight 1\n\tnexthop via 10.1.0.2 dev a weight 1",
        "blackhole default",
        "fd00::/64 dev eth0 proto kernel metric 256 expires 1798sec pref medium",
    ],
)
def test_what_is_one(line: str) -> None:
    dump = Dump("x", f"{line}\n".encode())
    assert decode.recognise(dump) is ip_route_text
    assert [type(f).__name__ for f in ip_route_text.decode(dump)] == ["Coverage", "Route"]


@pytest.mark.parametrize(
    "line",
    [
        "10.0.0.5 dev eth0 lladdr 02:00:00:00:00:01 STALE",
        "10.0.0.5 dev eth0 FAILED",
        "10.0.0.1 10.0.0.2",
        "local loopback",
        "1.5",
    ],
)
def test_what_is_none(line: str) -> None:
    assert not ip_route_text.sniff(Dump("x", line.encode()))


@pytest.mark.parametrize("line", ["Error: any valid prefix", "via 10.0.0.1", "nexthop via 10.0.0.1", "10.0.0.0/8 dev"])
def test_lines_that_are_no_route(line: str) -> None:
    start = "" if line.startswith("nexthop") else "default via 10.0.0.1 dev eth0\n"
    with pytest.raises(DecodeError) as error:
        list(ip_route_text.decode(Dump("x", f"{start}{line}\n".encode())))
    assert error.value.line == (2 if start else 1)
