"""The neighbours as ``ip -j neigh``, and where frames go as ``bridge -j fdb`` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.collect._text import Gap, Text, command, first_of

NEEDED_FOR = "whether the next hop answers, and where a tunnel's frames go"


def texts() -> Iterator[Text | Gap]:
    yield first_of("ip-neigh.json", command("ip", "-j", "neigh"))
    yield first_of("bridge-fdb.json", command("bridge", "-j", "fdb"))
