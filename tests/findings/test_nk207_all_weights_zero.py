"""NK207: IPVS has real servers for the Service, and none that takes new connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_server_of_weight_zero_is_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK207/fires-all")
    (found,) = answer.of("NK207")
    assert found.proven
    assert any("-w 0" in line for line in answer.cited(found))
    assert "ready endpoints: 1" in found.summary
