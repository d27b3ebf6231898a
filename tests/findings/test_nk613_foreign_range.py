"""NK613: A node serves a ClusterIP outside the range of all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_an_address_in_the_range_is_another_finding(asked: Callable[[str], Any]) -> None:
    answer = asked("NK613/fires-another-range")
    found = answer.of("NK613")
    assert len(found) == 1
    assert asked("NK613/quiet-in-the-range").of("NK608")
