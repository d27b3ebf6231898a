"""``ipvsadm -Ln``: the table of virtual servers for people, with their live connections (ipvsadm.c).

``--stats``, ``--rate``, ``--thresholds`` and ``--persistent-conn`` print other columns of the same table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec.structs import replace

from netk8s.decode._ipvsadm import PROTOCOLS, address_and_port, mask, number
from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Fact, RealServer, VirtualServer

NAME = "ipvsadm-list"

_TITLE = re.compile(r"IP Virtual Server version \d")
_METHODS = {"Masq": "masq", "Route": "route", "Tunnel": "tunnel", "Local": "local", "Bypass": "route"}


def sniff(dump: Dump) -> bool:
    """The title line of every list of ipvsadm."""
    found = first_lines(dump)
    return bool(found) and _TITLE.match(found[0]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """One VirtualServer per line of its own, after Coverage "ipvs".

    A list with counters has no schedulers and weights: it gives Coverage "ipvs-counters" and nothing else.
    Raises DecodeError.
    """
    header = next((line for _, line in lines(dump) if line.startswith("Prot ")), "")
    if header and "Scheduler" not in header:
        yield Coverage("ipvs-counters", At(dump.origin))
        return
    yield Coverage("ipvs", At(dump.origin))
    server: VirtualServer | None = None
    real: list[RealServer] = []
    for at_line, line in lines(dump):
        words = line.split()
        at = At(dump.origin, at_line)
        if not words or _TITLE.match(line) or words[0] == "Prot" or words[:2] == ["->", "RemoteAddress:Port"]:
            continue
        if words[0] == "->":
            if server is None:
                raise DecodeError(at.origin, at.line, "a real server before the first virtual one")
            real.append(_server(words[1:], at))
            continue
        if server is not None:
            yield replace(server, real=tuple(real))
        server, real = _service(words, at), []
    if server is not None:
        yield replace(server, real=tuple(real))


def _service(words: list[str], at: At) -> VirtualServer:
    if len(words) < 3 or words[0] not in (*PROTOCOLS, "FWM"):
        why = "expected a virtual server (protocol, address:port, scheduler) as `ipvsadm -Ln` prints it"
        raise DecodeError(at.origin, at.line, why)
    if words[0] == "FWM":
        mark = number(words[1], "a mark", at)
        rest = words[2:]
        family = 6 if rest[0] == "IPv6" else 4
        rest = rest[1:] if family == 6 else rest
        if not rest:
            raise DecodeError(at.origin, at.line, "expected a scheduler")
        server = VirtualServer(family, 0, None, 0, rest.pop(0), fwmark=mark, at=at)
    else:
        ip, port = address_and_port(words[1], at)
        server = VirtualServer(ip.version, PROTOCOLS[words[0]], ip, port, words[2], at=at)
        rest = words[3:]
    while rest:
        word = rest.pop(0)
        if word in ("persistent", "mask", "pe") and not rest:
            raise DecodeError(at.origin, at.line, f"{word} has no value")
        if word == "persistent":
            server = replace(server, persistence=number(rest.pop(0), "seconds", at))
        elif word == "mask":
            server = replace(server, mask=mask(rest.pop(0), at))
        elif word == "pe":
            server = replace(server, flags=(*server.flags, f"pe={rest.pop(0)}"))
        elif word == "ops":
            server = replace(server, one_packet=True)
        elif word.startswith("(") and word.endswith(")"):
            server = replace(server, flags=(*server.flags, *word[1:-1].split(",")))
        else:
            raise DecodeError(at.origin, at.line, f"word {word[:60]!r} of a virtual server is not known")
    return server


def _server(words: list[str], at: At) -> RealServer:
    if len(words) < 5 or words[1] not in _METHODS:
        why = "expected address:port, forwarding method, weight, active and inactive connections"
        raise DecodeError(at.origin, at.line, why)
    ip, port = address_and_port(words[0], at)
    weight, active, inactive = (number(word, "a count", at) for word in words[2:5])
    return RealServer(ip, port, weight, _METHODS[words[1]], active=active, inactive=inactive, at=at)
