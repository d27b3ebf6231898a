"""NK412: A pod dials a Service, and no rule sees what it sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_it_names_the_device_and_where_the_packet_goes(asked: Callable[[str], Any]) -> None:
    answer = asked("NK412/fires-macvlan")
    (finding,) = answer.of("NK412")
    assert "what pod default/toolbox sends there goes to gateway 192.168.52.1" in finding.summary
    assert finding.evidence == ("nodes/k8s-node1/ip-link.json",)
    # How the pod hangs is concluded, and what the network routes is taken for granted.
    assert not finding.proven
