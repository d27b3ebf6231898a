"""Reverse path filtering drops the packet or its answer.

What it sees
------------
A packet, or its answer, that comes in by another device than the one the route back to its source
leaves by, on a device with rp_filter=1 (strict); with rp_filter=2 (loose) one whose source has
no route back at all. Also ARP for a node's own address that is not answered for the same reason.

Why it matters
--------------
The kernel drops it without a word to anybody and before FORWARD and INPUT; only the counter
IPReversePathFilter of `nstat` moves. It meets answers as much as requests, so one side of a
connection looks all right.

Example
-------
  NK411 error  worker-2: rp_filter=1 on eth1: the route back to 10.244.1.5 leaves by eth0, so the
               packet to 10.244.2.5:80 ends there
     worker-2/sysctl.txt:31, worker-2/sysctl.txt:12

What to do
----------
Give the source a route out of the device its packets come in by (with several networks: policy
routing), which keeps the protection. Or set rp_filter=2 on that device, at the price of weaker
protection against forged sources. The larger of the settings for "all" and for the device
holds, so both may have to be lowered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.findings._reading import (
    REVERSE,
    Stop,
    ends,
    graded,
    grouped,
    places,
    proven,
    route_dump,
    stops,
    sysctl,
    why,
)
from netk8s.model import At, Finding, Trace, World

CODE = "NK411"
SEVERITY = "error"
SUMMARY = "Reverse path filtering drops the packet or its answer."

_WHERE = re.compile(r"rp_filter=(\d) on (\S+?)[:,]")


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for group in grouped(s for s in stops(trace) if s.kind == REVERSE):
        stop = group[0]
        reason = why(group).removeprefix(f"{stop.node}: ")
        what = f"the answer to {trace.flow.packet.src}" if stop.back else f"the packet to {ends(s.way for s in group)}"
        yield Finding(
            CODE,
            graded(SEVERITY, (s.way for s in group)),
            f"{stop.node}: {reason}, so {what} ends there",
            places(*_evidence(world, trace, stop)),
            "Give the source a route out of the device its packets come in by, which keeps the protection, or set "
            "rp_filter to 2 (loose) on that device and for all, which protects less against forged sources.",
            proven(s.way for s in group),
        )


def _evidence(world: World, trace: Trace, stop: Stop) -> Iterator[At | None]:
    found = _WHERE.search(stop.why)
    for name in (found[2] if found is not None else "all", "all"):
        yield sysctl(world, stop.node, f"net.ipv4.conf.{name.translate({46: '/', 47: '.'})}.rp_filter")
    yield route_dump(world, stop.node, trace.flow.packet.family)
