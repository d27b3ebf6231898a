"""NK407: Answers between pods of one bridge pass no rules: bridge-nf-call-iptables is off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_begins_with_the_setting(asked: Callable[[str], Any]) -> None:
    answer = asked("NK407/fires-same-bridge")
    (finding,) = answer.of("NK407")
    assert finding.severity == "error"
    assert "10.244.1.6:80 and 10.244.1.7:80" in finding.summary
    assert answer.cited(finding)[0].replace(" ", "") == "net.bridge.bridge-nf-call-iptables=0"
