"""Which of the networks that are written anywhere hold an address: all that a comparison can tell of it but itself."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_address, ip_network, summarize_address_range
from socket import inet_aton, inet_ntoa

from netk8s.model import Addr, Net

# What the kernel tells apart by itself: martians, scopes, RFC 6724's table of policies.
_KNOWN = (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "224.0.0.0/4",
    "224.0.0.0/24", "240.0.0.0/4", "255.255.255.255/32",
    "::/128", "::1/128", "::/96", "::ffff:0:0/96", "2001::/32", "2001:db8::/32", "2002::/16", "3ffe::/16", "fc00::/7",
    "fe80::/10", "fec0::/10", "ff00::/8",
)  # fmt: skip


class Networks:
    """Networks by length, each with what it is written for."""

    def __init__(self) -> None:
        self._nets: dict[tuple[int, int], dict[int, list[Hashable]]] = {}
        self._six: set[tuple[int, int]] = set()
        self._known: dict[Hashable, int] = {}
        for text in _KNOWN:
            self.add(ip_network(text), text)

    def add(self, net: Net, kind: Hashable) -> None:
        """Adds a network. ``kind`` tells apart what may be done for it."""
        bits = int(net.network_address) >> (net.max_prefixlen - net.prefixlen)
        self._nets.setdefault((net.version, net.prefixlen), {}).setdefault(bits, []).append(kind)

    def add_range(self, first: Addr, last: Addr, kind: Hashable) -> None:
        """Adds a range of addresses. Raises ValueError for one that is none."""
        for net in summarize_address_range(first, last):
            self.add(net, kind)

    def add_source(self, ip: Addr, prefixlen: int) -> None:
        """Adds an address of a node, which IPv6 chooses by its longest common prefix with the destination (RFC 6724).

        What they have in common behind the address's own prefix does not count (ipv6_get_saddr_eval).
        """
        if ip.version == 6:
            self._six.add((int(ip) >> (128 - prefixlen), 128 - prefixlen))

    def of(self, family: int, number: int) -> Hashable:
        """What is written that an address lies in."""
        bits = 32 if family == 4 else 128
        found: Hashable = tuple(
            [
                (length, tuple(kinds))
                for (version, length), nets in self._nets.items()
                if version == family and (kinds := nets.get(number >> (bits - length)))
            ]
        )
        if family == 6:
            found = (found, tuple(((number >> bits) ^ one).bit_length() for one, bits in sorted(self._six)))
        return self._known.setdefault(found, len(self._known))


def shown(ip: Addr) -> str:
    """An address as text, in a third of the time that ``str`` takes: a large dump has hundreds of thousands."""
    return inet_ntoa(ip.packed) if ip.version == 4 else str(ip)


def parsed(text: str) -> tuple[int, int]:
    """(family, number) of an address in the form that this program writes. Raises ValueError for another form."""
    if ":" in text:
        return _six(text)
    try:
        packed = inet_aton(text)
    except OSError:
        raise ValueError(text) from None
    if inet_ntoa(packed) != text:
        raise ValueError(text)
    return 4, int.from_bytes(packed, "big")


@lru_cache(maxsize=8192)
def _six(text: str) -> tuple[int, int]:
    ip = ip_address(text)
    if str(ip) != text:
        raise ValueError(text)
    return 6, int(ip)


def leaves(value: object) -> Iterator[object]:
    """The words and numbers in a value of nested tuples and structs, in order."""
    if isinstance(value, str | int):
        yield value
    elif isinstance(value, tuple | list | frozenset):
        for each in value:
            yield from leaves(each)
    else:
        names: Iterable[str] = getattr(value, "__struct_fields__", ())
        for name in names:
            yield from leaves(getattr(value, name))
