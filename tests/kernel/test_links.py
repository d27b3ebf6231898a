"""Where a pod hangs, and whether a bridge sends a frame back by its port (br_forward.c should_deliver)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from netk8s.kernel import links
from netk8s.kernel.netns import Netns
from netk8s.model import Address, Link, NextHop, Node, Question, Route

A, N = ip_address, ip_network
COVERED = frozenset({"addr", "link", "route4", "rules4"})
BRIDGE = (Link("eth0", 2), Link("cni0", 3, "bridge"))
CNI0 = Address("cni0", A("10.244.1.1"), 24, "global", index=3)
TO_CNI0 = Route(N("10.244.1.0/24"), "unicast", (NextHop("cni0"),))
POD = A("10.244.1.6")


def node(*more: Link, **facts: object) -> Netns:
    given = {"routes": (TO_CNI0,), "addresses": (CNI0,), "covered": COVERED, **facts}
    return Netns(Node("n", links=(*BRIDGE, *more), **given))  # type: ignore[arg-type]


def port(name: str, hairpin: bool | None = None) -> Link:
    return Link(name, 10 + int(name[-1]), "veth", master="cni0", hairpin=hairpin)


def test_whether_a_pod_sends_directly_or_to_its_gateway() -> None:
    space = node(port("veth1"))
    assert links.same_subnet(space, "cni0", A("10.244.1.7"))
    assert not links.same_subnet(space, "cni0", A("10.244.1.1")), "the bridge's own address is the node"
    assert not links.same_subnet(space, "cni0", A("10.96.0.1"))
    assert not links.same_subnet(space, "eth0", A("10.244.1.7"))


@pytest.mark.parametrize(
    ("ports", "name", "expected"),
    [
        ([port("veth1", True), port("veth2", False)], "veth1", True),
        ([port("veth1", True), port("veth2", False)], "veth2", False),
        ([port("veth1", True), port("veth2", True)], None, True),
        ([port("veth1", False), port("veth2", False)], None, False),
    ],
)
def test_hairpin_mode(ports: list[Link], name: str | None, expected: bool) -> None:
    assert links.hairpin(node(*ports), "cni0", name) is expected


def test_hairpin_mode_of_an_unknown_port_is_a_question() -> None:
    for ports, name in (([port("veth1", True), port("veth2", False)], None), ([port("veth1")], "veth1"), ([], None)):
        found = links.hairpin(node(*ports), "cni0", name)
        assert isinstance(found, Question)
        assert found.default is None
