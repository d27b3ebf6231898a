"""NK102: A packet marked for masquerade keeps its source, because it ends on the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_it_is_information_about_the_endpoint_on_the_node(asked: Callable[[str], Any]) -> None:
    answer = asked("NK102/fires-exporter-on-the-node")
    (finding,) = answer.of("NK102")
    assert finding.severity == "info"
    assert finding.summary.startswith("192.168.52.202:9100 on k8s-node2 sees the client as 192.168.52.50")
    assert all(line.endswith("-j KUBE-MARK-MASQ") for line in answer.cited(finding))


def test_other_endpoints_of_the_same_service_lose_the_address(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK102/fires-exporter-on-the-node").of("NK101")
    assert "192.168.52.202:9100" not in finding.summary
