"""NK511: The kernel took a packet through other rules than predicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_where_the_paths_part(asked: Callable[[str], Any]) -> None:
    answer = asked("NK511/fires-rule-inserted")
    (finding,) = answer.of("NK511")
    assert "observed mangle -A OUTPUT -d 10.96.0.0/16 -j MARK --set-xmark 0x1/0x1" in finding.summary
    assert answer.cited(finding) == ['-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES']
