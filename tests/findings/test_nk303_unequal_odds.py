"""NK303: The rules of a node give endpoints of one Service unequal odds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_the_rules_of_the_most_and_the_least_likely_endpoint(asked: Callable[[str], Any]) -> None:
    answer = asked("NK303/fires-edited-probability")
    (finding,) = answer.of("NK303")
    assert finding.severity == "warning"
    assert "10.244.1.5:80 odds of 0.6 " in finding.summary
    most, least = answer.cited(finding)
    assert "--probability 0.6" in most
    assert least.startswith("-A KUBE-SVC-")
