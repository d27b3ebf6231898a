"""ip-masq-agent: which destinations pods reach under their own address.

kubernetes-sigs/ip-masq-agent 2.0 to 2.12: cmd/ip-masq-agent. GKE's own variants use the names IP-MASQ and GKE-MASQ-IP.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "ip-masq-agent"
SIGNS = _signs.Signs(chains=r"IP-MASQ(-AGENT)?", comments=r"^ip-masq-agent: ")
WORDS: _signs.Words = (
    (r" (jump|goto) IP-MASQ(-AGENT)? ", "ip-masq-agent: masquerade of what leaves for other hosts"),
    (r"^IP-MASQ(-AGENT)? return", "ip-masq-agent: a destination that is not masqueraded for"),
    (r"^IP-MASQ(-AGENT)? masquerade", "ip-masq-agent: any other destination sees the node's address"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its chain."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS)


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in the agent's words, "" when the rule is not its own."""
    return _signs.worded(step, WORDS)
