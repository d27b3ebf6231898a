"""NK405: Nobody answers for the address the packet is sent to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_the_neighbour_and_the_rule_that_translated(asked: Callable[[str], Any]) -> None:
    answer = asked("NK405/fires-pod-gone")
    (finding,) = answer.of("NK405")
    assert finding.severity == "error"
    assert any("ip-neigh.json" in place for place in finding.evidence)
    assert any("-j DNAT" in line for line in answer.cited(finding))


def test_the_share_of_connections_is_said(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK206/fires-stale-node").of("NK405")
    assert finding.summary.endswith("where 33% of the connections go")
