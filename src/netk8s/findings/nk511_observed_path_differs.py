"""The kernel took a packet through other rules than predicted.

What it sees
------------
An observation among the dumps of the packet that was asked for, with a kernel's own trace of
it (`netk8s verify --write`), in which other rules matched, or the same in another order, than
on any of the predicted ways.

Why it matters
--------------
The outcome may be the same by luck: another endpoint, another packet, and it is not. A rule
that was inserted or removed since the dumps were taken is the usual reason.

Example
-------
  NK511 warning  on worker-1 the paths part behind nat -A PREROUTING -j KUBE-SERVICES: predicted
               nat -A KUBE-SERVICES … -j KUBE-SVC-…, observed nat -A KUBE-SERVICES … -j RETURN
     probe.jsonl:1, worker-1/iptables-save.txt:84

What to do
----------
Look at the rule that was observed and not predicted: who wrote it? If it is in no dump, the
dumps are older than it. If it is in them and was passed over, that is a bug of netk8s; please
report it with dumps and observation.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._observed import differing
from netk8s.model import Finding, Trace, World

CODE = "NK511"
SEVERITY = "warning"
SUMMARY = "The kernel took a packet through other rules than predicted."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for summary, evidence in differing(world, trace, "path"):
        yield Finding(
            CODE,
            SEVERITY,
            summary,
            evidence,
            "Look at the first rule that differs and at who wrote it; then take new dumps and compare again.",
        )
