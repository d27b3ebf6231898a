"""Whether a device carries packets. What the kernel does with those that are sent all the same: tests/lab/test_faults.py."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from netk8s.kernel import carrier
from netk8s.kernel.netns import Netns
from netk8s.model import Address, FdbEntry, Link, Neighbour, Node, Question

POD, OTHER = ip_address("10.244.1.5"), ip_address("10.244.1.6")


def port(name: str, state: str = "UP", *, up: bool = True) -> Link:
    return Link(name, 9, "veth", master="cni0", up=up, state=state)


def netns(*links: Link, neighbours: tuple[Neighbour, ...] = (), fdb: tuple[FdbEntry, ...] = ()) -> Netns:
    addresses = tuple(
        Address(link.name, ip_address("192.0.2.1"), 24, "global") for link in links if link.master is None
    )
    return Netns(Node("n1", links=links, neighbours=neighbours, fdb=fdb, addresses=addresses))


@pytest.mark.parametrize(
    ("link", "why"),
    [
        (Link("eth0", 2, state="UP"), ""),
        (Link("eth0", 2, state="UNKNOWN"), ""),
        (Link("eth0", 2), ""),
        (Link("eth0", 2, state="DOWN"), "eth0 of n1 has no carrier (state DOWN)"),
        (Link("eth0", 2, state="LOWERLAYERDOWN"), "eth0 of n1 has no carrier (state LOWERLAYERDOWN)"),
        (Link("eth0", 2, state="DOWN", up=False), "eth0 of n1 is switched off"),
    ],
)
def test_a_device_says_whether_it_carries(link: Link, why: str) -> None:
    assert carrier.lost(netns(link), "eth0") == why
    assert carrier.cut_off(netns(link)) == why
    assert not carrier.lost(netns(link), "eth1")
    assert not carrier.lost(netns(link), None)


def test_a_node_with_another_device_is_not_cut_off() -> None:
    down = Link("eth0", 2, state="DOWN")
    assert not carrier.cut_off(netns(down, Link("eth1", 3, state="UP")))
    assert carrier.cut_off(netns(down, Link("docker0", 3, "bridge", state="UP")))


def test_the_ports_of_a_bridge_that_are_all_up_raise_no_doubt() -> None:
    assert carrier.of_pod(netns(port("veth1"), port("veth2")), "cni0", None, POD) is None


def test_a_port_that_is_known_to_be_the_pods_decides() -> None:
    there = netns(port("veth1", "DOWN"), port("veth2"))
    assert carrier.of_pod(there, "cni0", "veth2", POD) is None
    assert carrier.of_pod(there, "cni0", "veth1", POD) == "veth1 of n1 has no carrier (state DOWN)"


def test_without_a_dump_that_tells_whose_port_is_down_it_is_a_question() -> None:
    doubt = carrier.of_pod(netns(port("veth1", "DOWN"), port("veth2")), "cni0", None, POD)
    assert isinstance(doubt, Question)
    assert doubt.default is True
    assert "(veth1)" in doubt.if_false


def test_the_port_behind_which_nobody_else_is_is_the_pods() -> None:
    links = (port("veth1", "DOWN"), port("veth2"))
    fdb = (FdbEntry("02::6", "veth2"),)
    by_neighbour = netns(*links, neighbours=(Neighbour(OTHER, "cni0", "02::6", ("REACHABLE",)),), fdb=fdb)
    by_mac = netns(*links, neighbours=(Neighbour(POD, "cni0", "02::5", ("REACHABLE",)),), fdb=fdb)
    for there in (by_neighbour, by_mac):
        assert "for 10.244.1.5 is down (veth1)" in str(carrier.of_pod(there, "cni0", None, POD))


def test_the_pods_other_address_is_nobody_else() -> None:
    links = (port("veth1", "DOWN"), port("veth2"))
    there = netns(
        *links, neighbours=(Neighbour(OTHER, "cni0", "02::6", ("REACHABLE",)),), fdb=(FdbEntry("02::6", "veth2"),)
    )
    assert carrier.of_pod(there, "cni0", None, POD, (POD, OTHER)) is None
