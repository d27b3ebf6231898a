"""Who had a packet marked for masquerade, and why: read off the rule that sent it to the marking chain."""

from __future__ import annotations

from msgspec import Struct

from netk8s.findings._reading import option, target
from netk8s.model import Hop, ServicePort, Step, Trace

MARKING = frozenset({"KUBE-MARK-MASQ", "CNI-HOSTPORT-SETMARK"})
"""Chains that mark a packet for a MASQUERADE rule further on: kube-proxy's, and the CNI portmap plugin's."""
MASQUERADING = frozenset({"KUBE-POSTROUTING", "CNI-HOSTPORT-MASQ", "masquerading"})
"""The chains that masquerade what is marked; the last one is of kube-proxy's nftables mode."""

POLICY, ALL, STRANGER, HAIRPIN, NODE, HOSTPORT, OTHER = (
    "policy", "masquerade-all", "stranger", "hairpin", "node", "hostport", "other",
)  # fmt: skip


class Marked(Struct, frozen=True):
    """A jump to a marking chain. ``done``: the mark was really set there."""

    step: Step
    reason: str
    done: bool


def marked(trace: Trace, port: ServicePort | None, hop: Hop, chain: str = "") -> Marked | None:
    """Why a hop marked the packet, by the first jump to a marking chain; None when none was taken."""
    if chain == "masquerading":
        return _marked_by_nftables(trace, hop)
    for i, step in enumerate(hop.steps):
        name = target(step.detail)
        if name in MARKING and (not chain or _pair(name) == chain):
            done = any(
                s.detail is not None and s.detail.chain == name and target(s.detail) == "MARK" for s in hop.steps[i:]
            )
            return Marked(step, _reason(trace, port, step), done)
    return None


def _marked_by_nftables(trace: Trace, hop: Hop) -> Marked | None:
    """The same in nftables mode: chains external-, service-, local-, endpoint- (1.29 to 1.36), and services (1.36)."""
    inside = trace.flow.origin == "node"
    for step in hop.steps:
        sets = step.action == "jump mark-for-masquerade" or any(name == "mark" for name, _ in step.changes)
        rule = step.rule or ""
        if not sets or step.table != "kube-proxy":
            continue
        if step.chain.startswith("external-"):
            return Marked(step, NODE if "saddr type local" in rule else POLICY, True)
        if step.chain.startswith("endpoint-"):
            return Marked(step, HAIRPIN, True)
        if step.chain == "services" or step.chain.startswith(("service-", "local-")):
            stranger = "saddr !=" in rule or "iifname !=" in rule
            return Marked(step, NODE if inside else STRANGER if stranger else ALL, True)
    return None


def _pair(marking: str) -> str:
    return "KUBE-POSTROUTING" if marking == "KUBE-MARK-MASQ" else "CNI-HOSTPORT-MASQ"


def _reason(trace: Trace, port: ServicePort | None, step: Step) -> str:
    """Chain and options of the jump tell the layouts of kube-proxy 1.9 to 1.36 apart."""
    rule = step.detail
    chain = rule.chain if rule is not None else step.chain
    if target(rule) == "CNI-HOSTPORT-SETMARK":
        return HOSTPORT
    if chain.startswith("KUBE-SEP-"):
        return HAIRPIN
    source, device, kind = option(rule, "-s"), option(rule, "-i"), option(rule, "--src-type")
    if kind is not None or (source is not None and not source.negated and source.values[0].startswith("127.")):
        return NODE
    inside = trace.flow.origin == "node"
    if (source is not None and source.negated) or (device is not None and device.negated):
        return NODE if inside else STRANGER
    sets = option(rule, "--match-set")
    if sets is not None and sets.values[0].endswith("CLUSTER-IP"):
        return NODE if inside else ALL  # IPVS mode: for all senders, or it would have been negated above
    if chain in ("KUBE-NODE-PORT", "KUBE-LOAD-BALANCER") or (sets is not None and "EXTERNAL-IP" in sets.values[0]):
        return POLICY
    if chain.startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-SERVICES")):
        if _is_cluster_ip(trace, port, step):
            return NODE if inside else ALL
        return POLICY
    if chain.startswith(("KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-", "KUBE-NODEPORTS")):
        return POLICY
    return OTHER


def _is_cluster_ip(trace: Trace, port: ServicePort | None, step: Step) -> bool:
    """Whether a mark rule of a Service's own chain is the one for its ClusterIP (up to 1.23 others stand beside it)."""
    rule = step.detail
    where = option(rule, "-d")
    if where is None:
        return False
    if rule is not None and rule.comment:
        return rule.comment.endswith("cluster IP")
    return port is None or trace.flow.packet.dst in port.cluster_ips
