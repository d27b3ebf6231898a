"""NK525: What belongs together in IPVS mode is there in part only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_set_is_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK525/fires-no-virtual-server")
    (found,) = answer.of("NK525")
    assert [line.split()[:2] for line in answer.cited(found)] == [["create", "KUBE-CLUSTER-IP"]]
