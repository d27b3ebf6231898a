"""``ip -j -d link``: kinds, masters, peers and the modes that decide how a packet leaves."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from netk8s.decode import ip_link
from netk8s.errors import DecodeError
from netk8s.model import At, Bond, Bridge, Coverage, Dump, Ipvlan, Link, Macvlan, Tunnel, Vlan, Vrf

DETAILED = [
    {},
    {"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP"], "mtu": 65536, "promiscuity": 0},
    {
        "ifindex": 2,
        "link_index": 7,
        "ifname": "eth0",
        "flags": ["BROADCAST"],
        "link_netnsid": 0,
        "promiscuity": 0,
        "address": "02:00:00:00:00:01",
        "linkinfo": {"info_kind": "macvlan", "info_data": {"mode": "bridge"}},
    },
    {
        "ifindex": 5,
        "link": "ve1",
        "ifname": "ve0",
        "flags": ["UP"],
        "master": "br0",
        "promiscuity": 1,
        "linkinfo": {
            "info_kind": "veth",
            "info_slave_kind": "bridge",
            "info_slave_data": {"hairpin": True, "isolated": False},
        },
    },
    {"ifindex": 6, "link": "ve0", "ifname": "ve1", "flags": [], "promiscuity": 0, "linkinfo": {"info_kind": "veth"}},
    {"ifindex": 8, "link": "eth0", "ifname": "eth0.10", "flags": [], "linkinfo": {"info_kind": "vlan"}},
]


def dump(value: object) -> Dump:
    return Dump("ip-link.json", json.dumps(value).encode(), "node")


def links(value: object) -> dict[str, Link]:
    return {fact.name: fact for fact in ip_link.decode(dump(value)) if isinstance(fact, Link)}


def test_what_a_device_is() -> None:
    found = links(DETAILED)
    assert list(found) == ["lo", "eth0", "ve0", "ve1", "eth0.10"]
    assert found["lo"] == Link("lo", 1, mtu=65536, up=True, at=At("ip-link.json", 1))
    macvlan = found["eth0"]
    assert (macvlan.kind, macvlan.mode, macvlan.up, macvlan.mac) == ("macvlan", "bridge", False, "02:00:00:00:00:01")
    assert (macvlan.peer_index, macvlan.peer_netns) == (7, 0)
    port = found["ve0"]
    assert (port.kind, port.master, port.hairpin, port.isolated) == ("veth", "br0", True, False)
    assert (port.parent, port.peer_index, port.peer_netns) == (None, 6, None)
    assert found["eth0.10"].parent == "eth0"


def test_what_a_kind_is_set_to() -> None:
    """The members as iproute2 6.1 prints them on Linux 6.1; what they mean is the kernel's to say, in the lab."""
    shown: dict[str, tuple[dict[str, object], object]] = {
        "bridge": (
            {
                "vlan_filtering": 1,
                "vlan_default_pvid": 1,
                "stp_state": 0,
                "nf_call_iptables": 1,
                "nf_call_ip6tables": 0,
            },
            Bridge(True, 1, False, True, False),
        ),
        "macvlan": ({"mode": "source", "macaddr_data": ["02:00:00:00:00:11"]}, Macvlan(("02:00:00:00:00:11",))),
        "ipvlan": ({"mode": "l2", "vepa": True}, Ipvlan(vepa=True)),
        "vxlan": (
            {"id": 4, "remote6": "fd00::9", "local6": "fd00::5", "link": "ens1", "port": 4789, "learning": True},
            Tunnel(4, ip_address("fd00::5"), ip_address("fd00::9"), 4789, learning=True),
        ),
        "geneve": ({"external": True, "id": 0, "port": 6081}, Tunnel(0, port=6081, external=True)),
        "ipip": ({"proto": "any", "remote": "any", "local": "any"}, Tunnel()),
        "gre": ({"remote": "10.0.0.9", "local": "any", "okey": "0.0.1.0"}, Tunnel(256, None, ip_address("10.0.0.9"))),
        "vlan": ({"protocol": "802.1Q", "id": 10}, Vlan(10)),
        "bond": ({"mode": "802.3ad", "xmit_hash_policy": "layer3+4"}, Bond(None, "layer3+4")),
        "vrf": ({"table": 10}, Vrf(10)),
        "dummy": ({}, None),
        "future": ({"id": 3, "anything": []}, None),
    }
    for kind, (data, detail) in shown.items():
        item = {"ifindex": 9, "ifname": "x", "flags": [], "linkinfo": {"info_kind": kind, "info_data": data}}
        link = links([item])["x"]
        assert (link.kind, link.detail, link.info) == (kind, detail, data), kind
        assert link.mode == data.get("mode")
        assert link.parent == data.get("link")


