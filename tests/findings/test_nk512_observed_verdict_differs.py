"""NK512: What came of a packet that was sent is not what was predicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from netk8s import findings


def test_what_should_work_and_does_not_is_an_error(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK512/fires-dropped").of("NK512")
    assert finding.severity == "error"
    assert finding.summary.endswith("verdict: predicted delivered, observed timeout")


def test_what_works_against_the_prediction_is_a_warning(asked: Callable[[str], Any]) -> None:
    answer = asked("NK512/fires-dropped")
    dropped = replace(answer.trace, ways=tuple(replace(way, verdict="dropped") for way in answer.trace.ways))
    connected = tuple(replace(seen, result="connected") for seen in answer.world.observations)
    found = findings.check(replace(answer.world, observations=connected), dropped)
    assert [f.severity for f in found if f.code == "NK512"] == ["warning"]
