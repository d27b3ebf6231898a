"""Words that both forms of ipvsadm's output share (ipvsadm.c, print_service_entry)."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_network

from netk8s.decode._json import address
from netk8s.errors import DecodeError
from netk8s.model import SCTP, TCP, UDP, Addr, At

PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}


def address_and_port(word: str, at: At) -> tuple[Addr, int]:
    """``10.0.0.1:80``, ``[fd00::1]:80``; a port left out is 0, every port.

    Raises DecodeError, also for host and service names (ipvsadm without ``-n``).
    """
    host, _, port = word.rpartition(":") if word.startswith("[") or word.count(":") == 1 else (word, "", "0")
    if word.endswith("]"):
        host, port = word, "0"
    ip = _address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    if ip is None or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        why = (
            f"expected address:port in numbers, found {word[:60]!r}; take the dump with `ipvsadm -Sn` or `ipvsadm -Ln`"
        )
        raise DecodeError(at.origin, at.line, why)
    return ip, int(port)


@lru_cache(maxsize=1 << 16)
def _address(host: str) -> Addr | None:
    """An address, None for any other text. A pod is a real server of each address of its Service."""
    try:
        return address(host)
    except ValueError:
        return None


def number(word: str, what: str, at: At) -> int:
    """A plain number. Raises DecodeError."""
    if not (word.isascii() and word.isdigit() and len(word) <= 10):
        raise DecodeError(at.origin, at.line, f"expected {what} as a number, found {word[:60]!r}")
    return int(word)


def mask(word: str, at: At) -> int:
    """A persistence mask as prefix length: ``255.255.255.0`` or, for IPv6, ``64``. Raises DecodeError."""
    if word.isascii() and word.isdigit() and len(word) <= 3 and int(word) <= 128:
        return int(word)
    try:
        return ip_network(f"0.0.0.0/{word}").prefixlen
    except ValueError:
        raise DecodeError(at.origin, at.line, f"expected a network mask, found {word[:60]!r}") from None
