"""A node's rules send connections to what is no endpoint.

What it sees
------------
A Service's address whose rules on a node have an endpoint that kube-proxy of that node should not
use: no EndpointSlice has it, or it is not ready, or traffic policy or hints leave it out. A
server of IPVS with weight 0 is not meant: it only lets its connections end. Where conntrack is in
the dump, tracked connections to it are counted.

Why it matters
--------------
A share of the connections goes to an address that nobody has, or that by now belongs to someone
else.

Example
-------
  NK605 error  worker-2 sends ClusterIP 10.96.0.9:80 to 10.244.1.6:80, which is no
               endpoint of default/web; 2 tracked connections still go there

What to do
----------
See whether kube-proxy runs on that node, reaches the API and what it logs. A restart writes all
rules anew and does not break established connections. Where only some Services are behind,
kube-proxy may be in the middle of a sync: take the dumps again, those of nodes and of the API at
one time. Tracked UDP connections go on to the old endpoint until they end or are deleted:
conntrack -D --orig-dst ADDRESS --dst-nat OLD, on the node.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import STALE, Difference, Drift
from netk8s.findings._drifting import ends, evidence, restart, still
from netk8s.model import Finding

CODE = "NK605"
SEVERITY = "error"
SUMMARY = "The rules of a node have an endpoint that the API does not want."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(STALE):
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.node} sends {each.dialled} to {ends(each)}, {_why(each)} of {each.service}{still(each)}",
            evidence(each),
            restart(each.node),
        )


def _why(each: Difference) -> str:
    """What is wrong with the endpoints: not there at all, or there and not to be used."""
    known = {(e.ip, e.port) for e in each.wanted.known} if each.wanted is not None else set()
    if not known.issuperset(each.ends):
        return "no endpoint"
    return "no endpoint to be used (not ready, or not of this node or zone)"
