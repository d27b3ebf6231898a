"""Packets as bytes: what the lab sends, and what it reads of what it saw. No scapy: only headers that rules look at."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FLAG_BITS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32}
ETHERTYPE = {4: 0x0800, 6: 0x86DD}


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet to send. ``tag`` (1 to 65535) finds it again behind every NAT: it is the IPv4 identification or the
    IPv6 flow label, and part of the TCP sequence number, none of which netfilter changes here.
    """

    protocol: int
    src: str
    dst: str
    sport: int = 0
    dport: int = 0
    tag: int = 1
    tcp_flags: tuple[str, ...] = ("SYN",)
    icmp_type: int = 0
    icmp_code: int = 0
    ttl: int = 64
    mark: int = 0

    @property
    def family(self) -> int:
        return ip_address(self.dst).version

    @property
    def sequence(self) -> int:
        return (self.tag << 12) | 0x7

    def ip_bytes(self) -> bytes:
        """The packet from the IP header on."""
        src, dst = ip_address(self.src).packed, ip_address(self.dst).packed
        body = self._transport()
        pseudo = (
            src + dst + struct.pack("!IHBB", len(body), 0, 0, self.protocol)
            if self.family == 6
            else (src + dst + struct.pack("!BBH", 0, self.protocol, len(body)))
        )
        place = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}.get(self.protocol)
        if place is not None:
            summed = body if self.protocol == ICMP else pseudo + body
            value = checksum(summed) or (0xFFFF if self.protocol == UDP else 0)
            body = body[:place] + struct.pack("!H", value) + body[place + 2 :]
        if self.family == 6:
            return struct.pack("!IHBB", (6 << 28) | self.tag, len(body), self.protocol, self.ttl) + src + dst + body
        head = (
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), self.tag, 0x4000, self.ttl, self.protocol, 0) + src + dst
        )
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body

    def _transport(self) -> bytes:
        if self.protocol == TCP:
            flags = sum(FLAG_BITS[flag] for flag in self.tcp_flags)
            # An option (MSS), as any real SYN has one.
            return struct.pack("!HHIIBBHHH", self.sport, self.dport, self.sequence, 0, 6 << 4, flags, 64240, 0, 0) + (
                b"\x02\x04\x05\xb4"
            )
        if self.protocol == UDP:
            return struct.pack("!HHHH", self.sport, self.dport, 12, 0) + b"nk8s"
        if self.protocol in (ICMP, ICMPV6):
            return struct.pack("!BBHHH", self.icmp_type, self.icmp_code, 0, self.sport, 1) + b"netk8s-lab" * 3
        return b"netk8s-lab"

    def frame(self, to_mac: str, from_mac: str = "02:00:00:00:00:01") -> bytes:
        """The packet as an Ethernet frame."""
        return mac_bytes(to_mac) + mac_bytes(from_mac) + struct.pack("!H", ETHERTYPE[self.family]) + self.ip_bytes()


@dataclass(frozen=True, slots=True)
class Seen:
    """The headers of a packet that was seen. ``inner_tag`` is of the packet an ICMP error is about."""

    family: int
    protocol: int
    src: str
    dst: str
    tag: int
    ttl: int
    sport: int | None = None
    dport: int | None = None
    tcp_flags: frozenset[str] = frozenset()
    ack: int = 0
    icmp_type: int | None = None
    icmp_code: int | None = None
    inner_tag: int | None = None


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def parse_frame(frame: bytes) -> Seen | None:
    """What an Ethernet frame carries, None if it is not IP."""
    kind = struct.unpack_from("!H", frame, 12)[0] if len(frame) >= 14 else 0
    return parse_ip(frame[14:]) if kind in ETHERTYPE.values() else None


def parse_ip(data: bytes) -> Seen | None:
    """The headers of an IP packet, which may be cut short after the first bytes of the transport header."""
    if len(data) < 20:
        return None
    if data[0] >> 4 == 4:
        size = (data[0] & 15) * 4
        tag, ttl, protocol = struct.unpack_from("!H", data, 4)[0], data[8], data[9]
        src, dst, family = str(ip_address(data[12:16])), str(ip_address(data[16:20])), 4
    elif data[0] >> 4 == 6 and len(data) >= 40:
        size = 40
        tag, protocol, ttl = struct.unpack_from("!I", data)[0] & 0xFFFFF, data[6], data[7]
        src, dst, family = str(ip_address(data[8:24])), str(ip_address(data[24:40])), 6
    else:
        return None
    body = data[size:]
    plain = Seen(family, protocol, src, dst, tag, ttl)
    if protocol == UDP and len(body) >= 4:
        sport, dport = struct.unpack_from("!HH", body)
        return Seen(family, protocol, src, dst, tag, ttl, sport, dport)
    if protocol == TCP and len(body) >= 14:
        sport, dport, _, ack = struct.unpack_from("!HHII", body)
        flags = frozenset(name for name, bit in FLAG_BITS.items() if body[13] & bit)
        return Seen(family, protocol, src, dst, tag, ttl, sport, dport, flags, ack)
    if protocol in (ICMP, ICMPV6) and len(body) >= 8:
        kind, code, _, ident = struct.unpack_from("!BBHH", body)
        error = kind in (3, 4, 5, 11, 12) if protocol == ICMP else kind < 128
        inner = None
        if error and len(body) >= 14:
            inner = (
                struct.unpack_from("!H", body, 12)[0] if family == 4 else struct.unpack_from("!I", body, 8)[0] & 0xFFFFF
            )
        return Seen(
            family,
            protocol,
            src,
            dst,
            tag,
            ttl,
            None if error else ident,
            None,
            icmp_type=kind,
            icmp_code=code,
            inner_tag=inner,
        )
    return plain
