"""``ipset save``: sets and their entries (ipset's lib/print.c and src/ipset.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Fact, IpSet

NAME = "ipset-save"

_CREATE = re.compile(r'create ("(?:[^"\\]|\\.)*"|\S+) ((?:hash|bitmap|list):\S+)(?: (.*))?')


def sniff(dump: Dump) -> bool:
    """The first line creates a set, comments aside."""
    found = [line for line in first_lines(dump) if not line.startswith("#")]
    return bool(found) and _CREATE.fullmatch(found[0]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """One IpSet per ``create`` line, with its entries as printed (options of an entry and all), after Coverage "ipset".

    Raises DecodeError, also for an entry of a set that the dump does not create.
    """
    yield Coverage("ipset", At(dump.origin))
    created: dict[str, tuple[str, tuple[str, ...], At]] = {}
    entries: dict[str, list[str]] = {}
    for number, line in lines(dump):
        text = line.strip()
        # COMMIT stands in files for `ipset restore`.
        if not text or text.startswith("#") or text == "COMMIT":
            continue
        if made := _CREATE.fullmatch(text):
            name = _bare(made[1])
            if name in created:
                raise DecodeError(dump.origin, number, f"set {name} is created twice; give the dump of one moment")
            created[name] = (made[2], tuple((made[3] or "").split()), At(dump.origin, number))
            entries[name] = []
            continue
        word, _, rest = text.partition(" ")
        name, _, entry = _first(rest)
        if word != "add" or not entry:
            why = "expected `create NAME TYPE …` or `add NAME ENTRY`; take the dump with `ipset save`"
            raise DecodeError(dump.origin, number, why)
        if name not in entries:
            why = f"an entry of set {name[:40]}, which no `create` line before it makes; take the whole `ipset save`"
            raise DecodeError(dump.origin, number, why)
        entries[name].append(entry)
    for name, (kind, options, at) in created.items():
        yield IpSet(name, kind, options, tuple(entries[name]), at)


def _bare(name: str) -> str:
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name


def _first(text: str) -> tuple[str, str, str]:
    """(set name, "", rest) of what follows ``add``."""
    if text.startswith('"'):
        name, _, rest = text[1:].partition('" ')
        return name, "", rest.strip()
    name, _, rest = text.partition(" ")
    return name, "", rest.strip()
