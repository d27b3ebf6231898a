"""NK422: A recorded connection goes through a Service that is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_entry_is_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK422/fires-nodeport")
    (found,) = answer.of("NK422")
    assert found.severity == "warning"
    assert ["dport=30054 " in line for line in answer.cited(found)] == [True]
