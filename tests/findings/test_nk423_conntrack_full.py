"""NK423: A node's connection table is full or nearly so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from netk8s import findings


def test_both_settings_are_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK423/fires-full")
    (found,) = answer.of("NK423")
    assert [line.split(" = ")[0] for line in answer.cited(found)] == [
        "net.netfilter.nf_conntrack_count",
        "net.netfilter.nf_conntrack_max",
    ]
    assert found.proven


def test_nine_tenths_are_worth_telling_and_less_is_not(asked: Callable[[str], Any]) -> None:
    answer = asked("NK423/fires-full")
    node = answer.world.nodes["k8s-node1"]
    told = []
    for count in ("117964", "117965"):
        name = "net.netfilter.nf_conntrack_count"
        sysctls = {**node.sysctls, name: replace(node.sysctls[name], value=count)}
        world = replace(answer.world, nodes={"k8s-node1": replace(node, sysctls=sysctls)})
        told.append([f.proven for f in findings.check(world, answer.trace) if f.code == "NK423"])
    assert told == [[], [False]]
