"""The network devices as ``ip -j -d link`` prints them."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.collect._text import Gap, Text, command, first_of

NEEDED_FOR = "devices and bridges"


def texts() -> Iterator[Text | Gap]:
    yield first_of("ip-link.json", command("ip", "-j", "-d", "link"))
