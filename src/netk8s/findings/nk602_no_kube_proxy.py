"""A node has no rules of kube-proxy, or none that packets come to.

What it sees
------------
A node whose dumps have nothing that translates any Service's address, while the API has Services.
Where dumps of nftables or IPVS are missing it is a warning, for kube-proxy might work in that
mode. Or kube-proxy's chains are there, and KUBE-SERVICES is empty or PREROUTING or OUTPUT does not
lead to it. Nodes whose Services a component serves by eBPF are not meant.

Why it matters
--------------
No Service works from this node or through it.

Example
-------
  NK602 error  worker-2 has no rules for any of 40 Service addresses: kube-proxy
               has never run there, or its rules were removed

What to do
----------
See whether the kube-proxy pod is scheduled on the node and runs (taints, images, its log). Where
chains are empty or not led to, a restart of kube-proxy writes them anew; then find what flushed
them: a firewall that reloads its own rules (`iptables -F`, `iptables-restore` without --noflush)
takes kube-proxy's along. If another component serves Services there, this finding is wrong: say
which in an issue.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import NO_PROXY, UNENTERED, Drift
from netk8s.findings._drifting import evidence
from netk8s.model import Finding

CODE = "NK602"
SEVERITY = "error"
SUMMARY = "A node has no rules of kube-proxy, or none that packets come to."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(NO_PROXY):
        yield Finding(
            CODE,
            SEVERITY if each.proven else "warning",
            f"{each.node} has {each.what} Service addresses: kube-proxy does not run there, or what it wrote was removed",
            evidence(each),
            "See whether kube-proxy is scheduled on the node and runs (taints, image, log).",
            each.proven,
        )
    for each in found.of(UNENTERED):
        yield Finding(
            CODE,
            SEVERITY,
            f"no packet for a Service comes to the rules that {each.node} has: {each.what}",
            evidence(each),
            f"Restart kube-proxy on {each.node}, which writes its chains anew; then find what flushed them: a firewall that "
            "reloads its rules (iptables -F, iptables-restore without --noflush) takes kube-proxy's along.",
            each.proven,
        )
