"""NK204: Nobody listens on the port, and no rule takes the packet elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_evidence_is_the_list_of_sockets(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK204/fires-closed-port").of("NK204")
    assert finding.severity == "error"
    assert finding.evidence == ("nodes/k8s-node1/listening.txt",)
    assert finding.proven


def test_a_nodeport_on_an_address_that_is_not_served_says_which_setting(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK204/fires-address-not-served").of("NK204")
    assert "--nodeport-addresses" in finding.remedy
