"""A packet that was really sent had other addresses than predicted.

What it sees
------------
An observation among the dumps (`netk8s probe`, `netk8s verify --write`) of the packet that was
asked for, where the endpoint that answered, the source address it saw, or the device and source
the packet left the node by are in none of the predicted ways.

Why it matters
--------------
Who answers and whom it sees is what netk8s is asked for. Either the node is no longer as it was
when the dumps were taken, or something translates the packet that no dump shows, or netk8s is
wrong.

Example
-------
  NK510 warning  sent 192.168.10.9 to 10.96.0.10 port 53: source seen: predicted 10.244.1.1,
               observed 192.168.10.21
     probe.jsonl:1

What to do
----------
Take new dumps and compare again: rules change whenever kube-proxy writes them. If it still
differs, `netk8s verify` on the node shows the rule at which the paths part. What differs with
nothing changed in between is a bug of netk8s; please report it with dumps and observation.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._observed import differing
from netk8s.model import Finding, Trace, World

CODE = "NK510"
SEVERITY = "warning"
SUMMARY = "A packet that was sent had other addresses than predicted."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for summary, evidence in differing(world, trace, "source"):
        yield Finding(
            CODE,
            SEVERITY,
            summary,
            evidence,
            "Take new dumps and compare again; `netk8s verify` on the node shows the rule at which the paths part.",
        )
