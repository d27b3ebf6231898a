"""NK413: The answer goes to an ipvlan l3 pod past the rules that translated the question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_the_translation_that_nobody_undoes(asked: Callable[[str], Any]) -> None:
    answer = asked("NK413/fires-l3-pod")
    (finding,) = answer.of("NK413")
    assert "comes from 10.244.2.102:80, but 10.96.10.10:80 was asked" in finding.summary
    assert "--to-destination 10.244.2.102:80" in answer.cited(finding)[0]
    assert answer.trace.outcomes[0].verdict == "dropped"
