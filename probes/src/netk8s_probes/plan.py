# SPDX-License-Identifier: GPL-2.0-only
"""What is to be sent, and what is refused: decided and said before anything is."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from netk8s_probes.namespaces import entered, path_of

Addr = IPv4Address | IPv6Address

KINDS = ("connect", "syn", "udp", "echo")
MOST, SLOWEST = 10, 0.2
"""Never more packets than this in one run, and never one sooner after another, whatever is asked for."""


class Refused(Exception):
    """What this program does not do; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """A device to listen at. ``namespace`` None: our own. ``end``: what is seen there is what the endpoint sees."""

    device: str
    namespace: str | None = None
    node: str | None = None
    end: bool = False

    def __str__(self) -> str:
        name = f"{self.node}=" if self.node else ""
        return f"{name}{self.namespace}@{self.device}" if self.namespace else f"{name}{self.device}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One probe with everything decided. ``tag`` marks it: IPv4 identification, IPv6 flow label, payload."""

    kind: str
    src: Addr
    dst: Addr
    sport: int
    dport: int | None
    tag: int
    namespace: str | None = None
    places: tuple[Place, ...] = ()

    @property
    def protocol(self) -> str:
        if self.kind == "echo":
            return "icmp" if self.dst.version == 4 else "icmpv6"
        return "udp" if self.kind == "udp" else "tcp"

    @property
    def payload(self) -> bytes:
        return f"netk8s-probe {self.tag:05d}\n".encode()

    @property
    def mss(self) -> int:
        """The segment size a connection asks for: a mark in its SYN that no translation changes."""
        return 900 + self.tag % 500

    def sentence(self, count: int = 1, interval: float = 1.0) -> str:
        """What will be sent, in one line."""
        what = {
            "connect": "one TCP connection that is closed again",
            "syn": "one TCP SYN, and a RST when it is answered",
            "udp": f"one UDP datagram of {len(self.payload)} bytes",
            "echo": f"one ICMP echo request of {len(self.payload)} bytes",
        }[self.kind]
        if count > 1:
            what = f"{count} times, {interval:g} s apart, {what}"
        ends = " to ".join(
            f"[{ip}]:{port}"
            if port is not None and ip.version == 6
            else f"{ip}:{port}"
            if port is not None
            else str(ip)
            for ip, port in ((self.src, self.sport if self.kind != "echo" else None), (self.dst, self.dport))
        )
        where = f", from the network namespace {self.namespace}" if self.namespace else ""
        listens = f"; listens at {', '.join(map(str, self.places))}" if self.places else ""
        mark = f"segment size {self.mss}" if self.kind == "connect" else f"identification {self.tag}"
        return f"sends {what}, {ends}{where}; marked by {mark}{listens}"


def target(text: str, kind: str) -> tuple[Addr, int | None]:
    """IP:PORT, [IPv6]:PORT, and for an echo IP."""
    host, port = text, ""
    if text.startswith("["):
        host, _, tail = text[1:].partition("]")
        port = tail.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip = ip_address(host)
    except ValueError:
        raise Refused(f"{text} is no target; expected IP:PORT or [IPv6]:PORT, and for an echo IP") from None
    if kind == "echo":
        if port:
            raise Refused(f"an echo has no port: give {ip}")
        return ip, None
    if not (port.isdecimal() and 0 < int(port) < 65536):
        raise Refused(f"{text} needs a port from 1 to 65535: {'[' + str(ip) + ']' if ip.version == 6 else ip}:PORT")
    return ip, int(port)


def place(text: str, *, end: bool = False) -> Place:
    """[NODE=][NETNS@]DEVICE."""
    node, equals, rest = text.partition("=")
    namespace, at, device = (rest if equals else text).rpartition("@")
    if not device or (equals and not node):
        raise Refused(f"{text} is no place to listen at; expected [NODE=][NETNS@]DEVICE")
    return Place(device, path_of(namespace) if at else None, node if equals else None, end)


def one_host(ip: Addr) -> None:
    """Refuses what is not one host's address."""
    if ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255":
        raise Refused(f"{ip} is not the address of one host; nothing is sent there")


def limits(count: int, interval: float) -> None:
    """Refuses more than a probe is."""
    if not 1 <= count <= MOST:
        raise Refused(f"--count is 1 to {MOST}: this is a probe and no load")
    if interval < SLOWEST:
        raise Refused(f"--interval is at least {SLOWEST} seconds")


def made(
    kind: str, dst: Addr, dport: int | None, namespace: str | None, places: tuple[Place, ...], sport: int = 0
) -> Plan:
    """A plan with its addresses. The source is what the kernel takes towards this address; asking it sends nothing."""
    one_host(dst)
    family = socket.AF_INET if dst.version == 4 else socket.AF_INET6
    with entered(namespace), socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((str(dst), dport or 9))
        except PermissionError:
            raise Refused(f"{dst} is a broadcast address; nothing is sent there") from None
        except OSError as error:
            raise Refused(f"nothing can be sent to {dst} from there: {error.strerror}") from None
        src = ip_address(sock.getsockname()[0].partition("%")[0])
        if kind == "echo":
            sport = 0
        elif not sport:
            sport = _free(family, kind)
    return Plan(kind, src, dst, sport, dport, secrets.randbelow(0xFFFE) + 1, namespace, places)


def _free(family: socket.AddressFamily, kind: str) -> int:
    """A source port that is free now, so that the plan can name it; it is taken when the probe is sent."""
    with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])
