"""A chain in use whose hash no Service port has.

What it sees
------------
A chain KUBE-SVC-, KUBE-SVL-, KUBE-EXT-, KUBE-FW- or KUBE-XLB- that a rule leads to and whose 16
letters are the hash of no Service port of the API (namespace, name, port name, protocol), in the
form of any version.

Why it matters
--------------
The Service, or its port's name, was changed or deleted since the rules were written; or a tool
other than kube-proxy made the chain.

Example
-------
  NK614 warning  worker-2 uses KUBE-SVC-AAAAAAAAAAAAAAAA, the hash of no Service
               port

What to do
----------
See whether kube-proxy runs on that node, reaches the API and what it logs. A restart writes all
rules anew and does not break established connections. Where only some Services are behind,
kube-proxy may be in the middle of a sync: take the dumps again, those of nodes and of the API at
one time.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import HASH, Difference, Drift
from netk8s.findings._drifting import restart
from netk8s.findings._reading import named, places
from netk8s.model import Finding

CODE = "NK614"
SEVERITY = "warning"
SUMMARY = "A chain in use has the hash of no Service port."


def drift(found: Drift) -> Iterator[Finding]:
    by_node: dict[str, list[Difference]] = {}
    for each in found.of(HASH):
        by_node.setdefault(each.node, []).append(each)
    for node, chains in by_node.items():
        yield Finding(
            CODE,
            SEVERITY,
            f"{node} uses {named((each.what for each in chains), 'chains')}, whose hash no Service port has",
            places(*(at for each in chains for at in each.at)),
            restart(node),
        )
