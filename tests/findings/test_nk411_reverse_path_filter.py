"""NK411: Reverse path filtering drops the packet or its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_the_setting_and_the_routes(asked: Callable[[str], Any]) -> None:
    answer = asked("NK411/fires-two-networks")
    (finding,) = answer.of("NK411")
    assert finding.proven
    assert answer.cited(finding)[0] == "net.ipv4.conf.eth1.rp_filter = 1"
    assert "the route back to 10.244.1.5 leaves by ens33" in finding.summary
    assert finding.evidence[-1] == "nodes/k8s-node2/ip-route.json"


def test_loose_lets_it_pass(asked: Callable[[str], Any]) -> None:
    assert asked("NK411/quiet-loose").trace.outcomes[0].verdict == "delivered"
