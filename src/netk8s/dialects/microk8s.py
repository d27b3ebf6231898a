"""microk8s: kubelet and kube-proxy in one daemon of a snap, calico or flannel as its network.

canonical/microk8s: its rules in FORWARD accept the pod network and carry a comment.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "microk8s"
SIGNS = _signs.Signs(comments=r"^generated for MicroK8s pods")
WORDS: _signs.Words = ((r" accept .*#.*generated for MicroK8s pods", "microk8s: pod traffic is forwarded"),)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its rules in FORWARD."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS)


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for, "" when the rule is not microk8s' own."""
    return _signs.worded(step, WORDS)
