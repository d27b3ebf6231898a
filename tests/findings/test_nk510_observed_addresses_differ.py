"""NK510: A packet that was sent had other addresses than predicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_each_address_that_differs_is_told(asked: Callable[[str], Any]) -> None:
    found = asked("NK510/fires-other-endpoint").of("NK510")
    assert [f.severity for f in found] == ["warning", "warning"]
    assert "endpoint: predicted 10.244.1.5:80, observed 10.244.2.5:80" in found[0].summary
    assert "source seen: predicted 10.244.1.1, observed 192.168.52.201" in found[1].summary
    assert found[0].evidence == ("observation.json",)
    assert found[0].proven
