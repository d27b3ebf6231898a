"""NK522: A node has the rules of two modes of kube-proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_both_modes_have_a_place_that_shows_them(asked: Callable[[str], Any]) -> None:
    answer = asked("NK522/fires-iptables-and-nftables")
    (found,) = answer.of("NK522")
    assert [line.split()[0] for line in sorted(answer.cited(found))] == [":KUBE-NODEPORTS", "table"]
