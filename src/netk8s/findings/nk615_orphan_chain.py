"""A chain of a Service or endpoint that no rule leads to.

What it sees
------------
A chain KUBE-SVC-, KUBE-SVL-, KUBE-EXT-, KUBE-FW-, KUBE-XLB- or KUBE-SEP- in a nat table that is
the target of no rule.

Why it matters
--------------
No packet comes there, so nothing is broken by it. kube-proxy removes such chains; with more than
1000 endpoints it does so only once in a while. Chains that stay for long are left over from an
older layout or another tool, or someone deleted the rule that led there.

Example
-------
  NK615 info  worker-2 has 3 chains that no rule leads to:
               KUBE-SVC-2CMXP7HKUVJN7L6M and 2 more

What to do
----------
Nothing, if there are few and they go away. Else see whether kube-proxy's syncs succeed (its log,
the metric kubeproxy_sync_proxy_rules_iptables_restore_failures_total).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import ORPHAN, Difference, Drift
from netk8s.findings._reading import places
from netk8s.model import Finding

CODE = "NK615"
SEVERITY = "info"
SUMMARY = "A chain of a Service or endpoint is the target of no rule."


def drift(found: Drift) -> Iterator[Finding]:
    by_node: dict[str, list[Difference]] = {}
    for each in found.of(ORPHAN):
        by_node.setdefault(each.node, []).append(each)
    for node, chains in by_node.items():
        more = f" and {len(chains) - 1} more" if len(chains) > 1 else ""
        many = "chains" if len(chains) > 1 else "a chain"
        yield Finding(
            CODE,
            SEVERITY,
            f"{node} has {many} that no rule leads to: {chains[0].what}{more}",
            places(*(at for each in chains for at in each.at)),
            "Nothing, if they go away: kube-proxy removes them in time. Else see whether its syncs succeed.",
        )
