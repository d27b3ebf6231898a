"""NK601: A node lags behind the API, and another one does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_node_that_lags_is_an_error_and_comes_before_its_endpoints(asked: Callable[[str], Any]) -> None:
    answer = asked("NK601/fires-two-services-of-one-node")
    found = answer.of("NK601")
    assert [finding.severity for finding in found] == ["error"]
    assert answer.findings[0] == found[0]
    cited = answer.cited(found[0])
    assert cited
    assert all("k8s-node2/" in place for place in found[0].evidence)
