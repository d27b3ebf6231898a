"""NK606: A node's rules have an endpoint on another port than the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_each_way_to_dial_is_told_with_both_ports(asked: Callable[[str], Any]) -> None:
    answer = asked("NK606/fires-old-target-port")
    found = answer.of("NK606")
    assert sorted(finding.summary.split(" to ")[0] for finding in found) == [
        "k8s-node1 sends ClusterIP 10.96.120.30:80",
        "k8s-node1 sends NodePort 30000",
    ]
    assert not answer.of("NK605")
    assert not answer.of("NK607")
