"""NK415: A sender is not told that its packets are too large for the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_device_and_what_stops_the_error_are_named(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK415/fires-icmp-dropped").of("NK415")
    assert finding.severity == "warning"
    assert finding.summary.startswith(
        "packets of 10.244.1.5 may have 1500 bytes, but flannel.1 of k8s-node1 takes 1450"
    )
    assert "iptables-save.txt:" in finding.summary
    assert finding.evidence == ("nodes/k8s-node1/ip-link.json",)
