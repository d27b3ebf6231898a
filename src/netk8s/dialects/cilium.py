"""Cilium: its programs decide before and beside netfilter, so a node's rules do not tell a packet's way.

cilium/cilium: pkg/datapath/iptables (chains CILIUM_*), pkg/defaults (links). Services, policies, masquerade and the way
to pods are in BPF maps and programs at the devices; in connect() a Service is translated before there is a packet.
"""

from __future__ import annotations

from netk8s.dialects import _signs
from netk8s.model import Cluster, Node, Recognised, Step

NAME = "cilium"
SIGNS = _signs.Signs(
    chains=r"(OLD_)?CILIUM_[A-Za-z_]+",
    links=r"cilium_(host|net|vxlan|geneve|ipip[46]|wg0)|lxc_health|lxc[0-9a-f]{6,}",
    comments=r"^cilium-feeder: ",
)
DATAPATH = r"cilium_(host|net)"
WORDS: _signs.Words = (
    (r" (jump|goto) CILIUM_", "cilium's own rules"),
    (r"^CILIUM_POST_nat (masquerade|snat)", "cilium: pod masquerade"),
    (r"^CILIUM_\S+ (mark|ct|notrack|tproxy)", "cilium: for its proxy"),
    (r"^CILIUM_", "cilium's own rules"),
)


def recognise(node: Node, cluster: Cluster) -> Recognised | None:
    """Known by its devices, or by the chains that it feeds packets to."""
    del cluster
    return _signs.recognised(NAME, node, SIGNS, "hidden")


owns = SIGNS.owns


def opaque(node: Node, cluster: Cluster) -> str:
    """Why nothing can be said of packets through a node whose datapath is cilium's, "" for another node.

    Chains that were left behind when cilium went are no datapath: where the links are known, its devices decide.
    """
    covered = "link" in node.covered
    signs = _signs.found(node, _signs.Signs(links=DATAPATH) if covered else SIGNS)
    if not signs:
        return ""
    by = f"{signs[0].what}, {signs[0].at}"
    return f"cilium's BPF programs are this node's datapath ({by}), {_kube_proxy(node, cluster)}"


def _kube_proxy(node: Node, cluster: Cluster) -> str:
    """What is to be thought of kube-proxy's rules beside cilium."""
    rest = "see `cilium-dbg service list` and `cilium-dbg policy get` there"
    rules = next((r for _, r in _signs.hooked(node) if r.target is not None and r.target.name == "KUBE-SERVICES"), None)
    native = next((t for t in node.nft if t.name == "kube-proxy"), None)
    if rules is None and native is None:
        return f"which no dump of rules shows; {rest}"
    at = rules.at if rules is not None else native.at if native is not None else None
    running = [
        p
        for p in cluster.pods
        if p.node == node.name and ("k8s-app", "kube-proxy") in p.labels and p.phase == "Running"
    ]
    if running:
        return (
            f"with kube-proxy beside it ({running[0].namespace}/{running[0].name}): which packets get as far as "
            f"kube-proxy's rules ({at}) no dump shows; {rest}"
        )
    return f"kube-proxy's rules ({at}) are not: they are left over, or serve what cilium leaves to them; {rest}"


def means(step: Step) -> str:
    """What a step is for in cilium's words, "" when the rule is not cilium's."""
    return _signs.worded(step, WORDS)
