"""flannel: vxlan, host-gw and wireguard backends, and the rules of its masquerade.

flannel-io/flannel 0.20 to 0.28: pkg/trafficmngr/iptables and nftables, pkg/backend. Up to 0.20 its rules stood in
POSTROUTING itself and carry the comment "flanneld masq".
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "flannel"
SIGNS = _signs.Signs(
    chains=r"FLANNEL-(FWD|POSTRTG)",
    links=r"flannel(-v6)?\.\d+|flannel-wg(-v6)?|flannel\d+",
    tables=r"flannel-ipv[46]",
    comments=r"^flanneld (masq|forward)",
)
WORDS: _signs.Words = (
    (r" (jump|goto) FLANNEL-POSTRTG ", "flannel: pod masquerade"),
    (r" (jump|goto) FLANNEL-FWD ", "flannel: forwarding of pod traffic"),
    (r"^(FLANNEL-POSTRTG|postrtg) return", "flannel leaves the source as it is"),
    (r"^POSTROUTING return .*#.*flanneld masq", "flannel leaves the source as it is"),
    (r"^(FLANNEL-POSTRTG|postrtg) masquerade", "flannel: leaves the pod network, or comes into it from outside"),
    (r"^POSTROUTING masquerade .*#.*flanneld masq", "flannel: leaves the pod network, or comes into it from outside"),
    (r"^FLANNEL-FWD accept", "flannel: traffic of the pod network is forwarded"),
    (r"^FORWARD accept .*#.*flanneld forward", "flannel: traffic of the pod network is forwarded"),
)
NFT_WORDS: _signs.Words = (*WORDS, (r"^forward accept", "flannel: traffic of the pod network is forwarded"))

DEVICES: _signs.Words = (
    (r"flannel(-v6)?\.\d+", "flannel: vxlan to the pods of other nodes"),
    (r"flannel-wg(-v6)?", "flannel: wireguard to the pods of other nodes"),
    (r"flannel\d+", "flannel: its udp tunnel to the pods of other nodes"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its tunnel devices, its chains or its tables. It enforces no NetworkPolicies."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS)


owns = SIGNS.owns


def means(step: Step) -> str:
    """What a step is for in flannel's words, "" when the rule is not flannel's."""
    if step.nft is not None:
        return _signs.worded(step, NFT_WORDS) if owns(step.table) else ""
    return _signs.worded(step, WORDS)
