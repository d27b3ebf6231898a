"""Whether a node is as it was, as far as any answer goes: what runs by itself in its texts is left aside."""

from __future__ import annotations

import re
from hashlib import sha256

from netk8s.model import Snapshot

CONNECTIONS, NEIGHBOURS = "conntrack.txt", "ip-neigh.json"
_TIMEOUT = re.compile(rb"^((?:ipv[46] +\d+ +)?\S+ +\d+) +\d+", re.MULTILINE)
_COUNTED = re.compile(rb" (?:packets|bytes|use|id|delta-time)=\d+")
_REACHED = re.compile(rb'"(?:REACHABLE|STALE|DELAY|PROBE)"')
"""States in which an entry has an address (linux, include/net/neighbour.h, NUD_VALID); they follow one another by time."""


def digest(found: Snapshot) -> str:
    """Of all texts of a snapshot, but for the timers and counters of connections, and the ages of neighbours."""
    total = sha256()
    for dump in sorted(found.dumps, key=lambda dump: dump.origin):
        name = dump.origin.rpartition("/")[2]
        data = bytes(dump.data)
        if name == CONNECTIONS:
            data = b"\n".join(sorted(_COUNTED.sub(b"", _TIMEOUT.sub(rb"\1", data)).splitlines()))
        elif name == NEIGHBOURS:
            data = _REACHED.sub(b"", data)
        total.update(f"{dump.origin} {len(data)}\n".encode())
        total.update(data)
    for gap in found.missing:
        total.update(f"{gap.what}\n".encode())
    return total.hexdigest()
