"""NK607: A node's rules lack an endpoint that the API has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_last_endpoint_is_an_error_one_of_several_a_warning(asked: Callable[[str], Any]) -> None:
    answer = asked("NK607/fires-none-left")
    found = answer.of("NK607")
    assert {finding.severity for finding in found} == {"error"}
    assert {finding.severity for finding in asked("NK607/fires-one-of-three").of("NK607")} == {"warning"}
