"""Kernel settings as ``sysctl`` prints them: those a trace asks for. /proc/sys/net shows the reader's own namespace."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from netk8s.collect import _wire
from netk8s.collect._text import Gap, Text
from netk8s.collect.nfnetlink import attributes

NEEDED_FOR = "whether the node forwards, 127.0.0.1, bridged traffic"
NAME = "sysctl.txt"
ROOT = "/proc/sys"
SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/fib_multipath_hash_policy",
    "net/ipv4/conf/*/*",
    "net/ipv4/vs/*",
    "net/ipv6/conf/*/forwarding",
    "net/bridge/*",
    "net/netfilter/nf_conntrack_*",
)
COUNT = "nf_conntrack_count"
"""How many connections there are just now, which is no setting."""
GET_LINKS, SKIP_STATS = 18, 8
GROUPS = (_wire.LINKS,)


def texts() -> Iterator[Text | Gap]:
    found = settings()
    yield Text(NAME, found.encode(), ROOT) if found else Gap(NAME, f"{ROOT}: nothing of net can be read there")


def signature() -> bytes:
    """The settings, those of each device as the kernel lists them with it: reading each by its file takes too long.

    Raises CollectError.
    """
    common = [pattern.replace("conf/*", f"conf/{which}") for pattern in SETTINGS for which in ("all", "default")]
    told = "".join(line for line in settings(dict.fromkeys(common)).splitlines() if COUNT not in line)
    return told.encode() + _wire.again(lambda: b"".join(_of_devices()))


def _of_devices() -> Iterator[bytes]:
    """IFLA_IFNAME, and IFLA_INET_CONF and IFLA_INET6_CONF in IFLA_AF_SPEC: all of a device's settings in one piece."""
    body = struct.pack("=16x") + _wire.attribute(29, struct.pack("=I", SKIP_STATS))
    for _, payload in _wire.asked(_wire.ROUTE, GET_LINKS, body):
        found = attributes(payload[16:])
        families = attributes(found.get(26, b""))
        yield found[3]
        yield attributes(families.get(socket.AF_INET, b"")).get(1, b"")
        yield attributes(families.get(socket.AF_INET6, b"")).get(2, b"")


def settings(patterns: Iterable[str] = SETTINGS) -> str:
    """``name = value`` lines, sorted."""
    lines = []
    for pattern in patterns:
        for path in Path(ROOT).glob(pattern):
            with suppress(OSError, UnicodeDecodeError):
                # sysctl(8): a dot in a device's name is written as a slash.
                name = ".".join(part.replace(".", "/") for part in path.relative_to(ROOT).parts)
                lines.append(f"{name} = {' '.join(path.read_text().split())}\n")
    return "".join(sorted(lines))
