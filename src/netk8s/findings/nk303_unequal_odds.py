"""The rules of a node give endpoints of one Service unequal odds.

What it sees
------------
A chain whose `-m statistic --mode random` rules do not spread connections evenly. kube-proxy
gives rule i of n the probability 1/(n-i) of what is left, so all endpoints have the same odds;
it compares the odds that the rules really come to. The rounding of old versions (five digits)
is no reason to fire.

Why it matters
--------------
One endpoint gets more than its share, and no object of the cluster says so. The rules were
edited by hand, written by another tool, or only half of a change was written.

Example
-------
  NK303 warning  the rules of worker-1 give 10.244.1.5:80 odds of 50 % and 10.244.2.5:80 odds
                 of 25 %, though KUBE-SVC-… should spread evenly
     worker-1.iptables-save:103, :105

What to do
----------
Restart kube-proxy on the node, which writes the chain anew; established connections stay. If a
tool weighs endpoints on purpose, this is how it does it, and nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from netk8s.findings._reading import address, live, places, proven, steps, target
from netk8s.model import Finding, Step, Trace, Way, World

CODE = "NK303"
SEVERITY = "warning"
SUMMARY = "The rules of a node give endpoints of one Service unequal odds."

TOLERANCE = Fraction(1, 1000)
"""kube-proxy up to 1.16 wrote five digits: 0.33333 for a third is off by a hundred thousandth."""


def check(world: World, trace: Trace) -> Iterator[Finding]:
    del world
    # Ways that answer an open question otherwise are counted apart: their odds are those of another case.
    cases: dict[object, dict[tuple[str, str], dict[str, tuple[Fraction, Step, Way]]]] = {}
    for way in live(trace):
        found = _chosen(way)
        if found is None:
            continue
        node, step = found
        case = cases.setdefault(tuple(c for c in way.choices if c.question.default is None), {})
        endpoints = case.setdefault((node, step.chain), {})
        name = target(step.detail)
        odds = endpoints[name][0] if name in endpoints else Fraction(0)
        endpoints[name] = (odds + way.odds, step, way)
    for case in cases.values():
        for (node, chain), endpoints in case.items():
            low = min(endpoints.values(), key=lambda e: e[0])
            high = max(endpoints.values(), key=lambda e: e[0])
            if high[0] - low[0] <= TOLERANCE * high[0]:
                continue
            yield Finding(
                CODE,
                SEVERITY,
                f"the rules of {node} give {_where(high[2])} odds of {float(high[0]):.3g} and {_where(low[2])} odds of "
                f"{float(low[0]):.3g}, though {chain} should spread evenly",
                places(high[1], low[1]),
                "Restart kube-proxy on the node, which writes the chain anew and keeps established connections; "
                "unless a tool weighs the endpoints on purpose.",
                proven([high[2], low[2]]),
            )


def _chosen(way: Way) -> tuple[str, Step] | None:
    """(node, step) of the first choice of an endpoint by kube-proxy's rules."""
    for hop, step in steps(way):
        if target(step.detail).startswith("KUBE-SEP-"):
            return hop.node, step
    return None


def _where(way: Way) -> str:
    return address(way.packet.dst, way.packet.dport)
