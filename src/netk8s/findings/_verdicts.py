"""Which of kube-proxy's own rules stopped a packet, by chain, mark and comment."""

from __future__ import annotations

from netk8s.findings._reading import RULE, UNTRANSLATED, Stop, target
from netk8s.model import Step

NO_ENDPOINTS, NO_LOCAL, RANGES, OTHER = "no endpoints", "no local endpoints", "source ranges", "other"


def kind(stop: Stop) -> str:
    """What a stop by one of kube-proxy's rules says of the Service; OTHER for another rule, "" for no rule."""
    if stop.kind == UNTRANSLATED and not stop.back:
        # KUBE-FIREWALL is asked in INPUT and OUTPUT only: what was marked for drop and is forwarded leaves the node.
        return _by_mark(asked_to_drop(stop), "")
    if stop.kind != RULE or stop.step is None:
        return ""
    rule = stop.step.detail
    comment = rule.comment or "" if rule is not None else ""
    if stop.back or rule is None or rule.chain not in _CHAINS:
        return OTHER
    if rule.chain == "KUBE-PROXY-FIREWALL":
        return RANGES
    if rule.chain == "KUBE-FIREWALL":
        return _by_mark(asked_to_drop(stop), OTHER)
    if "no local endpoints" in comment:
        return NO_LOCAL
    if "no endpoints" in comment:
        return NO_ENDPOINTS
    return {"REJECT": NO_ENDPOINTS, "DROP": NO_LOCAL}.get(target(rule), OTHER)


_CHAINS = frozenset({"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL"})


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
