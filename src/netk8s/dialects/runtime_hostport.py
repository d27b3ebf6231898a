"""hostPorts by the container runtime itself: CRI-O's own manager, and kubelet's in the days of kubenet and dockershim.

cri-o/cri-o internal/hostport (hostport_manager.go); kubernetes up to 1.23 pkg/kubelet/dockershim/network/hostport. A port
of a pod has a chain KUBE-HP-<hash>, which marks with kube-proxy's KUBE-MARK-MASQ what the pod sends to itself.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "hostPorts of the container runtime"
SIGNS = _signs.Signs(
    chains=r"KUBE-HOSTPORTS|KUBE-HP-[A-Z2-7]{16}|CRIO-(HOSTPORTS-MASQ|MASQ)-?[A-Z2-7]*",
    tables=r"crio",
    comments=r"^kube hostport portals",
)
WORDS: _signs.Words = (
    (r" (jump|goto) KUBE-HOSTPORTS ", "hostPort lookup"),
    (r" (jump|goto) KUBE-HP-", "hostPort of one pod"),
    (r"^KUBE-HP-\S+ (jump|goto) KUBE-MARK-MASQ ", "hostPort: the pod dials itself, mark for masquerade"),
    (r"^KUBE-HP-\S+ dnat", "hostPort: the pod is the new destination"),
    (r" (jump|goto) CRIO-", "masquerade of hostPorts"),
    (r"^CRIO-\S+ masquerade", "hostPort, dialled by the pod itself: masquerade"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its chains and by the comment of its jump."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS)


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in the runtime's words, "" when the rule is not its own."""
    return _signs.worded(step, WORDS)
