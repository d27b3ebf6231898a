"""NK414: A node and the pods on its own macvlan or ipvlan devices do not reach each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("fixture", "share"), [("fires-own-macvlan-pod", "the packet ends"), ("fires-node-to-its-ipvlan-pods", "50% of")]
)
def test_it_says_how_much_ends_there_and_where(asked: Callable[[str], Any], fixture: str, share: str) -> None:
    answer = asked(f"NK414/{fixture}")
    (finding,) = answer.of("NK414")
    assert share in finding.summary
    assert finding.evidence[0].endswith("/ip-link.json")


def test_from_another_node_the_same_pod_is_reached(asked: Callable[[str], Any]) -> None:
    assert asked("NK414/quiet-other-node").trace.outcomes[0].verdict == "delivered"
