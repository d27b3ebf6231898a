"""NK402: A rule or a policy drops or rejects the packet or its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("fires-raw-drop", "-A PREROUTING -p tcp -m multiport --dports 30080,30090 -j DROP"),
        ("fires-mangle-drop", "-A PREROUTING -s 203.0.113.0/24 -p tcp -m tcp --dport 30000 -j DROP"),
        ("fires-reject-of-some", "-A FORWARD -d 10.244.2.0/24 -j REJECT --reject-with icmp-host-prohibited"),
        ("fires-forward-policy", ":FORWARD DROP [0:0]"),
    ],
)
def test_the_evidence_is_the_rule_or_the_policy(name: str, rule: str, asked: Callable[[str], Any]) -> None:
    answer = asked(f"NK402/{name}")
    found = answer.of("NK402")
    assert {finding.severity for finding in found} == {"error"}
    assert [line for finding in found for line in answer.cited(finding)] == [rule]
    assert all(rule in finding.summary or "policy of filter FORWARD" in finding.summary for finding in found)


def test_many_endpoints_stopped_by_one_rule_are_one_finding(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK402/fires-forward-policy").of("NK402")
    assert "10.244.1.6:80, 10.244.1.7:80 and 10.244.2.6:80" in finding.summary
