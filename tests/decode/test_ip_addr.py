"""``ip -j addr``: addresses in the kernel's order, with the flags that keep one from being chosen."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from netk8s.decode import ip_addr
from netk8s.errors import DecodeError
from netk8s.model import Address, At, Coverage, Dump

# Printed by iproute2 6.1 for a device with a second address, a point-to-point one and an IPv6 one.
REAL = """[{},{"ifindex":2,"ifname":"d0","flags":["UP"],"mtu":1500,"addr_info":[
{"family":"inet","local":"10.1.1.1","prefixlen":24,"scope":"global","label":"d0"},
{"family":"inet","local":"10.9.9.1","address":"10.9.9.2","prefixlen":32,"scope":"global","label":"d0"},
{"family":"inet","local":"10.1.1.2","prefixlen":24,"scope":"global","secondary":true,"label":"d0"},{},
{"family":"inet6","local":"fd01::1","prefixlen":64,"scope":"global","tentative":true,"deprecated":true},
{"family":"mpls","local":"12"}]}]
"""


def decode(text: str) -> list[object]:
    return list(ip_addr.decode(Dump("ip-addr.json", text.encode())))


def test_addresses_in_order() -> None:
    coverage, *found = decode(REAL)
    at = At("ip-addr.json")
    assert coverage == Coverage("addr", at)
    first, peer, second, six = found
    assert first == Address("d0", ip_address("10.1.1.1"), 24, "global", position=0, index=2, at=at)
    assert isinstance(peer, Address)
    assert (peer.peer, peer.prefixlen, peer.position) == (ip_address("10.9.9.2"), 32, 1)
    assert isinstance(second, Address)
    assert second.secondary
    assert isinstance(six, Address)
    assert (six.tentative, six.deprecated, six.secondary, six.position) == (True, True, False, 3)


def test_positions_run_on_over_two_outputs() -> None:
    found = [fact for fact in decode(REAL + REAL) if isinstance(fact, Address)]
    assert [fact.position for fact in found] == list(range(8))


def test_sniff() -> None:
    assert ip_addr.sniff(Dump("x", REAL.encode()))
    assert not ip_addr.sniff(Dump("x", b'[{"ifindex":1,"ifname":"addr_info"}]'))
    assert not ip_addr.sniff(Dump("x", b"[]"))


@pytest.mark.parametrize(
    "info",
    [
        {"family": "inet", "local": "10.0.0.256", "prefixlen": 24},
        {"family": "inet", "local": "fd00::1", "prefixlen": 24},
        {"family": "inet", "local": "10.0.0.1", "prefixlen": 33},
        {"family": "inet"},
        {"family": 4},
        [],
    ],
)
def test_wrong_addresses(info: object) -> None:
    with pytest.raises(DecodeError, match=r"addr_info\[0\]"):
        decode(json.dumps([{"ifindex": 2, "ifname": "d0", "addr_info": [info]}]))


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/ip-addr.json"):
        recorded = Dump(str(path), path.read_bytes())
        assert ip_addr.sniff(recorded)
        found = [fact for fact in ip_addr.decode(recorded) if isinstance(fact, Address)]
        expected = [info["local"] for item in json.loads(path.read_text()) for info in item["addr_info"]]
        assert [str(fact.ip) for fact in found] == expected
