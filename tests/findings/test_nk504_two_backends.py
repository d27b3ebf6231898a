"""NK504: kube-proxy's rules are there twice, in iptables-legacy and in iptables-nft."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_chains_of_both_backends_are_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK504/fires-legacy-and-nft")
    for finding in answer.of("NK504"):
        assert finding.severity == "warning"
        assert not finding.proven
        assert len(finding.evidence) == 2
        assert all(line.startswith(":KUBE-SERVICES ") for line in answer.cited(finding))


def test_a_list_of_hooks_proves_the_order(asked: Callable[[str], Any]) -> None:
    answer = asked("NK504/fires-legacy-first-by-hooks")
    found = list(answer.of("NK504"))
    assert found
    for finding in found:
        assert finding.proven
        assert "those of iptables-legacy are asked first" in finding.summary
        assert answer.cited(finding)[-1].split() == ["-0000000100", "ipt_do_table", "[ip_tables]"]
    # Then nothing of the order is taken for granted.
    assert not [text for text in answer.trace.assumptions if "both iptables backends" in text]
