"""collect/addresses.py: what it gives is what the tool prints, and no tool is a gap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from netk8s.collect import addresses
from netk8s.collect._text import Gap


@pytest.mark.lab
def test_it_is_what_the_tool_prints(spaces: Callable[[], Any]) -> None:
    space = spaces()
    code = (
        "from netk8s.collect import addresses\n"
        "text = next(iter(addresses.texts()))\nprint(text.name, text.source, sep='|')\nprint(text.data.decode(), end='')"
    )
    first, _, rest = space.python(code).partition("\n")
    assert first == "ip-addr.json|ip -j addr"
    assert rest == space.run(*["ip", "-j", "addr"])


@pytest.mark.usefixtures("bare")
def test_no_tool_is_a_gap() -> None:
    found = list(addresses.texts())
    assert found
    assert all(isinstance(text, Gap) and "not installed" in text.why for text in found)
