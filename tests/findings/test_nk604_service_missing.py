"""NK604: A node has no rules for an address of a Service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_service_is_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK604/fires-clusterip")
    found = answer.of("NK604")
    assert [finding.severity for finding in found] == ["error"]
    assert found[0].evidence[0].startswith("cluster/services.json")
