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
