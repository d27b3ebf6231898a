"""NK523: A node sends from the virtual address that it dials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_what_is_masqueraded_is_told_as_information(asked: Callable[[str], Any]) -> None:
    answer = asked("NK523/fires-node-process")
    (found,) = answer.of("NK523")
    assert found.severity == "info"
    assert "masqueraded before it leaves" in found.summary
