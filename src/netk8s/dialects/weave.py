"""Weave Net: its bridge, its masquerade and its network policy controller.

weaveworks/weave: npc/ (chains WEAVE-NPC*, ipsets weave-*), net/ (chain WEAVE). Its policy chains do not name policies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Policed, Recognised, Step

NAME = "weave"
SIGNS = _signs.Signs(
    chains=r"WEAVE(-NPC(-(DEFAULT|INGRESS|EGRESS|EGRESS-DEFAULT|EGRESS-CUSTOM|EGRESS-ACCEPT))?|-CANARY|-EXPOSE|-IPSEC-\S+)?",
    links=r"weave|vethwe-(bridge|datapath|pcap)|vethwepl[0-9a-f]+|vxlan-6784",
    sets=r"weave-.{10,}|weaver-no-masq-local",
)
WORDS: _signs.Words = (
    (r" (jump|goto) WEAVE ", "weave: pod masquerade"),
    (r"^WEAVE return", "weave leaves the source as it is"),
    (r"^WEAVE masquerade", "weave: leaves the pod network, or comes into it from outside"),
    (r" (jump|goto) WEAVE-NPC ", "weave: network policies of the receiving pod"),
    (r" (jump|goto) WEAVE-NPC-EGRESS ", "weave: network policies of the sending pod"),
    (r" (jump|goto) WEAVE-NPC-DEFAULT ", "weave: pods that no policy selects"),
    (r" (jump|goto) WEAVE-NPC-INGRESS ", "weave: what policies admit"),
    (r"^WEAVE-NPC-DEFAULT accept", "weave: no policy selects the pod"),
    (r"^WEAVE-NPC-INGRESS accept", "weave: a policy admits it"),
    (r"^WEAVE-NPC-EGRESS-(DEFAULT|CUSTOM|ACCEPT) ", "weave: what may leave the pod"),
)

DEVICES: _signs.Words = ((r"weave", "weave: the network of all pods, on every node"),)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its bridge, its chains and its ipsets."""
    del cluster
    npc = any(r.target is not None and r.target.name.startswith("WEAVE-NPC") for _, r in _signs.hooked(node))
    return _signs.recognised(NAME, node, SIGNS, "rules" if npc else "")


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in weave's words, "" when the rule is not weave's."""
    return _signs.worded(step, WORDS)


def policed(node: Node, cluster: Cluster, steps: Sequence[Step]) -> Iterator[tuple[int, Policed]]:
    """What weave's policy controller said: a packet that comes back from its chains unaccepted is dropped next."""
    del node, cluster
    asked = ""
    for i, step in enumerate(steps):
        what = _signs.did(step)
        if what is None or step.table != "filter":
            continue
        if what.to in ("WEAVE-NPC", "WEAVE-NPC-EGRESS"):
            asked = "ingress" if what.to == "WEAVE-NPC" else "egress"
        elif asked and what.chain in ("FORWARD", "WEAVE-NPC", "WEAVE-NPC-EGRESS") and what.verb in ("drop", "reject"):
            yield i, Policed(NAME, (), asked, False)
        elif what.chain == "WEAVE-NPC-INGRESS" and what.verb == "accept":
            yield i, Policed(NAME, (), "ingress", True)
