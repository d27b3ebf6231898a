"""NK605: A node's rules send connections to what is no endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_rule_and_the_connection_are_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK605/fires-gone")
    found = answer.of("NK605")
    assert {finding.severity for finding in found} == {"error"}
    rules = [line for finding in found for line in answer.cited(finding)]
    assert any("-j KUBE-SEP-5C7OLVSKM6COFMMR" in line or "--to-destination" in line for line in rules)
    kept = [finding for finding in found if "tracked" in finding.summary]
    assert len(kept) == 1
    assert any("src=10.244.1.6 dst=10.244.1.20" in line for line in answer.cited(kept[0]))
