"""NK202: The traffic policy is Local and the node has no endpoint of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_the_drop_rule_and_the_service(asked: Callable[[str], Any]) -> None:
    answer = asked("NK202/fires-external")
    (finding,) = answer.of("NK202")
    assert finding.severity == "error"
    assert finding.summary.endswith("k8s-node1 has no endpoint of it; k8s-node2 has")
    (line,) = answer.cited(finding)
    assert "has no local endpoints" in line
    assert line.endswith("-j DROP")
    assert any(place.startswith("service default/web-local") for place in finding.evidence)


def test_up_to_1_24_the_rule_that_marks_for_drop_comes_first(asked: Callable[[str], Any]) -> None:
    answer = asked("NK202/fires-external-1.23")
    (finding,) = answer.of("NK202")
    marks, drops = answer.cited(finding)
    assert marks.startswith("-A KUBE-XLB-")
    assert marks.endswith("-j KUBE-MARK-DROP")
    assert drops.startswith("-A KUBE-FIREWALL")


def test_internal_and_external_policy_have_remedies_of_their_own(asked: Callable[[str], Any]) -> None:
    (external,) = asked("NK202/fires-external").of("NK202")
    (internal,) = asked("NK202/fires-internal").of("NK202")
    assert "externalTrafficPolicy: Cluster, and lose the client's address" in external.remedy
    assert "internalTrafficPolicy: Cluster" in internal.remedy


def test_only_a_load_balancer_has_a_health_check_port(asked: Callable[[str], Any]) -> None:
    (node_port,) = asked("NK202/fires-external").of("NK202")
    (balanced,) = asked("NK202/fires-loadbalancer-1.23").of("NK202")
    assert "checks the port of each node" in node_port.remedy
    assert "watches healthCheckNodePort" in balanced.remedy
