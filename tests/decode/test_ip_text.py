"""``ip -d link`` and ``ip addr`` as pasted: the same facts as from JSON. The lab's tests hold it against a kernel."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from netk8s.decode import ip_text
from netk8s.errors import DecodeError
from netk8s.model import Address, At, Bond, Bridge, Coverage, Dump, Ipvlan, Link, Macvlan, Tunnel, Vlan, Vrf

# Printed by iproute2 6.1 on Linux 6.1, a device of each kind; long lines are cut where nothing is read of them.
DETAILED = """\
3: eth0@if7: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether a2:64:ff:a4:27:7c brd ff:ff:ff:ff:ff:ff link-netnsid 0 promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    veth addrgenmode eui64 numtxqueues 1 gso_max_size 65536 
    alias uplink of the node
    altname enp0s3verylongaltname
4: cni0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 36:8c:b3:78:d7:67 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    bridge forward_delay 1500 stp_state 0 priority 32768 vlan_filtering 1 vlan_protocol 802.1Q group_fwd_mask 0 \
vlan_default_pvid 1 nf_call_iptables 0 nf_call_ip6tables 1 nf_call_arptables 0 addrgenmode eui64 numtxqueues 1 
6: vh0@vh1: <BROADCAST,MULTICAST,M-DOWN> mtu 1500 qdisc noop master cni0 state DOWN mode DEFAULT group default qlen 1000
    link/ether 36:8c:b3:78:d7:68 brd ff:ff:ff:ff:ff:ff promiscuity 1  allmulti 1 minmtu 68 maxmtu 65535 
    veth 
    bridge_slave state disabled priority 32 cost 2 hairpin on guard off learning on isolated off locked off addrgenmode eui64 
21: mv@eth0: <BROADCAST,MULTICAST,M-DOWN> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 8e:8c:61:c8:45:28 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    macvlan mode source bcqueuelen 1000 usedbcqueuelen 1000 remotes (2) 02:00:00:00:00:11 02:00:00:00:00:12 addrgenmode eui64 
22: mvp@eth0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 500
    link/ether 8a:ae:3d:02:f4:d8 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    macvtap mode private bcqueuelen 1000 usedbcqueuelen 1000 addrgenmode eui64 
25: iv@eth0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 96:ad:a1:6f:d4:dc brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    ipvlan  mode l3s private addrgenmode eui64 
26: vx1: <BROADCAST,MULTICAST> mtu 1450 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 6e:94:66:81:a5:6d brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    vxlan id 1 local 192.168.10.5 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum addrgenmode eui64 
27: vx2: <BROADCAST,MULTICAST> mtu 1450 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether b6:32:f2:81:cd:34 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    vxlan id 2 group 239.1.1.1 dev eth0 srcport 0 0 dstport 4789 ttl auto ageing 300 udpcsum addrgenmode eui64 
31: gnx: <BROADCAST,MULTICAST> mtu 65465 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 4a:c5:b6:b7:3f:89 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    geneve external id 0 ttl auto dstport 6082 udp6zerocsumrx addrgenmode eui64 
32: tunl0@NONE: <NOARP> mtu 1480 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ipip 0.0.0.0 brd 0.0.0.0 promiscuity 0  allmulti 0 minmtu 0 maxmtu 0 
    ipip any remote any local any ttl inherit nopmtudisc numtxqueues 1 
33: ipip1@eth0: <POINTOPOINT,NOARP> mtu 1480 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ipip 192.168.10.5 peer 192.168.10.9 promiscuity 0  allmulti 0 minmtu 0 maxmtu 0 
    ipip any remote 192.168.10.9 local 192.168.10.5 dev eth0 ttl inherit pmtudisc addrgenmode eui64 
37: gre1@NONE: <POINTOPOINT,NOARP> mtu 1472 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/gre 192.168.10.5 peer 192.168.10.9 promiscuity 0  allmulti 0 minmtu 0 maxmtu 0 
    gre remote 192.168.10.9 local 192.168.10.5 ttl inherit ikey 0.0.0.5 okey 0.0.0.5 addrgenmode eui64 
48: eth0.10@eth0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether a2:64:ff:a4:27:7c brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 0 maxmtu 65535 
    vlan protocol 802.1ad id 10 <REORDER_HDR> addrgenmode eui64 
