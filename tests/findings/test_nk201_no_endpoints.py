"""NK201: The Service has no usable endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_the_reject_rule(asked: Callable[[str], Any]) -> None:
    answer = asked("NK201/fires-nodeport")
    (finding,) = answer.of("NK201")
    assert finding.severity == "error"
    assert finding.proven
    (line,) = answer.cited(finding)
    assert "has no endpoints" in line
    assert "-j REJECT" in line
    assert "kubernetes.io/service-name=empty" in finding.remedy


def test_the_reject_that_is_not_asked_is_evidence_too(asked: Callable[[str], Any]) -> None:
    answer = asked("NK201/fires-not-refused-from-node")
    (finding,) = answer.of("NK201")
    assert [outcome.verdict for outcome in answer.trace.outcomes] == ["unreachable"]
    assert any("-d 192.168.52.244/32" in line and "-j REJECT" in line for line in answer.cited(finding))