def test_ports_of_bridges() -> None:
    """``bridge -j -d link`` prints the port's settings beside its name, and no kind."""
    item = {
        "ifindex": 6,
        "link_index": 2,
        "ifname": "v",
        "flags": ["UP"],
        "mtu": 1450,
        "master": "cni0",
        "priority": 32,
    }
    found = list(ip_link.decode(dump([item | {"state": "forwarding", "cost": 2, "hairpin": False, "isolated": True}])))
    assert len(found) == 1
    port = found[0]
    assert isinstance(port, Link)
    assert (port.master, port.hairpin, port.isolated, port.port_state) == ("cni0", False, True, "forwarding")


def test_without_details_the_kinds_are_not_covered() -> None:
    detailed = list(ip_link.decode(dump(DETAILED)))
    assert Coverage("link", At("ip-link.json", 1)) in detailed
    plain = list(ip_link.decode(dump([{"ifindex": 1, "ifname": "lo", "flags": []}])))
    assert len(plain) == 1
    assert isinstance(plain[0], Link)


def test_sniff_tells_links_from_addresses() -> None:
    assert ip_link.sniff(dump(DETAILED))
    assert ip_link.sniff(Dump("x", json.dumps(DETAILED, indent=4).encode()))
    assert not ip_link.sniff(dump([{"ifindex": 1, "ifname": "lo", "addr_info": []}]))
    assert not ip_link.sniff(dump([]))
    assert not ip_link.sniff(dump([{}, {}]))
    assert not ip_link.sniff(dump({"ifindex": 1, "ifname": "lo"}))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([{"ifname": "lo"}], "ifindex"),
        ([{"ifindex": 1}], r"\[0\].ifname: expected a string, found nothing"),
        ([{"ifindex": 1, "ifname": "lo", "flags": 3}], "array of strings"),
        ([{"ifindex": 1, "ifname": "lo", "linkinfo": []}], r"linkinfo: expected an object, found an array"),
        ([3], r"\[0\]: expected an object"),
        ({}, "expected a JSON array"),
    ],
)
def test_wrong_shapes_are_named(value: object, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        list(ip_link.decode(dump(value)))


def test_json_that_is_cut_off() -> None:
    with pytest.raises(DecodeError, match=r"ends too early; take the dump again with `ip -j -d link`") as error:
        list(ip_link.decode(Dump("x", b'[{"ifindex":1,\n"ifname":"l')))
    assert (error.value.origin, error.value.line) == ("x", 2)


def test_recorded_nodes(corpus: Path) -> None:
    kinds = set()
    for path in corpus.glob("*/nodes/*/ip-link.json"):
        recorded = Dump(str(path), path.read_bytes(), path.parent.name)
        assert ip_link.sniff(recorded)
        facts = list(ip_link.decode(recorded))
        assert isinstance(facts[0], Coverage)
        found = [fact for fact in facts if isinstance(fact, Link)]
        assert [fact.name for fact in found] == [item["ifname"] for item in json.loads(path.read_text())]
        kinds |= {fact.kind for fact in found}
        for fact in found:
            assert (fact.hairpin is not None) == (fact.master is not None)
    assert {"", "bridge", "veth", "vxlan"} <= kinds
