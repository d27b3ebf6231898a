"""NK408: A NodePort is not served at a loopback address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_the_rule_that_leaves_loopback_out(asked: Callable[[str], Any]) -> None:
    answer = asked("NK408/fires-left-out")
    (finding,) = answer.of("NK408")
    assert finding.severity == "error"
    (line,) = answer.cited(finding)
    assert "! -d 127.0.0.0/8" in line
    assert not answer.of("NK204")


def test_the_evidence_of_a_martian_is_the_setting(asked: Callable[[str], Any]) -> None:
    answer = asked("NK408/fires-route-localnet-off")
    assert all("route_localnet" in line for finding in answer.of("NK408") for line in answer.cited(finding))