50: bond0: <BROADCAST,MULTICAST,MASTER> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 0e:53:28:1d:2a:03 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    bond mode active-backup active_slave bs0 miimon 100 xmit_hash_policy layer2 addrgenmode eui64 
52: bs0@if3: <NO-CARRIER,SLAVE,UP,M-DOWN> mtu 1500 qdisc noqueue master bond0 state LOWERLAYERDOWN mode DEFAULT group default
    link/ether 0e:53:28:1d:2a:03 brd ff:ff:ff:ff:ff:ff link-netns cni-1234 promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    veth 
    bond_slave state BACKUP mii_status DOWN link_failure_count 0 perm_hwaddr 0e:53:28:1d:2a:03 addrgenmode eui64 
53: vrf1: <NOARP,MASTER> mtu 65575 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether ee:05:bb:59:6d:65 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 1280 maxmtu 65575 
    vrf table 10 addrgenmode eui64 
54: tap0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
    link/ether 4e:2d:20:d4:fd:97 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 0 minmtu 68 maxmtu 65521 
    tun type tap pi off vnet_hdr off multi_queue numqueues 0 persist on addrgenmode eui64 
60: odd: <UP> mtu 9000 qdisc noop state UNKNOWN mode DEFAULT group default qlen 1000
    link/none promiscuity 0  allmulti 0 minmtu 68 maxmtu 65535 
    batadv addrgenmode eui64 
"""


def facts(text: str) -> list[object]:
    return list(ip_text.decode(Dump("x", text.encode(), "n")))


def links(text: str) -> dict[str, Link]:
    return {fact.name: fact for fact in facts(text) if isinstance(fact, Link)}


def test_a_device_of_each_kind() -> None:
    found = links(DETAILED)
    assert facts(DETAILED)[0] == Coverage("link", At("x", 1))
    assert found["eth0"] == Link(
        "eth0",
        3,
        "veth",
        "a2:64:ff:a4:27:7c",
        1500,
        peer_netns=0,
        peer_index=7,
        state="UP",
        alias="uplink of the node",
        altnames=("enp0s3verylongaltname",),
        at=At("x", 1),
    )
    details = {name: link.detail for name, link in found.items() if link.detail is not None}
    address, remote = ip_address("192.168.10.5"), ip_address("192.168.10.9")
    assert details == {
        "cni0": Bridge(True, 1, False, False, True),
        "mv": Macvlan(("02:00:00:00:00:11", "02:00:00:00:00:12")),
        "mvp": Macvlan(),
        "iv": Ipvlan(private=True),
        "vx1": Tunnel(1, address, None, 8472, learning=False),
        "vx2": Tunnel(2, None, ip_address("239.1.1.1"), 4789, learning=True),
        "gnx": Tunnel(0, port=6082, external=True),
        "tunl0": Tunnel(),
        "ipip1": Tunnel(None, address, remote),
        "gre1": Tunnel(5, address, remote),
        "eth0.10": Vlan(10, "802.1ad"),
        "bond0": Bond("bs0", "layer2"),
        "vrf1": Vrf(10),
    }
    modes = {name: link.mode for name, link in found.items() if link.mode is not None}
    assert modes == {"mv": "source", "mvp": "private", "iv": "l3s", "bond0": "active-backup", "tap0": "tap"}
    parents = {name: link.parent for name, link in found.items() if link.parent is not None}
    below = ("mv", "mvp", "iv", "vx1", "vx2", "ipip1", "eth0.10")
    assert parents == dict.fromkeys(below, "eth0")
    port = found["vh0"]
    assert (port.master, port.hairpin, port.isolated, port.port_state) == ("cni0", True, False, "disabled")
    slave = found["bs0"]
    assert (slave.hairpin, slave.port_state, slave.peer_netns_name) == (None, "BACKUP", "cni-1234")
    assert (slave.up, slave.state) == (True, "LOWERLAYERDOWN")
    assert (found["odd"].kind, found["odd"].mac) == ("batadv", None)
    assert (found["tunl0"].up, found["tunl0"].mac, found["tunl0"].parent) == (False, "0.0.0.0", None)  # noqa: S104


def test_one_line_a_device() -> None:
    text = DETAILED.replace("\n    ", "\\    ")
    assert [link.name for link in links(text).values()] == list(links(DETAILED))
    assert [link.detail for link in links(text).values()] == [link.detail for link in links(DETAILED).values()]


ADDRESSES = """\
root@n1:~# ip a
2: eth0@if7: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff link-netnsid 0
    inet 192.168.10.5/24 brd 192.168.10.255 scope global eth0
       valid_lft forever preferred_lft forever
    inet 192.168.10.6/24 scope global secondary eth0
       valid_lft forever preferred_lft forever
    inet6 fe80::1/64 scope link tentative 
       valid_lft forever preferred_lft forever
    RX:  bytes packets errors dropped  missed   mcast           
           992      10      0       0       0       0 
