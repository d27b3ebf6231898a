"""The reference CNI plugins: bridge and ptp with ipMasq, and portmap, which serves hostPorts.

containernetworking/plugins 0.6 to 1.9: plugins/meta/portmap, pkg/ip/ipmasq_*.go, pkg/utils/utils.go. A chain of a
container is named after a hash of network and container: all pods have one of their own.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "CNI plugins (bridge, portmap)"
SIGNS = _signs.Signs(
    chains=r"CNI-HOSTPORT-(DNAT|SNAT|MASQ|SETMARK)|CNI-(DN|SN)-[0-9a-f]{21}|CNI-[0-9a-f]{24}|CNI-(FORWARD|ADMIN)",
    tables=r"cni_hostport|cni_plugins_masquerade",
)
WORDS: _signs.Words = (
    (r"^CNI-(DN|SN)-\S+ dnat", "hostPort: the pod is the new destination"),
    (r"^CNI-HOSTPORT-SETMARK mark", "hostPort: marked for masquerade"),
    (r"^CNI-HOSTPORT-MASQ masquerade|^CNI-(HOSTPORT-SNAT|SN-\S+) masquerade", "masquerade what hostPort marked"),
    (r" (jump|goto) CNI-HOSTPORT-(DNAT|SNAT) ", "hostPort lookup"),
    (r" (jump|goto) CNI-HOSTPORT-SETMARK ", "hostPort, dialled by its own node or its pods: mark for masquerade"),
    (r" (jump|goto) CNI-HOSTPORT-MASQ ", "masquerade what hostPort marked"),
    (r" (jump|goto) CNI-(DN|SN)-", "hostPort of one pod"),
    (r"^CNI-[0-9a-f]{24} accept", "ipMasq: to the pod's own subnet, the source stays"),
    (r"^CNI-[0-9a-f]{24} masquerade", "ipMasq: the pod leaves its subnet under the node's address"),
    (r" (jump|goto) CNI-[0-9a-f]{24} ", "ipMasq of one pod"),
    (r" (jump|goto) CNI-FORWARD ", "firewall plugin: what it lets through of pods"),
    (r"^CNI-FORWARD accept", "firewall plugin: traffic of a pod"),
)
NFT_WORDS: _signs.Words = (
    (r" (jump|goto) (hostports_all|hostip_hostports|hostports) ", "hostPort lookup"),
    (r"^\S+ dnat", "hostPort: the pod is the new destination"),
    (r"^masquerading masquerade", "hostPort, dialled by its own node or the pod itself: masquerade"),
    (r" (jump|goto) masq_checks ", "ipMasq of the pods"),
    (r"^masq_checks masquerade", "ipMasq: the pod leaves its subnet under the node's address"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by the chains that hooks lead to, or by the nftables tables of the plugins' newer backend."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS)


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in the plugins' words, "" when the rule is not theirs."""
    return _signs.worded(step, NFT_WORDS if step.nft is not None and owns(step.table) else WORDS)
