"""NK406: A pod cannot reach itself through its Service: hairpin mode is off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_only_the_share_that_comes_back_to_the_pod_fails(asked: Callable[[str], Any]) -> None:
    answer = asked("NK406/fires-hairpin-off")
    (finding,) = answer.of("NK406")
    assert finding.severity == "error"
    assert finding.proven
    assert "-j DNAT --to-destination 10.244.1.6:80" in answer.cited(finding)[0]
    assert sorted(outcome.verdict for outcome in answer.trace.outcomes) == ["delivered", "delivered", "dropped"]


def test_where_no_dump_tells_which_port_is_the_pods_it_is_a_warning(asked: Callable[[str], Any]) -> None:
    answer = asked("NK406/fires-one-of-two-ports")
    (finding,) = answer.of("NK406")
    assert finding.severity == "warning"
    assert "unknown" in {outcome.verdict for outcome in answer.trace.outcomes}
