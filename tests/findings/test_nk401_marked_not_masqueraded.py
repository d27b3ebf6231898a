"""NK401: A packet was marked for masquerade and left without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_it_is_a_warning_where_the_packet_is_answered_and_an_error_where_not(asked: Callable[[str], Any]) -> None:
    found = asked("NK401/fires-flushed").of("NK401")
    assert {finding.severity: "10.244.2.6:80" in finding.summary for finding in found} == {
        "error": True,
        "warning": False,
    }


def test_the_evidence_is_the_rule_that_marks_and_the_empty_chain(asked: Callable[[str], Any]) -> None:
    answer = asked("NK401/fires-flushed")
    lines = answer.cited(answer.of("NK401")[0])
    assert lines[0].endswith("-j KUBE-MARK-MASQ")
    assert lines[1].startswith(":KUBE-POSTROUTING ")


def test_an_address_replaced_by_itself_is_masqueraded(asked: Callable[[str], Any]) -> None:
    answer = asked("NK401/quiet-same-address")
    assert {outcome.verdict for outcome in answer.trace.outcomes} == {"delivered"}
    assert not answer.findings
