# SPDX-License-Identifier: GPL-2.0-only
"""Packets, built and read with scapy; sent and received with the kernel's own sockets.

scapy's send() would put frames straight on a device: past the sender's OUTPUT chain, its routes and its ARP. A raw
socket goes through all of these, as any program's packets do.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from ipaddress import ip_address

logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of missing routes when it is imported

from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6  # noqa: E402
from scapy.packet import Packet, Raw  # noqa: E402

from netk8s_probes.plan import Addr, Plan  # noqa: E402

ETH_P_ALL = 3
PACKET_OUTGOING = 4
IP_HDRINCL, IPV6_HDRINCL = 3, 36
V6_ERRORS = 128
"""ICMPv6 types below are errors."""


@dataclass(frozen=True, slots=True)
class Headers:
    """What a probe's packet looked like. ``inner`` is the packet that an ICMP error is about."""

    protocol: str
    src: Addr
    dst: Addr
    sport: int | None = None
    dport: int | None = None
    flags: str = ""
    seq: int = 0
    ack: int = 0
    icmp: tuple[int, int] | None = None
    ident: int = 0
    mss: int = 0
    payload: bytes = b""
    inner: Headers | None = None


def built(plan: Plan) -> bytes:
    """The packet of a plan from its IP header on. Not for a connection, whose packets the kernel makes."""
    if plan.dst.version == 4:
        ip: Packet = IP(src=str(plan.src), dst=str(plan.dst), id=plan.tag, flags="DF")
    else:
        ip = IPv6(src=str(plan.src), dst=str(plan.dst), fl=plan.tag)
    if plan.kind == "syn":
        return bytes(
            ip / TCP(sport=plan.sport, dport=plan.dport, flags="S", seq=sequence(plan), options=[("MSS", 1460)])
        )
    if plan.kind == "udp":
        return bytes(ip / UDP(sport=plan.sport, dport=plan.dport) / Raw(plan.payload))
    if plan.dst.version == 4:
        return bytes(ip / ICMP(type=8, id=plan.tag, seq=1) / Raw(plan.payload))
    return bytes(ip / ICMPv6EchoRequest(id=plan.tag, seq=1, data=plan.payload))


def reset(plan: Plan) -> bytes:
    """What ends a connection that a SYN probe began."""
    ip = (
        IP(src=str(plan.src), dst=str(plan.dst))
        if plan.dst.version == 4
        else IPv6(src=str(plan.src), dst=str(plan.dst))
    )
    return bytes(ip / TCP(sport=plan.sport, dport=plan.dport, flags="R", seq=(sequence(plan) + 1) & 0xFFFFFFFF))


def sequence(plan: Plan) -> int:
    """The sequence number of a SYN probe: it finds it behind every NAT."""
    return (plan.tag << 16) | 0x6E6B


def read(data: bytes) -> Headers | None:
    """The headers of a packet from its IP header on; None for what is no IP, or cut off."""
    try:
        if not data or data[0] >> 4 not in (4, 6):
            return None
        packet = IP(data) if data[0] >> 4 == 4 else IPv6(data)
        src, dst = ip_address(packet.src), ip_address(packet.dst)
        four = src.version == 4
        if TCP in packet:
            tcp = packet[TCP]
            mss = next((value for name, value in tcp.options if name == "MSS"), 0)
            return Headers(
                "tcp", src, dst, tcp.sport, tcp.dport, str(tcp.flags), tcp.seq, tcp.ack, ident=_ident(packet), mss=mss
            )
        if UDP in packet:
            udp = packet[UDP]
            return Headers("udp", src, dst, udp.sport, udp.dport, ident=_ident(packet), payload=bytes(udp.payload))
        if four and ICMP in packet:
            icmp = packet[ICMP]
            rest = bytes(icmp.payload)
            inner = _inner(rest) if icmp.type in (3, 4, 5, 11, 12) else None
            return Headers(
                "icmp", src, dst, icmp=(icmp.type, icmp.code), ident=_ident(packet), payload=rest, inner=inner
            )
        if not four and packet.nh == socket.IPPROTO_ICMPV6:
            body = bytes(packet.payload)
            if len(body) < 8:
                return None
            inner = _inner(body[8:]) if body[0] < V6_ERRORS else None
            return Headers(
                "icmpv6", src, dst, icmp=(body[0], body[1]), ident=_ident(packet), payload=body[8:], inner=inner
            )
    except Exception:  # whatever is on the wire: a packet that cannot be read is none of ours
        return None
    return None


def _inner(data: bytes) -> Headers | None:
    """The packet within an ICMP error: its first bytes only, so headers are read by hand where scapy wants more."""
    if len(data) >= 28 and data[0] >> 4 == 4:
        start, protocol = (data[0] & 15) * 4, data[9]
        src, dst, ident = ip_address(data[12:16]), ip_address(data[16:20]), int.from_bytes(data[4:6], "big")
    elif len(data) >= 48 and data[0] >> 4 == 6:
        start, protocol = 40, data[6]
        src, dst, ident = ip_address(data[8:24]), ip_address(data[24:40]), int.from_bytes(data[:4], "big") & 0xFFFFF
    else:
        return None
    name = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6"}.get(protocol, str(protocol))
    body = data[start : start + 8]
    if protocol in (6, 17):
        seq = int.from_bytes(body[4:8], "big") if protocol == 6 else 0
        return Headers(
            name, src, dst, int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big"), seq=seq, ident=ident
        )
    return Headers(name, src, dst, icmp=(body[0], body[1]), ident=ident)


def _ident(packet: Packet) -> int:
    return int(packet.id if IP in packet else packet.fl)


def listener(device: str | None) -> socket.socket:
    """A socket that gets what passes a device (None: every device of the namespace), from the IP header on."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    if device is not None:
        sock.bind((device, ETH_P_ALL))
    sock.setblocking(False)
    return sock


def raw(version: int) -> socket.socket:
    """A socket for whole packets."""
    if version == 4:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        sock.setsockopt(socket.IPPROTO_IP, IP_HDRINCL, 1)
    else:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
    return sock
