"""NK602: A node has no rules of kube-proxy at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_without_a_dump_of_nftables_it_is_not_proven(asked: Callable[[str], Any]) -> None:
    answer = asked("NK602/fires-the-mode-is-not-known")
    found = answer.of("NK602")
    assert [(finding.severity, finding.proven) for finding in found] == [("warning", False)]
    (sure,) = asked("NK602/fires-no-rules-at-all").of("NK602")
    assert (sure.severity, sure.proven) == ("error", True)
