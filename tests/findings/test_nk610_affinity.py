"""NK610: A node's session affinity is not the Service's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_time_of_the_rules_and_that_of_the_service_are_told(asked: Callable[[str], Any]) -> None:
    answer = asked("NK610/fires-another-time")
    found = answer.of("NK610")
    assert len(found) == 2
    assert all("600 s" in finding.summary and "900 s" in finding.summary for finding in found)
