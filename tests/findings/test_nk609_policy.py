"""NK609: A node does not follow a Service's traffic policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_every_node_that_does_not_follow_is_named(asked: Callable[[str], Any]) -> None:
    answer = asked("NK609/fires-local-not-followed")
    found = answer.of("NK609")
    assert sorted(finding.summary.split()[0] for finding in found) == ["k8s-node1", "k8s-node2"]
    assert {finding.severity for finding in found} == {"error"}
