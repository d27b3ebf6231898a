"""Which of kube-proxy's own rules, sets or virtual servers stopped a packet, and what that says of the Service."""

from __future__ import annotations

from netk8s.findings._reading import BALANCER, RULE, UNTRANSLATED, Stop, target
from netk8s.model import Step

NO_ENDPOINTS, NO_LOCAL, RANGES, NO_PORT, QUIESCED, OTHER = (
    "no endpoints", "no local endpoints", "source ranges", "no such port", "weight 0", "other",
)  # fmt: skip
NFT_TABLE = "kube-proxy"
"""The table of kube-proxy's nftables mode, in the families ip and ip6."""


def kind(stop: Stop) -> str:
    """What a stop by one of kube-proxy's rules says of the Service; OTHER for another rule, "" for no rule."""
    if stop.kind == UNTRANSLATED and not stop.back:
        # KUBE-FIREWALL is asked in INPUT and OUTPUT only: what was marked for drop and is forwarded leaves the node.
        return _by_mark(asked_to_drop(stop), "")
    if stop.kind == BALANCER:
        return QUIESCED if "weight 0" in stop.why else NO_ENDPOINTS
    if stop.kind != RULE or stop.step is None:
        return ""
    if stop.back:
        return OTHER
    if stop.step.nft is not None:
        return _by_nftables(stop, stop.step) if stop.step.table == NFT_TABLE else OTHER
    return _by_iptables(stop, stop.step)


def _by_iptables(stop: Stop, step: Step) -> str:
    rule = step.detail
    comment = rule.comment or "" if rule is not None else ""
    if rule is None or rule.chain not in _CHAINS:
        return OTHER
    if rule.chain in ("KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-OUT-FILTER"):
        return RANGES
    if rule.chain == "KUBE-IPVS-FILTER":
        return NO_PORT
    if rule.chain == "KUBE-FIREWALL":
        return _by_mark(asked_to_drop(stop), OTHER)
    if "no local endpoints" in comment:
        return NO_LOCAL
    if "no endpoints" in comment:
        return NO_ENDPOINTS
    return {"REJECT": NO_ENDPOINTS, "DROP": NO_LOCAL}.get(target(rule), OTHER)


_CHAINS = frozenset({
    "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
})  # fmt: skip


def _by_nftables(stop: Stop, step: Step) -> str:
    """The maps no-endpoint-services and no-endpoint-nodeports lead to reject-chain, or drop where policy is Local."""
    if step.chain.startswith("firewall"):
        return RANGES
    if step.chain == "cluster-ips-check":
        return NO_PORT
    asked = step if "@no-endpoint-" in (step.rule or "") else _looked_up(stop)
    if asked is None:
        return OTHER
    return NO_ENDPOINTS if step.chain == "reject-chain" or step.action.startswith("reject") else NO_LOCAL


def _looked_up(stop: Stop) -> Step | None:
    """The look-up in a map of Services without endpoints that sent the packet to reject-chain."""
    found = (step for hop in stop.way.hops[-1:] for step in hop.steps if step.table == NFT_TABLE)
    return next((step for step in found if "@no-endpoint-" in (step.rule or "")), None)


def told_by(stop: Stop) -> tuple[Step, ...]:
    """The steps that show why: the one that stopped the packet, behind the look-up that sent it there."""
    asked = _looked_up(stop) if stop.step is not None and stop.step.nft is not None else None
    steps = (asked, stop.step) if asked != stop.step else (stop.step,)
    return tuple(step for step in steps if step is not None)


def asked_to_drop(stop: Stop) -> Step | None:
    """Up to 1.24 kube-proxy marks what is to be dropped and kubelet's KUBE-FIREWALL drops it: the first to mark."""
    for hop in stop.way.hops:
        for step in hop.steps:
            if target(step.detail) == "KUBE-MARK-DROP":
                return step
    return None


def _by_mark(step: Step | None, otherwise: str) -> str:
    rule = step.detail if step is not None else None
    if rule is None:
        return otherwise
    if "no local endpoints" in (rule.comment or "") or rule.chain.startswith(("KUBE-XLB-", "KUBE-SVL-")):
        return NO_LOCAL
    return RANGES if rule.chain.startswith("KUBE-FW-") else otherwise
