"""NK614: A chain in use whose hash no Service port has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_chain_is_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK614/fires-no-such-hash")
    found = answer.of("NK614")
    assert len(found) == 1
    assert found[0].evidence[0].startswith("nodes/k8s-node1/iptables-save.txt:")
