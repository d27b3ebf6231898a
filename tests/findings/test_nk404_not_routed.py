"""NK404: Routing discards the packet or its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_of_forwarding_is_the_setting(asked: Callable[[str], Any]) -> None:
    answer = asked("NK404/fires-forwarding-off")
    (finding,) = answer.of("NK404")
    assert finding.severity == "error"
    assert any(line.replace(" ", "").endswith("ip_forward=0") for line in answer.cited(finding))
    assert "net.ipv4.ip_forward=1" in finding.remedy


def test_what_a_gateway_knows_is_in_no_dump(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK404/fires-route-lost").of("NK404")
    assert finding.evidence == ("nodes/k8s-node1/ip-route.json",)
    assert not finding.proven


def test_a_packet_from_the_pods_own_address_points_at_the_masquerade(asked: Callable[[str], Any]) -> None:
    answer = asked("NK404/fires-own-address")
    (finding,) = answer.of("NK404")
    assert "NK401" in finding.remedy
    assert answer.of("NK401")
