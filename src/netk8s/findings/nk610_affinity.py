"""A node's session affinity is not the Service's.

What it sees
------------
A Service's address whose rules on a node keep clients at their endpoint (recent in iptables, a
set in nftables, persistence in IPVS) though the Service has sessionAffinity None, or do not
though it has ClientIP, or do for another time than timeoutSeconds.

Why it matters
--------------
Clients are spread where they should stay, or stay where they should be spread.

Example
-------
  NK610 warning  worker-2 keeps clients of default/web (ClusterIP 10.96.0.9:80)
               for 10800 s; the Service asks for 600 s

What to do
----------
See whether kube-proxy runs on that node, reaches the API and what it logs. A restart writes all
rules anew and does not break established connections. Where only some Services are behind,
kube-proxy may be in the middle of a sync: take the dumps again, those of nodes and of the API at
one time.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import AFFINITY, Drift
from netk8s.findings._drifting import evidence, restart
from netk8s.model import Finding

CODE = "NK610"
SEVERITY = "warning"
SUMMARY = "The rules of a node have another session affinity than the Service."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(AFFINITY):
        asked, _, has = each.what.partition(", ")
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.node} has session affinity for {each.dialled} of {each.service}: {has}; the Service asks for: {asked}",
            evidence(each),
            restart(each.node),
        )
