"""``ip -j neigh``: ARP and neighbour discovery entries."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from netk8s.decode import ip_neigh
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Neighbour

REAL = (
    b'[{"dst":"10.1.1.77","dev":"d0","lladdr":"02:00:00:00:00:01","used":0,"state":["PERMANENT"]},'
    b'{"dst":"fe80::1","dev":"d0","router":null,"state":["FAILED"]},{"dst":"10.1.1.78","dev":"d0","proxy":null}]'
)


def test_entries() -> None:
    at = At("x", 1)
    assert list(ip_neigh.decode(Dump("x", REAL))) == [
        Coverage("neigh", at),
        Neighbour(ip_address("10.1.1.77"), "d0", "02:00:00:00:00:01", ("PERMANENT",), at),
        Neighbour(ip_address("fe80::1"), "d0", None, ("FAILED",), at),
        Neighbour(ip_address("10.1.1.78"), "d0", None, ("PROXY",), at),
    ]


def test_a_dump_of_one_device_does_not_name_it() -> None:
    one = Dump("x", b'[{"dst":"10.1.1.77","lladdr":"02:00:00:00:00:01","state":["PERMANENT"]}]')
    assert ip_neigh.sniff(one)
    with pytest.raises(DecodeError, match=r"dev: expected the device; take the dump for all devices"):
        list(ip_neigh.decode(one))


def test_sniff() -> None:
    assert ip_neigh.sniff(Dump("x", REAL))
    assert not ip_neigh.sniff(Dump("x", b'[{"dst":"default","dev":"eth0","flags":[]}]'))
    assert not ip_neigh.sniff(Dump("x", b"[]"))


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/ip-neigh.json"):
        recorded = Dump(str(path), path.read_bytes())
        assert ip_neigh.sniff(recorded)
        found = [fact for fact in ip_neigh.decode(recorded) if isinstance(fact, Neighbour)]
        assert [str(fact.ip) for fact in found] == [item["dst"] for item in json.loads(path.read_text())]
        assert all(fact.mac for fact in found if not {"FAILED", "INCOMPLETE"} & set(fact.states))
