"""NK205: A Service's address was dialled and no rule translates it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_rules_for_the_ports_that_there_are_are_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK205/fires-wrong-port")
    (finding,) = answer.of("NK205")
    assert finding.severity == "error"
    assert any("-d 10.96.120.30/32" in line and "--dport 80 " in line for line in answer.cited(finding))


def test_a_network_that_may_route_the_address_leaves_it_unproven(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK205/fires-outside").of("NK205")
    assert not finding.proven
    assert "--via NODE" in finding.remedy


def test_an_address_of_the_load_balancer_is_sent_to_the_load_balancer(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK205/fires-ipmode-proxy").of("NK205")
    assert "has to reach the load balancer" in finding.remedy
