"""``ip neigh`` as it prints for people, with ``-s`` too (iproute2's ip/ipneigh.c, ``print_neigh``)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import Addr, At, Coverage, Dump, Fact, Neighbour

NAME = "ip-neigh-text"
COMMAND = "ip neigh"

STATES = frozenset({
    "INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "FAILED", "NOARP", "PERMANENT", "NONE", "proxy",
})  # fmt: skip


def sniff(dump: Dump) -> bool:
    """The first line is an address, its device, and a link layer address or the state of an entry."""
    found = first_lines(dump)
    words = found[0].split() if found else []
    return (
        len(words) > 3
        and words[1] == "dev"
        and bool({"lladdr", *STATES} & set(words[3:]))
        and _ip(words[0]) is not None
    )


def decode(dump: Dump) -> Iterator[Fact]:
    """One Neighbour per line, after Coverage "neigh"; an entry of ``ip neigh show proxy`` has the state PROXY.

    Raises DecodeError, also for a dump of one device alone: such entries do not name it.
    """
    yield Coverage("neigh", At(dump.origin, 1))
    for number, line in lines(dump):
        words = line.split()
        if not words:
            continue
        ip = _ip(words[0])
        if ip is None or len(words) < 3 or words[1] != "dev":
            raise DecodeError(
                dump.origin, number, f"expected an entry as `{COMMAND}` prints it for all devices: ADDRESS dev DEVICE …"
            )
        lladdr = words[words.index("lladdr", 3) + 1] if "lladdr" in words[3:-1] else None
        states = tuple(word.upper() for word in words[3:] if word in STATES)
        yield Neighbour(ip, words[2], lladdr, states, At(dump.origin, number))


def _ip(word: str) -> Addr | None:
    try:
        return ip_address(word)
    except ValueError:
        return None
