"""NK502: A filter rule for the dialled port or address comes after the translation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_a_drop_that_cannot_act_is_a_warning(asked: Callable[[str], Any]) -> None:
    answer = asked("NK502/fires-input-drop")
    (finding,) = answer.of("NK502")
    assert finding.severity == "warning"
    assert answer.cited(finding) == ["-A INPUT -p tcp -m tcp --dport 30000 -j DROP"]
    assert "--ctorigdstport 30000" in finding.remedy
