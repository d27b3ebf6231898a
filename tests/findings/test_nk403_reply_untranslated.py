"""NK403: The answer bypasses the node that translated the packet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_begins_with_the_rule_that_translated(asked: Callable[[str], Any]) -> None:
    answer = asked("NK403/fires-not-masqueraded")
    (finding,) = answer.of("NK403")
    assert finding.severity == "error"
    assert "-j DNAT --to-destination 10.244.2.6:80" in answer.cited(finding)[0]
    assert answer.trace.reply.symmetric is False


def test_two_endpoints_that_answer_past_the_rules_are_one_finding(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK403/fires-over-the-bridge").of("NK403")
    assert "10.96.120.30:80 was asked" in finding.summary
