"""NodeLocal DNSCache: DNS answered on the node itself, past conntrack and past kube-proxy.

kubernetes/dns: cmd/node-cache/app/cache_app.go. Its dummy device carries its address and mostly that of the DNS Service
too, so packets to the ClusterIP are delivered on the node; raw takes them out of conntrack, so no nat rule sees them.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "NodeLocal DNSCache"
SIGNS = _signs.Signs(links=r"nodelocaldns", comments=r"^NodeLocal DNS Cache: ")
WORDS: _signs.Words = (
    (r" (notrack|ct) .*#.*NodeLocal DNS Cache", "NodeLocal DNSCache: past conntrack and kube-proxy, the node answers"),
    (r" accept .*#.*NodeLocal DNS Cache", "NodeLocal DNSCache: DNS traffic of its own"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its device and by the comments of its rules."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS)


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in the cache's words, "" when the rule is not its own."""
    return _signs.worded(step, WORDS)
