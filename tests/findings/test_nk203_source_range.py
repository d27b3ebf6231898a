"""NK203: The sender is in none of the LoadBalancer's source ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("name", ["fires-outside", "fires-outside-1.23"])
def test_the_ranges_are_named_with_their_rules(name: str, asked: Callable[[str], Any]) -> None:
    answer = asked(f"NK203/{name}")
    (finding,) = answer.of("NK203")
    assert finding.severity == "warning"
    assert "they are 192.168.52.0/24" in finding.summary
    lines = answer.cited(finding)
    assert any(line.startswith("-A KUBE-FW-") and "-s 192.168.52.0/24" in line for line in lines)
    assert any("KUBE-PROXY-FIREWALL" in line or line.endswith("-j KUBE-MARK-DROP") for line in lines)


def test_the_nodeport_stays_open(asked: Callable[[str], Any]) -> None:
    answer = asked("NK203/quiet-nodeport")
    assert {outcome.verdict for outcome in answer.trace.outcomes} == {"delivered"}
