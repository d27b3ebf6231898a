"""kindnet, the CNI plugin of kind clusters, with its masquerade agent.

kubernetes-sigs/kind images/kindnetd (chain KIND-MASQ-AGENT), sigs.k8s.io/kindnet (nftables tables kindnet-*). Newer ones
bring kube-network-policies, which decides in user space: its table queues packets to a process.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "kindnet"
SIGNS = _signs.Signs(
    chains=r"KIND-MASQ-AGENT", tables=r"kindnet-\S+|kube-network-policies", comments=r"^kind-masq-agent: "
)
WORDS: _signs.Words = (
    (r" (jump|goto) KIND-MASQ-AGENT ", "kindnet: pod masquerade"),
    (r"^KIND-MASQ-AGENT return", "kindnet leaves the source as it is"),
    (r"^KIND-MASQ-AGENT masquerade", "kindnet: leaves the pod network"),
)
NFT_WORDS: _signs.Words = (
    (r"^postrouting (return|accept)", "kindnet leaves the source as it is"),
    (r"^postrouting masquerade", "kindnet: leaves the pod network"),
    (r"^\S+ queue", "kindnet: network policies, decided by a process"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its chain or its tables; policies are enforced where a table queues packets to its process."""
    del cluster
    queues = any(t.name in ("kindnet-network-policies", "kube-network-policies") for t in node.nft)
    return _signs.recognised(NAME, node, SIGNS, "hidden" if queues else "")


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in kindnet's words, "" when the rule is not kindnet's."""
    if step.nft is not None:
        return _signs.worded(step, NFT_WORDS) if owns(step.table) else ""
    return _signs.worded(step, WORDS)
