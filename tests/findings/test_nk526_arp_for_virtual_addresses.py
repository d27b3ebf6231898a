"""NK526: Nodes in IPVS mode answer ARP for virtual addresses of the LAN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_setting_and_the_network_are_the_evidence(asked: Callable[[str], Any]) -> None:
    answer = asked("NK526/fires-load-balancer")
    (found,) = answer.of("NK526")
    assert answer.cited(found)[0] == "net.ipv4.conf.all.arp_ignore = 0"
    assert any("ip-addr" in place for place in found.evidence)