3: tun0: <POINTOPOINT,UP> mtu 1500 qdisc noop state UNKNOWN group default qlen 500
    link/none 
    inet 10.8.0.1 peer 10.8.0.2/32 scope global deprecated tun0
       valid_lft forever preferred_lft forever
"""
EXPECTED = [
    Address("eth0", ip_address("192.168.10.5"), 24, "global", position=0, index=2, at=At("x", 2)),
    Address("eth0", ip_address("192.168.10.6"), 24, "global", secondary=True, position=1, index=2, at=At("x", 2)),
    Address("eth0", ip_address("fe80::1"), 64, "link", tentative=True, position=2, index=2, at=At("x", 2)),
    Address(
        "tun0",
        ip_address("10.8.0.1"),
        32,
        "global",
        deprecated=True,
        peer=ip_address("10.8.0.2"),
        position=3,
        index=3,
        at=At("x", 12),
    ),
]


def test_addresses() -> None:
    found = facts(ADDRESSES)
    # Without -d nothing says that kind "" is a physical device.
    assert [fact for fact in found if isinstance(fact, Coverage)] == [Coverage("addr", At("x", 2))]
    assert [fact for fact in found if isinstance(fact, Address)] == EXPECTED
    assert [fact.name for fact in found if isinstance(fact, Link)] == ["eth0", "tun0"]


def test_addresses_one_a_line() -> None:
    text = "2: eth0    inet 192.168.10.5/24 brd 192.168.10.255 scope global eth0\\       valid_lft forever\n"
    text += "2: eth0    inet6 fe80::1/64 scope link tentative \\       valid_lft forever\n"
    found = facts(text)
    assert [str(fact.ip) for fact in found if isinstance(fact, Address)] == ["192.168.10.5", "fe80::1"]
    # They say nothing of the device but its name and number.
    assert not [fact for fact in found if isinstance(fact, Link)]
    assert ip_text.sniff(Dump("x", text.encode()))


def test_links_alone_say_nothing_of_addresses() -> None:
    kinds = [fact.kind for fact in facts(DETAILED) if isinstance(fact, Coverage)]
    assert kinds == ["link"]


def test_ports_of_bridges() -> None:
    text = (
        "6: vh0@if2: <BROADCAST,MULTICAST,UP> mtu 1450 master cni0 state forwarding priority 32 cost 2 \n"
        "    hairpin on guard off root_block off isolated on locked off \n"
    )
    found = facts(text)
    assert found == [
        Link(
            "vh0",
            6,
            mtu=1450,
            master="cni0",
            peer_index=2,
            hairpin=True,
            isolated=True,
            port_state="forwarding",
            at=At("x", 1),
        )
    ]


def test_sniff() -> None:
    assert ip_text.sniff(Dump("x", DETAILED.encode()))
    assert ip_text.sniff(Dump("x", ADDRESSES.encode()))
    assert not ip_text.sniff(Dump("x", b"default via 10.0.0.1 dev eth0\n"))
    assert not ip_text.sniff(Dump("x", b"0:\tfrom all lookup local\n"))


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("2: eth0: <UP> mtu x qdisc noop state UP mode DEFAULT\n", 1, "mtu: expected a whole number"),
        ("\n2: eth0: <UP> mtu 1 state UP group default\n    inet 10.0.0.x/8\n", 2, "expected an IP address"),
        ("2: eth0: <UP> mtu 1 state UP group default\n    inet\n", 2, "expected an address behind 'inet'"),
        ("nothing\n", 1, "expected a device"),
    ],
)
def test_what_cannot_be_read(text: str, line: int, why: str) -> None:
    with pytest.raises(DecodeError, match=why) as error:
        facts(text)
    assert error.value.line == line
