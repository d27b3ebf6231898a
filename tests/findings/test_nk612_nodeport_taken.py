"""NK612: A process listens on a NodePort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_socket_is_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK612/fires-a-process")
    found = answer.of("NK612")
    assert [finding.evidence[0] for finding in found] == ["nodes/k8s-node1/listening.txt:2"]
    assert not found[0].summary.startswith("kube-proxy")
