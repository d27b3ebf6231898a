"""NK608: A node has rules for an address that no Service has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_rule_is_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK608/fires-service-deleted")
    found = answer.of("NK608")
    assert {finding.severity for finding in found} == {"warning"}
    assert all("10.96.7.7/32" in line or "KUBE-SVC" in line for finding in found for line in answer.cited(finding))
