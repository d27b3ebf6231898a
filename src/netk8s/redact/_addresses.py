"""Addresses under a key: prefixes stay prefixes, subnets subnets, special ranges as they are.

A bit of an address is flipped or not by a keyed function of the bits before it (Crypto-PAn: Xu, Fan, Ammar, Moon, 2002), so
two addresses share as many leading bits afterwards as before. Where a flip would break what the kernel knows of an address,
none is made: on the way to a special range and in it, on the way to the first and last address of every subnet that the
texts mention, and within the smallest prefix that holds both ends of a range, for a range has to stay one.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Addr = IPv4Address | IPv6Address

_KEPT = {
    # This network, loopback, link-local, protocols, documentation (netk8s' own clients), multicast, reserved, masks.
    4: ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    6: ("::/64", "64:ff9b::/96", "2001:db8::/32", "ff00::/8"),
}  # fmt: skip
_IN_PLACE = {
    4: ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15"),
    6: ("fe80::/64", "fc00::/7", "2000::/3"),
}
"""Ranges that stay themselves as a whole while the addresses in them change."""
_SOLICITED = ip_network("ff02::1:ff00:0/104")
_MAPPED = (ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"))
"""IPv6 with an IPv4 address in its last 32 bits: RFC 4291 2.5.5.2, RFC 6052."""
_WIDTH = {4: 32, 6: 128}


def special(ip: Addr) -> bool:
    """Whether an address is the same for everybody, and stays."""
    return any(ip in net for net in _KEPT_NETS[ip.version]) and not _inner(ip) and not _solicited(ip)


_KEPT_NETS = {version: [ip_network(text) for text in texts] for version, texts in _KEPT.items()}


def _inner(ip: Addr) -> bool:
    return ip.version == 6 and any(ip in net for net in _MAPPED)


def _solicited(ip: Addr) -> bool:
    return ip.version == 6 and ip in _SOLICITED


class Addresses:
    """The addresses of one redaction. ``subnets`` are those that the texts mention, ``ranges`` (first, last)."""

    def __init__(self, key: bytes, subnets: Iterable[str], ranges: Iterable[tuple[str, str]]) -> None:
        self._key = key
        self._flips: dict[tuple[int, int, int], int] = {}
        self._whole: set[tuple[int, int, int]] = set()
        self.changed: dict[str, str] = {}
        for version in (4, 6):
            for text in (*_KEPT[version], *_IN_PLACE[version]):
                net = ip_network(text)
                self._pin(version, int(net.network_address), 0, net.prefixlen)
            self._whole |= {self._node(version, int(n.network_address), n.prefixlen) for n in _KEPT_NETS[version]}
        for text in subnets:
            try:
                net = ip_network(text, strict=False)
            except ValueError:
                continue
            for end in (net.network_address, net.broadcast_address):
                self._pin(net.version, int(end), net.prefixlen, net.max_prefixlen)
        for first, last in ranges:
            try:
                a, b = ip_address(first), ip_address(last)
            except ValueError:
                continue
            if a.version == b.version:
                width = _WIDTH[a.version]
                self._whole.add(self._node(a.version, int(a), width - (int(a) ^ int(b)).bit_length()))

    @staticmethod
    def _node(version: int, value: int, length: int) -> tuple[int, int, int]:
        """The first ``length`` bits of an address."""
        return version, length, value >> (_WIDTH[version] - length)

    def _pin(self, version: int, value: int, start: int, end: int) -> None:
        for length in range(start, end):
            self._flips[self._node(version, value, length)] = 0

    def ip(self, ip: Addr) -> Addr:
        """The address in place of another."""
        if ip.version == 6 and _inner(ip):
            inner = int(self.ip(IPv4Address(int(ip) & 0xFFFFFFFF)))
            return IPv6Address(int(ip) >> 32 << 32 | inner)
        if _solicited(ip):
            # The last 24 bits are those of the address that is asked for.
            return IPv6Address(int(ip) >> 24 << 24 | self._number(int(ip) & 0xFFFFFF, b"solicited") & 0xFFFFFF)
        version, width, value, out = ip.version, _WIDTH[ip.version], int(ip), 0
        for length in range(width):
            node = (version, length, value >> (width - length))
            if node in self._whole:
                out = out << (width - length) | value & ((1 << (width - length)) - 1)
                break
            flip = self._flips.get(node)
            if flip is None:
                flip = self._flips[node] = self._number(node[2], b"%d/%d" % (version, length)) & 1
            out = out << 1 | (value >> (width - 1 - length) & 1) ^ flip
        found: Addr = IPv4Address(out) if version == 4 else IPv6Address(out)
        if found != ip:
            self.changed[str(ip)] = str(found)
        return found

    def mac(self, text: str) -> str:
        """A link layer address in its own spelling. Group addresses stay, whether it is a local one stays."""
        octets = bytes(int(part, 16) for part in text.split(":"))
        if not any(octets) or len(set(octets)) == 1:
            return text  # none, broadcast, calico's ee:ee:ee:ee:ee:ee
        if octets[:3] == b"\x33\x33\xff":
            new = b"\x33\x33\xff" + (self._number(int.from_bytes(octets[3:]), b"solicited") & 0xFFFFFF).to_bytes(3)
        elif octets[0] & 1:
            return text
        else:
            keyed = blake2b(octets, key=self._key, digest_size=len(octets), person=b"mac").digest()
            new = bytes([keyed[0] & 0xFC | octets[0] & 3]) + keyed[1:]
        full = ":".join(f"{octet:02x}" for octet in new)
        self.changed[":".join(f"{octet:02x}" for octet in octets)] = full
        short = any(len(part) == 1 for part in text.split(":"))
        out = ":".join(f"{octet:x}" for octet in new) if short else full
        return out.upper() if text != text.lower() else out

    def _number(self, value: int, what: bytes) -> int:
        data = value.to_bytes(17) + what
        return int.from_bytes(blake2b(data, key=self._key, digest_size=8, person=b"ip").digest())
