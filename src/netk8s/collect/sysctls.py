"""Kernel settings as ``sysctl`` prints them: those a trace asks for. /proc/sys/net shows the reader's own namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from netk8s.collect._text import Gap, Text

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


def texts() -> Iterator[Text | Gap]:
    found = settings()
    yield Text(NAME, found.encode(), ROOT) if found else Gap(NAME, f"{ROOT}: nothing of net can be read there")


def settings() -> str:
    """``name = value`` lines, sorted."""
    lines = []
    for pattern in SETTINGS:
        for path in Path(ROOT).glob(pattern):
            with suppress(OSError, UnicodeDecodeError):
                # sysctl(8): a dot in a device's name is written as a slash.
                name = ".".join(part.replace(".", "/") for part in path.relative_to(ROOT).parts)
                lines.append(f"{name} = {' '.join(path.read_text().split())}\n")
    return "".join(sorted(lines))
