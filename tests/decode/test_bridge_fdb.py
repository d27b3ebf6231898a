"""``bridge -j fdb``: where a bridge or vxlan device sends a MAC address."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from netk8s.decode import bridge_fdb
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, FdbEntry

REAL = (
    b'[{"mac":"00:00:00:00:00:00","ifname":"vx0","dst":"10.1.1.9","viaIf":"d0","flags":["self"],"state":"permanent"},'
    b'{"mac":"ee:39:24:42:b7:27","ifname":"ve0","vlan":1,"flags":[],"master":"br0","state":""}]'
)


def test_entries() -> None:
    at = At("x", 1)
    assert list(bridge_fdb.decode(Dump("x", REAL))) == [
        Coverage("fdb", at),
        FdbEntry("00:00:00:00:00:00", "vx0", ip_address("10.1.1.9"), None, ("self", "permanent"), at),
        FdbEntry("ee:39:24:42:b7:27", "ve0", None, "br0", (), at),
    ]


def test_a_dump_of_one_device_does_not_name_it() -> None:
    one = Dump("x", b'[{"mac":"00:00:00:00:00:00","dst":"10.1.1.9","flags":["self"],"state":"permanent"}]')
    assert bridge_fdb.sniff(one)
    with pytest.raises(DecodeError, match="take the dump for all devices"):
        list(bridge_fdb.decode(one))


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/bridge-fdb.json"):
        recorded = Dump(str(path), path.read_bytes())
        assert bridge_fdb.sniff(recorded)
        found = [fact for fact in bridge_fdb.decode(recorded) if isinstance(fact, FdbEntry)]
        assert [fact.mac for fact in found] == [item["mac"] for item in json.loads(path.read_text())]
