"""NK430: NetworkPolicies admit the connection, and a plugin's rules for them drop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from netk8s.findings import nk430_allowed_and_dropped as nk430
from netk8s.model import Finding, Hop, Policed, Trace

STALE = "NK430/fires-stale-rules"


def test_the_evidence_is_the_rule_and_the_policy_that_admits(asked: Callable[[str], Any]) -> None:
    answer = asked(STALE)
    (finding,) = answer.of("NK430")
    rule, policy = finding.evidence
    assert answer.cited(finding)[0].endswith("-j REJECT --reject-with icmp-port-unreachable")
    assert rule.startswith("nodes/worker-1/iptables-save.txt:")
    assert policy.startswith("cluster/networkpolicies.json")
    assert (finding.severity, finding.proven) == ("error", True)
    assert "of shop/deny-all, which the API does not have" in finding.remedy


def test_a_sender_that_was_rewritten_is_a_warning_with_another_remedy(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK430/fires-client-masqueraded-on-the-way").of("NK430")
    assert finding.severity == "warning"
    assert "externalTrafficPolicy Local" in finding.remedy


def renamed(trace: Trace, *policies: str) -> Trace:
    """The trace with other policies in place of those that denied."""

    def hop(old: Hop) -> Hop:
        said = [replace(s.policed, policies=policies) if isinstance(s.policed, Policed) else None for s in old.steps]
        return replace(old, steps=tuple(replace(s, policed=p) for s, p in zip(old.steps, said, strict=True)))

    return replace(trace, ways=tuple(replace(w, hops=tuple(hop(h) for h in w.hops)) for w in trace.ways))


def test_policies_of_other_apis_have_their_own_mind(asked: Callable[[str], Any]) -> None:
    answer = asked(STALE)

    def found(*policies: str) -> list[Finding]:
        return list(nk430.check(answer.world, renamed(answer.trace, *policies)))

    assert len(found("shop/deny-all")) == 1
    assert found("default.deny-all") == found("profile kns.shop") == found("shop/default.deny") == found() == []
    assert found("shop/deny-all", "default.deny-all") == []
