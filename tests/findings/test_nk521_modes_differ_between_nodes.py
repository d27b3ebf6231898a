"""NK521: Nodes run kube-proxy in different modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_each_mode_has_a_place_that_shows_it(asked: Callable[[str], Any]) -> None:
    answer = asked("NK521/fires-two-modes")
    (found,) = answer.of("NK521")
    assert [line.split()[0] for line in sorted(answer.cited(found))] == [":KUBE-NODE-PORT", ":KUBE-NODEPORTS"]
