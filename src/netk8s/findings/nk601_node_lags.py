"""A node lags behind the API, and another one does not.

What it sees
------------
A node on which endpoints or addresses of several Services are not those of the API, while another
node of the snapshot has these Services as they should be.

Why it matters
--------------
It is not the API, nor a moment's delay of everything: kube-proxy of this node is stopped, hangs,
cannot reach the API or fails to write its rules. All that is wrong with those Services on this
node comes from it.

Example
-------
  NK601 error  worker-2 is behind the API in 2 Services (default/a, default/b);
               worker-1 is up to date

What to do
----------
See whether kube-proxy runs on that node, reaches the API and what it logs. A restart writes all
rules anew and does not break established connections. Where only some Services are behind,
kube-proxy may be in the middle of a sync: take the dumps again, those of nodes and of the API at
one time.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import LAG, Drift
from netk8s.findings._drifting import restart
from netk8s.findings._reading import places, several
from netk8s.model import Finding

CODE = "NK601"
SEVERITY = "error"
SUMMARY = "A node's rules are older than the API's objects, those of another node are not."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(LAG):
        services = each.service.split(", ")
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.node} is behind the API in {len(services)} Service ports ({several(services)}); {each.what} is not",
            places(*each.at),
            restart(each.node),
        )
