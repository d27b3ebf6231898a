"""NK432: A NetworkPolicy has no effect: it selects no pod, or nobody enforces it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from netk8s.findings import nk432_policy_without_effect as nk432


def test_a_selector_needs_the_pods(asked: Callable[[str], Any]) -> None:
    answer = asked("NK432/fires-selects-nothing")
    (finding,) = answer.of("NK432")
    assert "kubectl get pods -n shop --show-labels" in finding.remedy
    cluster = answer.world.cluster
    without = replace(cluster, covered=cluster.covered - {"pods"})
    assert list(nk432.check(replace(answer.world, cluster=without), answer.trace)) == []


def test_who_enforces_is_said_only_where_the_dumps_would_show_it(asked: Callable[[str], Any]) -> None:
    answer = asked("NK432/fires-nobody-enforces")
    assert [finding.severity for finding in answer.of("NK432")] == ["info"]
    node = answer.world.nodes["worker-1"]
    for lacking in ("nft", "link"):
        nodes = {"worker-1": replace(node, covered=node.covered - {lacking})}
        assert list(nk432.check(replace(answer.world, nodes=nodes), answer.trace)) == []
