"""NK501: A match or target on the way is not understood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("name", ["fires-match", "fires-target"])
def test_the_rule_is_the_evidence_and_nothing_is_proven(name: str, asked: Callable[[str], Any]) -> None:
    answer = asked(f"NK501/{name}")
    (finding,) = answer.of("NK501")
    assert finding.severity == "warning"
    assert not finding.proven
    (line,) = answer.cited(finding)
    assert "geoip" in line or "COUNTRYMAP" in line


def test_what_follows_if_it_matches_is_neither_proven_nor_an_error(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK501/fires-match").of("NK402")
    assert not finding.proven
    assert finding.severity == "warning"
