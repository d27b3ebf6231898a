"""NK524: IPVS mode does not keep traffic policy Local on a node without an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_what_arrives_by_a_masquerade_is_a_warning(asked: Callable[[str], Any]) -> None:
    answer = asked("NK524/fires-no-local-endpoint")
    (found,) = answer.of("NK524")
    assert found.severity == "warning"
    assert any("192.168.52.201:30080 -r 10.244.2.7:8080" in line for line in answer.cited(found))
