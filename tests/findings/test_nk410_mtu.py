"""NK410: A tunnel on the way takes larger packets than fit through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_it_is_said_once_for_the_way_there_and_back(asked: Callable[[str], Any]) -> None:
    # Recorded in the lab: flannel.1 was made over an MTU of 1500, which then became 1400 on one node.
    (finding,) = asked("NK410/fires-tunnel-too-large").of("NK410")
    assert finding.severity == "warning"
    assert finding.summary.startswith("flannel.1 of k8s-node1 takes packets of 1450 bytes")
    assert finding.evidence == ("nodes/k8s-node1/ip-link.json",)
    assert "1350" in finding.remedy
