"""The listening sockets as ``ss -Hlntu`` prints them."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.collect._text import Gap, Text, command, first_of

NEEDED_FOR = "whether a process answers on the node itself"


def texts() -> Iterator[Text | Gap]:
    yield first_of("listening.txt", command("ss", "-Hlntu"))
