"""A node has rules for an address that no Service has.

What it sees
------------
A ClusterIP, NodePort, load balancer address or external IP that a node's rules translate or
refuse, and that no Service of the API has.

Why it matters
--------------
The Service or its address was deleted and the rules have stayed. Connections go on working or
failing by rules that nobody maintains, and the address may be given to another Service.

Example
-------
  NK608 warning  worker-2 has rules for NodePort 30080 (default/old), which no
               Service has

What to do
----------
See whether kube-proxy runs on that node, reaches the API and what it logs. A restart writes all
rules anew and does not break established connections. Where only some Services are behind,
kube-proxy may be in the middle of a sync: take the dumps again, those of nodes and of the API at
one time.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import UNKNOWN, Drift
from netk8s.findings._drifting import evidence, restart
from netk8s.model import Finding

CODE = "NK608"
SEVERITY = "warning"
SUMMARY = "A node has rules for an address that no Service has."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(UNKNOWN):
        whose = f" ({each.service})" if each.service else ""
        gone = "the Service has it no more" if each.what == "exists" else "no Service has it"
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.node} has rules for {each.dialled}{whose}, and {gone}",
            evidence(each),
            restart(each.node),
        )
