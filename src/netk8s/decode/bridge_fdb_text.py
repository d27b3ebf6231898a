"""``bridge fdb`` as it prints for people, with ``-s`` and ``-d`` too (iproute2's bridge/fdb.c, ``print_fdb``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import Addr, At, Coverage, Dump, Fact, FdbEntry

NAME = "bridge-fdb-text"
COMMAND = "bridge fdb"

_ENTRY = re.compile(r"((?:[0-9a-f]{2}:){5,19}[0-9a-f]{2})\s+dev\s+(\S+)(.*)")
_FLAGS = frozenset({"self", "router", "extern_learn", "offload", "sticky", "locked", "added_by_user"})
_STATES = frozenset({"permanent", "static", "stale"})
_VALUES = frozenset({"dst", "vlan", "port", "vni", "src_vni", "via", "nhid", "link-netnsid", "used", "master"})


def sniff(dump: Dump) -> bool:
    """The first line is a MAC address and its device."""
    found = first_lines(dump)
    return bool(found) and _ENTRY.fullmatch(found[0]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """One FdbEntry per line, after Coverage "fdb"; a state such as ``permanent`` comes last in its flags.

    Raises DecodeError, also for a dump of one device alone: such entries do not name it.
    """
    yield Coverage("fdb", At(dump.origin, 1))
    for number, line in lines(dump):
        if not line.strip():
            continue
        entry = _ENTRY.fullmatch(line.strip())
        if entry is None:
            why = f"expected an entry as `{COMMAND}` prints it for all devices: MAC dev DEVICE …"
            raise DecodeError(dump.origin, number, why)
        at = At(dump.origin, number)
        values: dict[str, str] = {}
        flags: list[str] = []
        states: list[str] = []
        rest = iter(entry[3].split())
        for word in rest:
            if word in _VALUES:
                values[word] = next(rest, "")
            elif word in _FLAGS:
                flags.append(word)
            elif word in _STATES:
                states.append(word)
        yield FdbEntry(entry[1], entry[2], _dst(values.get("dst"), at), values.get("master"), (*flags, *states), at)


def _dst(word: str | None, at: At) -> Addr | None:
    try:
        return ip_address(word) if word is not None else None
    except ValueError:
        raise DecodeError(at.origin, at.line, f"expected an IP address after dst, found {word!r}") from None
