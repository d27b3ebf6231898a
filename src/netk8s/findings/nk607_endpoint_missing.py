"""A node's rules lack an endpoint that the API has.

What it sees
------------
A Service's address whose rules on a node (iptables, IPVS or nftables) do not have an endpoint
that kube-proxy of that node should use: ready, chosen by traffic policy and topology hints as
kube-proxy chooses. Where the rules have none at all it is an error.

Why it matters
--------------
The endpoint gets no connections through this node, and the others get more. Where it is the only
one, connections are refused or dropped although a pod is ready.

Example
-------
  NK607 warning  worker-2 does not know 10.244.1.66:80 of default/web (ClusterIP
               10.96.0.9:80)

What to do
----------
See whether kube-proxy runs on that node, reaches the API and what it logs. A restart writes all
rules anew and does not break established connections. Where only some Services are behind,
kube-proxy may be in the middle of a sync: take the dumps again, those of nodes and of the API at
one time.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import MISSING, Drift
from netk8s.findings._drifting import ends, evidence, restart
from netk8s.model import Finding

CODE = "NK607"
SEVERITY = "warning"
SUMMARY = "The rules of a node lack an endpoint of the EndpointSlices."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(MISSING):
        severity = "error" if each.what == "all" else SEVERITY
        none = ", and has no other" if each.what == "all" else ""
        resting = (
            {(end.ip, end.port or 0) for end in each.row.backends if end.weight == 0} if each.row is not None else set()
        )
        lacks, how = "does not know", ""
        if resting.issuperset(each.ends):
            lacks, how = "has", " at weight 0, which takes nothing new"
        yield Finding(
            CODE,
            severity,
            f"{each.node} {lacks} {ends(each)} of {each.service} ({each.dialled}){how}{none}",
            evidence(each),
            restart(each.node),
        )
