"""NK301: Under externalTrafficPolicy Local, nodes with few endpoints load each of them more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_how_clients_are_spread_over_nodes_is_in_no_dump(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK301/fires-two-and-one").of("NK301")
    assert finding.severity == "warning"
    assert not finding.proven
    assert "one on k8s-node1 (2 endpoints) gets 25 %, one on k8s-node2 (1 endpoint) gets 50 %" in finding.summary
    assert any(place.startswith("service default/sticky-local") for place in finding.evidence)
