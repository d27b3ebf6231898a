"""Lines of a text dump, numbered, for the readers of text formats."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._json import HEAD
from netk8s.model import Dump

_CHUNK = 1 << 20


def lines(dump: Dump) -> Iterator[tuple[int, str]]:
    """(number from 1, text without line end) of every line; bytes that are no UTF-8 become U+FFFD.

    A mapped dump is read piece by piece and never copied whole.
    """
    number, rest = 0, b""
    for start in range(0, len(dump.data), _CHUNK):
        *whole, rest = (rest + dump.data[start : start + _CHUNK]).split(b"\n")
        for line in whole:
            number += 1
            yield number, line.decode("utf-8", "replace").rstrip("\r")
    if rest:
        yield number + 1, rest.decode("utf-8", "replace").rstrip("\r")


def first_lines(dump: Dump) -> list[str]:
    """The whole lines at the beginning of a dump that are not blank, stripped; for a sniff."""
    data = dump.data[:HEAD]
    if b"\0" in data:
        return []
    found = data.decode("utf-8", "replace").split("\n")
    if len(dump.data) > HEAD:
        found.pop()
    return [line.strip() for line in found if line.strip()]
