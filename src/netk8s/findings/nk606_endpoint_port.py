"""A node's rules have an endpoint on another port than the API.

What it sees
------------
A Service's address whose rules on a node translate to the right pod but to another port than the
EndpointSlice has.

Why it matters
--------------
Nobody listens there, so connections are refused; or something else answers. It comes from rules
older than a change of targetPort or of a named container port, or from hand-written
EndpointSlices.

Example
-------
  NK606 error  worker-2 sends ClusterIP 10.96.0.9:80 to 10.244.1.6:8081; the
               endpoint's port of default/web is 8080

What to do
----------
See whether kube-proxy runs on that node, reaches the API and what it logs. A restart writes all
rules anew and does not break established connections. Where only some Services are behind,
kube-proxy may be in the middle of a sync: take the dumps again, those of nodes and of the API at
one time. If the rules are newer than the change, compare targetPort, the container's port name
and the EndpointSlice.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import PORT, Drift
from netk8s.findings._drifting import ends, evidence, restart, still
from netk8s.model import Finding

CODE = "NK606"
SEVERITY = "error"
SUMMARY = "The rules of a node have another port for an endpoint than the EndpointSlices."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(PORT):
        known = each.wanted.known if each.wanted is not None else ()
        ports = dict.fromkeys(str(e.port) for e in known if any(e.ip == ip for ip, _ in each.ends))
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.node} sends {each.dialled} to {ends(each)}; the port there of {each.service} is "
            f"{' or '.join(ports)}{still(each)}",
            evidence(each),
            restart(each.node),
        )
