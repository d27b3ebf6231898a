"""The ipsets through netlink and as ipset prints them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from netk8s.collect import ipsets
from netk8s.errors import CollectError

SETS = """\
create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536
add KUBE-CLUSTER-IP 10.96.0.10,udp:53
add KUBE-CLUSTER-IP 10.96.0.1,tcp:443
add KUBE-CLUSTER-IP 10.96.0.9,sctp:38412
create KUBE-6-CLUSTER-IP hash:ip,port family inet6
add KUBE-6-CLUSTER-IP fd00:96::a,udp:53
create KUBE-LOOP-BACK hash:ip,port,ip
add KUBE-LOOP-BACK 10.244.1.5,tcp:8080,10.244.1.5
create KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net
add KUBE-LOAD-BALANCER-SOURCE-CIDR 192.0.2.1,tcp:80,198.51.100.0/24
add KUBE-LOAD-BALANCER-SOURCE-CIDR 192.0.2.1,tcp:80,203.0.113.7
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30000
create KUBE-IPVS-IPS hash:ip
add KUBE-IPVS-IPS 10.96.0.10
create cali40all-ipam-pools hash:net maxelem 1048576
add cali40all-ipam-pools 10.244.0.0/16
create cali40this-host hash:ip timeout 300 counters comment skbinfo
add cali40this-host 10.0.0.1 timeout 0 packets 3 bytes 400 comment "the node" skbmark 0x1/0xff skbprio 1:a skbqueue 3
add cali40this-host 10.0.0.2 timeout 0 skbmark 0x7
create kube-router-nodes hash:net,port
add kube-router-nodes 10.0.0.0/9,tcp:80
add kube-router-nodes 10.1.0.0/16,tcp:80 nomatch
create by-iface hash:net,iface counters
add by-iface 10.0.0.0/8,eth0
add by-iface 10.2.0.0/16,physdev:eth1 nomatch packets 1 bytes 2
create macs bitmap:ip,mac range 10.0.0.0-10.0.0.255
add macs 10.0.0.7
add macs 10.0.0.8,02:00:00:AA:BB:CC
create blocks bitmap:ip range 10.0.0.0-10.0.255.255 netmask 24
add blocks 10.0.3.0
create subnets hash:ip netmask 24
add subnets 10.9.3.0
create all list:set size 8
add all KUBE-IPVS-IPS
add all subnets
"""
CODE = "from netk8s.collect import ipsets\nprint(ipsets.saved().decode(), end='')"


@pytest.mark.lab
def test_netlink_says_what_ipset_prints(
    spaces: Callable[[], Any], differences: Callable[..., Any], tmp_path: Any
) -> None:
    space = spaces()
    given = tmp_path / "sets"
    given.write_text(SETS)
    space.run("ipset", "restore", "-file", str(given))
    ours, theirs = space.python(CODE).encode(), space.run("ipset", "save").encode()
    assert ours.count(b"create ") == SETS.count("create ")
    assert ours.count(b"\nadd ") == SETS.count("\nadd ")
    # What is compared are the facts, entries in any order: both list a set's hash table, but not at one moment.
    assert differences(ours, theirs, _unordered) == ([], [])


@pytest.mark.lab
def test_a_set_of_several_messages(spaces: Callable[[], Any], differences: Callable[..., Any], tmp_path: Any) -> None:
    space = spaces()
    given = tmp_path / "sets"
    entries = "".join(f"add big 10.0.{i >> 8}.{i & 255},tcp:{i}\n" for i in range(1, 3000))
    given.write_text("create big hash:ip,port\n" + entries)
    space.run("ipset", "restore", "-file", str(given))
    ours = space.python(CODE).encode()
    assert ours.count(b"\nadd big 10.") == 2999
    assert differences(ours, space.run("ipset", "save").encode(), _unordered) == ([], [])


def _unordered(fact: Any) -> Any:
    return fact if not hasattr(fact, "entries") else (fact.name, fact.kind, fact.options, sorted(fact.entries))


def test_an_unknown_attribute_is_no_entry_without_it() -> None:
    address = struct.pack("=HH4s", 8, 1, b"\x0a\0\0\1")
    assert ipsets._entry("hash:ip", {ipsets.IP: address}) == "10.0.0.1"
    with pytest.raises(CollectError, match=r"hash:ip with attributes \[99\]"):
        ipsets._entry("hash:ip", {ipsets.IP: address, 99: b"\0"})
    with pytest.raises(CollectError, match="hash:ip,moon"):
        ipsets._entry("hash:ip,moon", {ipsets.IP: address})


def test_icmp_types_are_numbers() -> None:
    assert ipsets._port({ipsets.PORT: b"\x08\x00", ipsets.PROTO: b"\x01"}) == "icmp:8/0"
    assert ipsets._port({ipsets.PORT: b"\x80\x01", ipsets.PROTO: b"\x3a"}) == "ipv6-icmp:128/1"
    assert ipsets._port({ipsets.PORT: b"\x00\x50", ipsets.PROTO: b"\x84"}) == "sctp:80"
