"""NK302: The Service has session affinity, and what nodes remember is in no dump."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_the_rule_that_checks_and_those_that_remember(asked: Callable[[str], Any]) -> None:
    answer = asked("NK302/fires-clientip")
    (finding,) = answer.of("NK302")
    assert finding.severity == "info"
    checks, *remembers = answer.cited(finding)
    assert "--rcheck --seconds 600" in checks
    assert remembers
    assert all("--set" in line and "-j DNAT" in line for line in remembers)


def test_the_key_is_the_address_before_masquerade(asked: Callable[[str], Any]) -> None:
    answer = asked("NK302/fires-clientip")
    (finding,) = answer.of("NK302")
    assert "remembers 192.168.52.50" in finding.summary
    assert answer.of("NK101")
