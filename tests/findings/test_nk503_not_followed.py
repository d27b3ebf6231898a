"""NK503: The way hangs on something that no dump tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_nothing_is_proven_of_what_is_not_known(asked: Callable[[str], Any]) -> None:
    answer = asked("NK503/fires-no-rules")
    found = answer.of("NK503")
    assert {(finding.severity, finding.proven) for finding in found} == {("warning", False)}
    assert "unknown" in {outcome.verdict for outcome in answer.trace.outcomes}
