"""The addresses of the devices as ``ip -j addr`` prints them."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.collect._text import Gap, Text, command, first_of

NEEDED_FOR = "the addresses that MASQUERADE takes"


def texts() -> Iterator[Text | Gap]:
    yield first_of("ip-addr.json", command("ip", "-j", "addr"))
