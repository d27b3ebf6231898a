"""``ipvsadm -Sn``: virtual servers and their real servers as the commands that make them (ipvsadm.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec.structs import replace

from netk8s.decode._ipvsadm import address_and_port, mask, number
from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import SCTP, TCP, UDP, At, Coverage, Dump, Fact, RealServer, VirtualServer

NAME = "ipvsadm-save"

_SERVICE = {
    "-t": TCP, "--tcp-service": TCP, "-u": UDP, "--udp-service": UDP, "--sctp-service": SCTP,
    "-f": 0, "--fwmark-service": 0,
}  # fmt: skip
_FIRST = re.compile(
    r"(?:ipvsadm )?(?:-A|-a|--add-service|--add-server) (?:-t|-u|-f|--(?:tcp|udp|sctp|fwmark)-service) \S+"
)
_METHODS = {
    "-m": "masq", "--masquerading": "masq", "-g": "route", "--gatewaying": "route", "-i": "tunnel", "--ipip": "tunnel",
}  # fmt: skip
_WITHOUT_VALUE = frozenset({"--tun-nocsum", "--tun-csum", "--tun-remcsum"})
_WITH_VALUE = frozenset({"--tun-type", "--tun-port", "--pe"})


def sniff(dump: Dump) -> bool:
    """The first line adds a virtual server, comments aside."""
    found = [line for line in first_lines(dump) if not line.startswith("#")]
    return bool(found) and _FIRST.match(found[0]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """One VirtualServer per ``-A`` line with the real servers that ``-a`` lines add to it, after Coverage "ipvs".

    Raises DecodeError, also for a real server of a virtual one that the dump does not add.
    """
    yield Coverage("ipvs", At(dump.origin))
    servers: dict[tuple[str, ...], VirtualServer] = {}
    real: dict[tuple[str, ...], list[RealServer]] = {}
    for at_line, line in lines(dump):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "ipvsadm":
            del words[0]
        at = At(dump.origin, at_line)
        word = words.pop(0) if words else ""
        if word in ("-A", "--add-service"):
            key, server = _service(words, at)
            if key in servers:
                raise DecodeError(at.origin, at.line, f"{' '.join(key)} is added twice; give the dump of one moment")
            servers[key], real[key] = server, []
        elif word in ("-a", "--add-server"):
            key, one = _server(words, at)
            if key not in servers:
                why = f"a real server of {' '.join(key)}, which no -A line before it adds; take the whole `ipvsadm -Sn`"
                raise DecodeError(at.origin, at.line, why)
            real[key].append(one)
        else:
            why = f"expected -A or -a, found {word[:60]!r}; take the dump with `ipvsadm -Sn`"
            raise DecodeError(at.origin, at.line, why)
    for key, server in servers.items():
        yield replace(server, real=tuple(real[key]))


def _key(words: list[str], at: At) -> tuple[str, ...]:
    """The words that name a virtual server, taken off the line."""
    if len(words) < 2 or words[0] not in _SERVICE:
        why = "expected -t, -u, --sctp-service or -f and an address:port or a mark"
        raise DecodeError(at.origin, at.line, why)
    key = (words.pop(0), words.pop(0))
    # A mark's family follows it: "-f 5 -6".
    if words and words[0] in ("-6", "--ipv6"):
        key = (*key, "-6")  # type: ignore[assignment]
        del words[0]
    return key


def _value(words: list[str], option: str, at: At) -> str:
    if not words:
        raise DecodeError(at.origin, at.line, f"{option} has no value")
    return words.pop(0)


def _service(words: list[str], at: At) -> tuple[tuple[str, ...], VirtualServer]:
    key = _key(words, at)
    protocol = _SERVICE[key[0]]
    if protocol:
        ip, port = address_and_port(key[1], at)
        server = VirtualServer(ip.version, protocol, ip, port, "wlc", at=at)
    else:
        family = 6 if len(key) == 3 else 4
        server = VirtualServer(family, 0, None, 0, "wlc", fwmark=number(key[1], "a mark", at), at=at)
    while words:
        option = words.pop(0)
        if option in ("-s", "--scheduler"):
            server = replace(server, scheduler=_value(words, option, at))
        elif option in ("-p", "--persistent"):
            # Without a number: 300 seconds, ipvsadm's default.
            seconds = number(words.pop(0), "seconds", at) if words and words[0][:1].isdigit() else 300
            server = replace(server, persistence=seconds)
        elif option in ("-M", "--netmask"):
            server = replace(server, mask=mask(_value(words, option, at), at))
        elif option in ("-b", "--sched-flags"):
            server = replace(server, flags=tuple(_value(words, option, at).split(",")))
        elif option in ("-o", "--ops"):
            server = replace(server, one_packet=True)
        elif option in _WITH_VALUE:
            server = replace(server, flags=(*server.flags, f"{option[2:]}={_value(words, option, at)}"))
        else:
            raise DecodeError(at.origin, at.line, f"option {option[:60]!r} of a virtual server is not known")
    return key, server


def _server(words: list[str], at: At) -> tuple[tuple[str, ...], RealServer]:
    key = _key(words, at)
    if len(words) < 2 or words.pop(0) not in ("-r", "--real-server"):
        raise DecodeError(at.origin, at.line, "expected -r and the real server's address:port")
    ip, port = address_and_port(words.pop(0), at)
    # ipvsadm's default method is direct routing.
    one = RealServer(ip, port, method="route", at=at)
    while words:
        option = words.pop(0)
        if option in _METHODS:
            one = replace(one, method=_METHODS[option])
        elif option in ("-w", "--weight"):
            one = replace(one, weight=number(_value(words, option, at), "a weight", at))
        elif option in ("-x", "--u-threshold"):
            one = replace(one, upper=number(_value(words, option, at), "a threshold", at))
        elif option in ("-y", "--l-threshold"):
            one = replace(one, lower=number(_value(words, option, at), "a threshold", at))
        elif option in _WITH_VALUE:
            _value(words, option, at)
        elif option not in _WITHOUT_VALUE:
            raise DecodeError(at.origin, at.line, f"option {option[:60]!r} of a real server is not known")
    return key, one
