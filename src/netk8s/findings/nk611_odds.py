"""A node's rules do not spread connections evenly.

What it sees
------------
The rules of one Service port on a node with `statistic` probabilities (numgen in nftables,
weights in IPVS) that give its endpoints different shares. kube-proxy always gives equal ones; the
rounding of its versions up to 1.16 is not meant. Odds are computed as the kernel draws: rule
after rule.

Why it matters
--------------
Some endpoints get more connections than others. kube-proxy does not write that, so a rule was
added, deleted or moved by hand or by another program, or a sync ended halfway.

Example
-------
  NK611 warning  worker-2 gives 10.244.1.6:80 another share than the other
               endpoints of default/web (ClusterIP 10.96.0.9:80)

What to do
----------
Find out who writes to kube-proxy's chains. A restart of kube-proxy writes them anew. To prefer
endpoints use topology hints (trafficDistribution), to weigh them a mesh or an ingress.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import ODDS, Drift
from netk8s.findings._drifting import ends, evidence
from netk8s.model import Finding

CODE = "NK611"
SEVERITY = "warning"
SUMMARY = "The rules of a node give the endpoints of a Service port different shares."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(ODDS):
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.node} gives {ends(each)} another share than kube-proxy does ({each.dialled} of {each.service})",
            evidence(each),
            "Find out who writes to kube-proxy's chains besides it; a restart of kube-proxy writes them anew.",
        )
