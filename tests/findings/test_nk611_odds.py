"""NK611: A node's rules do not spread connections evenly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_endpoints_with_another_share_are_named(asked: Callable[[str], Any]) -> None:
    answer = asked("NK611/fires-a-rule-was-changed")
    found = answer.of("NK611")
    assert len(found) == 2
    assert all("10.244.1.66:80" in finding.summary for finding in found)
    assert not asked("NK611/quiet-rounded-to-five-digits").findings
