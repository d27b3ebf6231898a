"""What came of a packet that was really sent is not what was predicted.

What it sees
------------
An observation among the dumps of the packet that was asked for, whose result (connected,
refused, unreachable, nothing came back) is none of the predicted verdicts. A UDP datagram that
nobody answers may have been delivered and is no contradiction to that; a prediction "unknown"
is contradicted by nothing.

Why it matters
--------------
A connection fails that should work, or one works that should not. What decides it is not in
the dumps: a process that does not listen, a firewall between the nodes, a rule that is newer.

Example
-------
  NK512 error  sent 192.168.10.9 to 10.96.0.10 port 53: verdict: predicted delivered, observed
               timeout
     probe.jsonl:1

What to do
----------
It is an error where the packet failed, and a warning where it got through against the
prediction. `netk8s probe --sniff` at the nodes on the way shows how far the packet comes, and
`netk8s verify` what the node's own rules do with it. Where both agree with the prediction, look
behind the last hop: the process, its NetworkPolicy, the network between the nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._observed import differing
from netk8s.model import Finding, Trace, World

CODE = "NK512"
SEVERITY = "error"
SUMMARY = "What came of a packet that was sent is not what was predicted."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for summary, evidence in differing(world, trace, "verdict"):
        worked = "observed connected" in summary
        yield Finding(
            CODE,
            "warning" if worked else SEVERITY,
            summary,
            evidence,
            "Follow the packet with `netk8s probe --sniff` at the hops and `netk8s verify` on the nodes on its way.",
        )
