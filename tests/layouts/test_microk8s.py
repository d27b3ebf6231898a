"""`microk8s inspect` keeps the cluster's objects, and of the rules what leaves parts of them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s import snapshot
from netk8s.errors import UsageError
from tests.layouts.conftest import Files, ends, seen, world
from tests.layouts.test_cluster_info import printed

TOP = "inspection-report"


def files(objects: dict[str, list[dict[str, Any]]]) -> dict[str, bytes]:
    return {
        f"{TOP}/args/kube-proxy": b"--cluster-cidr=10.1.0.0/16\n",
        f"{TOP}/apparmor/dmesg": b"[    0.000000] Linux version 6.1\n",
        f"{TOP}/k8s/cluster-info-dump": printed(objects),
        f"{TOP}/k8s/get-all": b"NAMESPACE NAME\n",
        f"{TOP}/network/iptables": b"Chain PREROUTING (policy ACCEPT 1 packets, 60 bytes)\n",
        f"{TOP}/network/iptables-S": b"-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n",
        f"{TOP}/snap.microk8s.daemon-kubelite/journal.log": b"*nat\nCOMMIT\n",
    }


def test_the_table_filter_alone_is_not_taken_for_all_rules(
    objects: dict[str, list[dict[str, Any]]], pack: Callable[..., Path], example: Path
) -> None:
    path = pack(files(objects), "inspection-report-20260101_000000.tar.gz")
    found = snapshot.read([str(path)])
    assert [dump.origin for dump in found.dumps] == [f"{TOP}/k8s/cluster-info-dump"]
    assert [gap.what for gap in found.missing] == ["the node's rules"]
    assert "iptables-save" in found.missing[0].needed_for
    assert not world(path).nodes
    beside = world(path, example / "nodes/k8s-node1")
    assert ends(beside) == ends(world(example / "nodes/k8s-node1", example / "cluster"))


ADDRESSES = b"""\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
2: ens33: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff
    inet 192.168.52.201/24 scope global ens33
3: cali1@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UP group default qlen 1000
    link/ether ee:ee:ee:ee:ee:ee brd ff:ff:ff:ff:ff:ff link-netns a
4: cali2@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UP group default qlen 1000
    link/ether ee:ee:ee:ee:ee:ee brd ff:ff:ff:ff:ff:ff link-netns b
"""
ROUTES = b"""\
default via 192.168.52.1 dev ens33
10.244.1.5 dev cali1 scope link
10.244.1.6 dev cali2 scope link
10.244.2.0/24 via 192.168.52.202 dev ens33
192.168.52.0/24 dev ens33 proto kernel scope link src 192.168.52.201
"""
SOCKETS = b"""\
Netid State  Recv-Q Send-Q Local Address:Port  Peer Address:PortProcess
nl    UNCONN 0      0                  0:0                 *
tcp   LISTEN 0      128          0.0.0.0:30022       0.0.0.0:*    users:(("python3",pid=7,fd=3))
"""


def test_its_addresses_and_routes_serve_rules_that_are_beside_it(
    objects: dict[str, list[dict[str, Any]]], lay: Callable[[Files], Path], pack: Callable[..., Path], example: Path
) -> None:
    more = {"ip-addr": ADDRESSES, "ip-route": ROUTES, "ss": SOCKETS}
    path = pack(files(objects) | {f"{TOP}/network/{name}": text for name, text in more.items()})
    rules = (example / "nodes/k8s-node1/iptables-save.txt").read_bytes()
    beside = world(path, lay({"nodes/k8s-node1/iptables-save": rules}))
    assert list(beside.nodes) == ["k8s-node1"]
    assert {str(address.ip) for address in beside.nodes["k8s-node1"].addresses} >= {"192.168.52.201", "127.0.0.1"}
    assert [socket.port for socket in beside.nodes["k8s-node1"].sockets] == [30022]
    # Which address MASQUERADE takes is in the report alone; microk8s' own CNI gives each pod a route.
    assert {(verdict, source) for verdict, _, source in seen(beside)} == {("delivered", "192.168.52.201")}


def test_without_rules_it_says_that_they_are_lacking(
    objects: dict[str, list[dict[str, Any]]], pack: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match="no node's rules; add a node's iptables-save"):
        seen(world(pack(files(objects) | {f"{TOP}/network/ip-addr": ADDRESSES})))


def test_rules_printed_whole_into_the_report_are_read(
    objects: dict[str, list[dict[str, Any]]], pack: Callable[..., Path], example: Path
) -> None:
    more = {f"{TOP}/network/iptables-save": (example / "nodes/k8s-node1/iptables-save.txt").read_bytes()}
    found = snapshot.read([str(pack(files(objects) | more))], node="mine")
    assert {dump.node for dump in found.dumps} == {None, "mine"}
    assert not found.missing
