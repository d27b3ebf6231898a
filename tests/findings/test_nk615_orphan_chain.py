"""NK615: A chain of a Service or endpoint that no rule leads to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_chains_of_a_node_are_one_finding(asked: Callable[[str], Any]) -> None:
    answer = asked("NK615/fires-left-over")
    found = answer.of("NK615")
    assert [finding.severity for finding in found] == ["info"]
    assert len(found[0].evidence) == 2
