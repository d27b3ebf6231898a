"""One connection or datagram with the kernel's own sockets: what is sent, from where, and what came back.

The addresses are known before anything is sent, so that a trace can be armed for exactly this packet.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from ipaddress import ip_address

from msgspec import Struct

from netk8s.collect.namespaces import entered
from netk8s.errors import CollectError, UsageError
from netk8s.model import PROTOCOL_NAMES, TCP, UDP, Addr, Packet

# linux/in.h, in6.h, errqueue.h
IP_RECVERR, IPV6_RECVERR = 11, 25
SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6 = 2, 3
PAYLOAD = b"netk8s verify\n"

# What connect(2) and recv(2) say where the network, and not the endpoint, answered. EACCES: a prohibit route.
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENONET, errno.EHOSTDOWN, errno.EPROTO}


class Came(Struct, frozen=True):
    """What came of it: connected, refused, unreachable or timeout, and what answered."""

    result: str
    answer: str = ""


class Reserved:
    """A socket that has its source port and has sent nothing yet; ``packet`` is what it will send first."""

    def __init__(self, sock: socket.socket, packet: Packet) -> None:
        self._socket, self.packet = sock, packet

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Reserved:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, timeout: float) -> Came:
        """Sends, and waits for what comes of it. The socket stays open: its conntrack entry can be asked for."""
        packet, sock = self.packet, self._socket
        sock.settimeout(timeout)
        try:
            sock.connect((str(packet.dst), packet.dport))
            if packet.protocol == UDP:
                sock.send(PAYLOAD)
                sock.recv(4096)
                return Came("connected", "data")
        except TimeoutError:
            return Came("timeout")
        except OSError as error:
            icmp = _icmp(sock)
            if error.errno == errno.ECONNREFUSED:
                return Came("refused", icmp or ("tcp-reset" if packet.protocol == TCP else ""))
            if error.errno == errno.EPERM:
                # NF_DROP in OUTPUT: a UDP send is told so, on the wire it is silence.
                return Came("timeout", "not sent: dropped in the sender's own OUTPUT")
            if error.errno in _UNREACHABLE:
                return Came("unreachable", icmp)
            if error.errno == errno.ETIMEDOUT:
                return Came("timeout")
            raise CollectError(f"the probe could not be sent: {error.strerror}") from None
        return Came("connected", "syn-ack")


class Awaited(Reserved):
    """A packet that somebody else sends."""

    def __init__(self, packet: Packet) -> None:
        super().__init__(socket.socket(socket.AF_UNIX), packet)


def reserve(protocol: int, dst: Addr, dport: int, namespace: str | None = None, sport: int = 0) -> Reserved:
    """A socket in a namespace with its addresses known; nothing is sent. Raises CollectError, UsageError."""
    if protocol not in (TCP, UDP):
        raise UsageError(f"a probe is TCP or UDP; {PROTOCOL_NAMES.get(protocol, str(protocol))} cannot be sent")
    if dst.is_multicast or dst.is_unspecified or str(dst) == "255.255.255.255":
        raise UsageError(f"{dst} is not the address of one host; nothing is sent there")
    with entered(namespace):
        src = source_of(dst)
        family = socket.AF_INET if dst.version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM)
    try:
        level = (socket.IPPROTO_IP, IP_RECVERR) if dst.version == 4 else (socket.IPPROTO_IPV6, IPV6_RECVERR)
        sock.setsockopt(*level, 1)
        # The port alone: the kernel is to choose the address as it would for anybody.
        sock.bind(("", sport))
        port = int(sock.getsockname()[1])
    except OSError as error:
        sock.close()
        raise CollectError(f"no socket for the probe: {error.strerror}") from None
    return Reserved(sock, Packet(protocol, src, dst, port, dport))


def source_of(dst: Addr) -> Addr:
    """The source address that the kernel takes towards an address. A connected UDP socket has one and sends nothing."""
    family = socket.AF_INET if dst.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((str(dst), 9))
        except OSError as error:
            raise CollectError(f"nothing can be sent to {dst} from here: {error.strerror}") from None
        return ip_address(sock.getsockname()[0].partition("%")[0])


def _icmp(sock: socket.socket) -> str:
    """The ICMP error behind a socket's error, as "icmp TYPE/CODE" (struct sock_extended_err); "" if it was none."""
    with suppress(OSError):
        sock.setblocking(False)
        _, extra, _, _ = sock.recvmsg(1024, 512, socket.MSG_ERRQUEUE)
        for _, kind, data in extra:
            if kind in (IP_RECVERR, IPV6_RECVERR) and len(data) >= 8:
                _, origin, what, code = struct.unpack_from("=IBBB", data)
                if origin == SO_EE_ORIGIN_ICMP:
                    return f"icmp {what}/{code}"
                if origin == SO_EE_ORIGIN_ICMP6:
                    return f"icmpv6 {what}/{code}"
    return ""


def local_name() -> str:
    """The name a node usually has in the cluster: its host name."""
    return os.uname().nodename.lower()
