"""NK520: kube-proxy's IPVS mode is deprecated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_virtual_server_is_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK520/fires-ipvs")
    (found,) = answer.of("NK520")
    assert found.severity == "info"
    assert all(line.startswith(("-A ", "-a ")) for line in answer.cited(found))
    assert answer.cited(found)
