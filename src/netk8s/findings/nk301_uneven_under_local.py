"""externalTrafficPolicy is Local and the nodes have different numbers of endpoints.

What it sees
------------
A Service with externalTrafficPolicy: Local, dialled from outside, whose endpoints are spread
unevenly: some node has more of them than another. It counts usable endpoints by node in the
cluster's objects. Unproven, for what spreads clients over nodes is in no dump.

Why it matters
--------------
Under Local a node gives connections to its own endpoints only. A load balancer that treats
nodes alike gives every node the same share, so an endpoint that shares its node with others
gets less than one that has a node to itself.

Example
-------
  NK301 warning  endpoints of default/shop get uneven shares, for its externalTrafficPolicy is
                 Local: if nodes are treated alike, one on worker-1 (2 endpoints) gets 25 %,
                 one on worker-2 (1 endpoint) 50 %

What to do
----------
Spread the pods evenly: topologySpreadConstraints by kubernetes.io/hostname, or a DaemonSet,
which costs freedom of scheduling. Some load balancers weigh nodes by the
X-Load-Balancing-Endpoint-Weight header of the health check. externalTrafficPolicy: Cluster
spreads evenly over endpoints and costs the client's address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from netk8s.findings._reading import EVIDENCE, endpoints, places, service_port, usable
from netk8s.model import Finding, Trace, World

CODE = "NK301"
SEVERITY = "warning"
SUMMARY = "Under externalTrafficPolicy Local, nodes with few endpoints load each of them more."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    if (
        port is None
        or port.external_policy != "Local"
        or trace.flow.origin != "outside"
        or trace.flow.kind == "clusterip"
    ):
        return
    found = usable(endpoints(world, port, trace.flow.packet.family))
    counts = Counter(e.node for e in found if e.node is not None)
    if len(set(counts.values())) < 2:
        return
    most, fewest = max(counts, key=lambda n: counts[n]), min(counts, key=lambda n: counts[n])
    shares = []
    for name in (most, fewest):
        n = counts[name]
        shares.append(f"one on {name} ({n} endpoint{'s' if n > 1 else ''}) gets {100 / len(counts) / n:.3g} %")
    yield Finding(
        CODE,
        SEVERITY,
        f"endpoints of {port.namespace}/{port.service} get uneven shares, for its externalTrafficPolicy is Local: "
        f"if the {len(counts)} nodes that have any are treated alike, {', '.join(shares)}",
        places(
            f"service {port.namespace}/{port.service} ({port.at})" if port.at.origin else None,
            *(e.at for e in found[:EVIDENCE]),
        ),
        "Spread the pods evenly over nodes (topologySpreadConstraints by kubernetes.io/hostname, or a DaemonSet), "
        "or use a load balancer that weighs nodes by their endpoints. externalTrafficPolicy: Cluster spreads "
        "evenly and costs the client's address.",
        proven=False,
    )
