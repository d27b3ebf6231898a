"""NK206: The rules on the way and the EndpointSlices name different endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_a_stale_endpoint_that_does_not_answer_is_an_error_and_a_lacking_one_a_warning(
    asked: Callable[[str], Any],
) -> None:
    answer = asked("NK206/fires-stale-node")
    stale, lacking = answer.of("NK206")
    assert (stale.severity, lacking.severity) == ("error", "warning")
    assert any("-j DNAT --to-destination 10.244.1.6:80" in line for line in answer.cited(stale))
    assert "10.244.1.66:80" in lacking.summary
    assert stale.proven
