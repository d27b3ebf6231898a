"""Open vSwitch: recognised, and no answer is given from rules that are not its datapath."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import open_vswitch
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]


def test_a_node_on_open_vswitch_gets_no_answer(
    world: Made, components: Components, asked: Callable[..., Trace]
) -> None:
    node = world(links=["ovs-system", "ovn-k8s-mp0"])
    assert components(node)[open_vswitch.NAME].enforces == "hidden"
    (outcome,) = asked(node, "10.1.1.9:80").outcomes
    assert outcome.verdict == "unknown"
    assert "Open vSwitch carries the pods' packets (link ovs-system" in outcome.reason


def test_other_nodes_are_left_alone(world: Made, components: Components) -> None:
    node = world(links=["ovs"])
    assert components(node) == {}
    assert node.nodes["n1"].opaque == ""
