"""NK421: A recorded UDP connection passes the Service by, untranslated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_entry_is_the_evidence_and_the_command_names_it(asked: Callable[[str], Any]) -> None:
    answer = asked("NK421/fires-untranslated")
    (found,) = answer.of("NK421")
    assert ["sport=40003 " in line for line in answer.cited(found)] == [True]
    command = "conntrack -D -p udp --orig-dst 192.168.52.201 --orig-port-dst 30053 --reply-src 192.168.52.201"
    assert command in found.remedy
