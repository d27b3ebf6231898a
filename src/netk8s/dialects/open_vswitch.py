"""CNI plugins on Open vSwitch (OVN-Kubernetes, OpenShift SDN, Antrea, Kube-OVN): its flows decide, not the node's rules.

Links: ovn-kubernetes go-controller/pkg/types (ovn-k8s-mp0, br-int, genev_sys_6081), antrea-io/antrea pkg/agent/config
(antrea-gw0, antrea-tun0), kubeovn/kube-ovn (ovn0), openshift/sdn (tun0 on br0, vxlan_sys_4789).
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "Open vSwitch (OVN-Kubernetes, Antrea, Kube-OVN)"
SIGNS = _signs.Signs(
    chains=r"OVN-KUBE-[A-Z-]+|ANTREA-[A-Z-]+|OVN-(PREROUTING|POSTROUTING|MASQUERADE|NAT-[A-Z-]+)",
    links=r"ovs-system|ovn-k8s-mp\d+|antrea-gw0|antrea-tun0|ovn0|genev_sys_\d+|vxlan_sys_\d+",
    tables=r"ovn-kubernetes|antrea",
)
WORDS: _signs.Words = (
    (r" (jump|goto) (OVN-|ANTREA-)", "rules of the plugin that programs Open vSwitch"),
    (r"^(OVN-|ANTREA-)", "rules of the plugin that programs Open vSwitch"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by the devices of Open vSwitch and by the plugins' chains."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS, "hidden")


owns = SIGNS.owns


def opaque(node: Node, cluster: Cluster) -> str:
    """Why nothing can be said of packets through a node whose pods hang on Open vSwitch, "" for another node."""
    del cluster
    signs = _signs.found(node, _signs.Signs(links=SIGNS.links) if "link" in node.covered else SIGNS)
    if not signs:
        return ""
    return (
        f"Open vSwitch carries the pods' packets ({signs[0].what}, {signs[0].at}), and its flows are in no dump that "
        "netk8s reads; see `ovs-appctl ofproto/trace` there"
    )


def means(step: Step) -> str:
    """What a step is for, "" when the rule is not of such a plugin."""
    return _signs.worded(step, WORDS)
