"""NK603: A second set of kube-proxy's rules on a node is out of date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_connections_that_go_the_old_way_make_it_an_error(asked: Callable[[str], Any]) -> None:
    answer = asked("NK603/fires-old-backend")
    found = answer.of("NK603")
    assert [finding.severity for finding in found] == ["error"]
    assert any(place.startswith("nodes/k8s-node1/iptables-legacy-save.txt:") for place in found[0].evidence)
    assert any(place.startswith("nodes/k8s-node1/conntrack.txt:") for place in found[0].evidence)
