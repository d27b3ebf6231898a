"""``ip -j route show table all``: what iproute2 prints, and which family a "default" is of."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s.decode import ip_route
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, NextHop, Route

# Printed by iproute2 6.1 on Linux 6.18, the pretty way here.
REAL = """[
{"dst":"default","dev":"d0","table":"103","scope":"link","flags":["linkdown"]},
{"dst":"default","flags":[],"nexthops":[{"gateway":"10.1.1.7","dev":"d0","weight":2,"flags":["onlink"]},
{"gateway":"10.1.1.8","dev":"d0","weight":1,"flags":["linkdown"]}]},
{"dst":"10.1.1.0/24","dev":"d0","protocol":"kernel","scope":"link","prefsrc":"10.1.1.1","flags":["linkdown"]},
{"dst":"10.5.0.0/16","gateway":"10.99.0.1","dev":"d0","flags":["onlink","linkdown"]},
{"dst":"10.6.0.0/16","via":{"family":"inet6","host":"fd01::9"},"dev":"d0","flags":[]},
{"type":"blackhole","dst":"10.7.0.0/16","flags":[]},
{"type":"unreachable","dst":"10.8.0.0/16","metric":5,"flags":[]},
{"dst":"10.12.0.0/16","tos":"0x10","gateway":"10.1.1.3","dev":"d0","flags":[],"metrics":[{"mtu":1400}]},
{"type":"local","dst":"default","dev":"lo","table":"101","scope":"host","flags":[]},
{"type":"local","dst":"127.0.0.1","dev":"lo","table":"local","protocol":"kernel","scope":"host","flags":[]},
{"dst":"default","from":"fd01::/64","dev":"d0","table":"102","metric":1024,"flags":[],"pref":"medium"},
{"dst":"default","metric":1024,"flags":[],"pref":"medium","nexthops":[{"gateway":"fd01::7","dev":"d0","weight":1,
"flags":[]},{"gateway":"fd01::8","dev":"d0","weight":1,"flags":[]}]},
{"type":"multicast","dst":"ff00::/8","dev":"d0","table":"local","protocol":"kernel","metric":256,"flags":[],"pref":"medium"}]
"""


def routes(text: str) -> list[Route]:
    return [fact for fact in ip_route.decode(Dump("ip-route.json", text.encode())) if isinstance(fact, Route)]


def one(**entry: object) -> Route:
    (found,) = routes(json.dumps([{"flags": [], **entry}]))
    return found


def test_every_form() -> None:
    found = routes(REAL)
    four, six, at = ip_network("0.0.0.0/0"), ip_network("::/0"), At("ip-route.json")
    assert found[0] == Route(four, "unicast", (NextHop("d0"),), "103", scope="link", flags=("linkdown",), at=at)
    first, second = NextHop("d0", ip_address("10.1.1.7"), 2, onlink=True), NextHop("d0", ip_address("10.1.1.8"))
    assert found[1] == Route(four, "unicast", (first, second), at=at)
    assert (found[2].prefsrc, found[2].scope, found[2].protocol) == (ip_address("10.1.1.1"), "link", "kernel")
    assert found[3].nexthops == (NextHop("d0", ip_address("10.99.0.1"), onlink=True),)
    assert found[4].nexthops == (NextHop("d0", ip_address("fd01::9")),)
    assert (found[5].kind, found[5].nexthops) == ("blackhole", ())
    assert (found[6].kind, found[6].metric) == ("unreachable", 5)
    assert (found[7].tos, found[7].nexthops[0].mtu) == (0x10, 1400)
    assert (found[8].dst, found[8].kind, found[8].table) == (four, "local", "101")
    assert found[9].dst == ip_network("127.0.0.1/32")
    assert (found[10].dst, found[10].flags) == (six, ("from fd01::/64",))
    assert (found[11].dst, len(found[11].nexthops)) == (six, 2)


def test_coverage_is_by_family() -> None:
    facts = list(ip_route.decode(Dump("x", REAL.encode())))
    assert [fact.kind for fact in facts if isinstance(fact, Coverage)] == ["route4", "route6"]
    four = list(ip_route.decode(Dump("x", b'[{"dst":"10.0.0.0/8","dev":"eth0","flags":[]}]')))
    assert [fact.kind for fact in four if isinstance(fact, Coverage)] == ["route4"]


def test_family_of_default() -> None:
    assert one(dst="default", dev="tun0").dst.version == 4
    assert one(dst="default", dev="tun0", pref="medium").dst.version == 6
    assert one(dst="default", gateway="fe80::1", dev="eth0").dst.version == 6
    assert one(dst="default", gateway="10.0.0.1").dst.version == 4
    # RFC 5549: an IPv4 route by an IPv6 next hop.
    assert one(dst="default", via={"family": "inet6", "host": "fe80::1"}, dev="eth0").dst.version == 4
    assert one(dst="default", dev="eth0", prefsrc="fd00::1").dst.version == 6


def test_the_table_local_by_itself_is_still_local() -> None:
    assert one(type="local", dst="10.0.0.1", dev="eth0").table == "local"
    assert one(dst="10.0.0.0/8", dev="eth0").table == "main"
    found = routes('[{"type":"local","dst":"1.1.1.1","flags":[]},{"dst":"2.0.0.0/8","table":"local","flags":[]}]')
    assert [route.table for route in found] == ["main", "local"]


def test_table_and_scope_by_number() -> None:
    found = one(dst="10.0.0.0/8", dev="eth0", table=100, scope=200, protocol=80, tos="AF11")
    assert (found.table, found.scope, found.protocol, found.tos) == ("100", "200", "80", 0x28)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"dst": "10.0.0.0/33"}, "an address or prefix"),
        ({"dst": None}, "the destination"),
        ({"dst": "10.0.0.0/8", "gateway": "eth0"}, "an IP address"),
        ({"dst": "10.0.0.0/8", "nexthops": [{"weight": 10**30}]}, r"nexthops\[0\].weight"),
        ({"dst": "10.0.0.0/8", "tos": "mine"}, "as a number"),
        ({"dst": "10.0.0.0/8", "metric": True}, "whole number"),
    ],
)
def test_wrong_routes(entry: dict[str, object], why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        one(**entry)


def test_sniff() -> None:
    assert ip_route.sniff(Dump("x", REAL.encode()))
    assert not ip_route.sniff(Dump("x", b'[{"dst":"10.0.0.1","dev":"eth0","state":["STALE"]}]'))
    assert not ip_route.sniff(Dump("x", b"[]"))


def test_recorded_nodes_print_the_ipv6_routes_twice(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/ip-route.json"):
        recorded = Dump(str(path), path.read_bytes())
        assert ip_route.sniff(recorded)
        both = {replace(route, at=At("")) for route in ip_route.decode(recorded) if isinstance(route, Route)}
        six = path.with_name("ip6-route.json")
        if six.exists():
            again = [fact for fact in ip_route.decode(Dump("6", six.read_bytes())) if isinstance(fact, Route)]
            assert {route.dst.version for route in again} <= {6}
            assert {replace(route, at=At("")) for route in again} == {route for route in both if route.dst.version == 6}


def test_the_header_of_a_tunnel_has_a_destination_of_its_own() -> None:
    """Recorded with iproute2 6.1: the JSON has the member twice, and the route's own is the first."""
    text = (
        b'[{"dst":"10.72.0.0/16","dev":"v1","flags":[]},{"dst":"10.73.0.0/16","encap":"ip","id":5,"src":"0.0.0.0",'
        b'"dst":"192.168.52.8","ttl":0,"tos":0,"dev":"v1","scope":"link","flags":[]}]'
    )
    found = [fact for fact in ip_route.decode(Dump("x", text)) if isinstance(fact, Route)]
    assert [str(route.dst) for route in found] == ["10.72.0.0/16", "10.73.0.0/16"]
    assert "encap" in found[1].flags
