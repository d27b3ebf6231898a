"""``bridge -j vlan``: what a port carries, and what it takes untagged frames for."""

from __future__ import annotations

import pytest

from netk8s.decode import bridge_vlan
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, PortVlan

REAL = (
    b'[{"ifname":"cni0","vlans":[{"vlan":1,"flags":["PVID","Egress Untagged"]}]},'
    b'{"ifname":"vh0","vlans":[{"vlan":10},{"vlan":20,"vlanEnd":22,"flags":["Egress Untagged"]}]}]'
)


def test_entries() -> None:
    at = At("x", 1)
    assert bridge_vlan.sniff(Dump("x", REAL))
    assert list(bridge_vlan.decode(Dump("x", REAL))) == [
        Coverage("vlan", at),
        PortVlan("cni0", 1, True, True, at),
        PortVlan("vh0", 10, False, False, at),
        *(PortVlan("vh0", vlan, False, True, at) for vlan in (20, 21, 22)),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'[{"ifname":"a","vlans":[{}]}]', "number of a VLAN"),
        (b'[{"vlans":[{"vlan":1}]}]', "ifname: expected a string"),
        (b'[{"ifname":"a","vlans":[{"vlan":5,"vlanEnd":4}]}]', "whole number of 5 to 4095"),
    ],
)
def test_wrong_shapes(text: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        list(bridge_vlan.decode(Dump("x", text)))
