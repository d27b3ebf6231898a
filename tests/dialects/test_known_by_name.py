"""Networks and firewalls without words of their own: recognised, and said in the trace."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from netk8s.dialects import known_by_name
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]
UFW = """\
*filter
:FORWARD DROP [0:0]
:ufw-before-forward - [0:0]
-A FORWARD -j ufw-before-forward
-A ufw-before-forward -d 10.1.1.0/24 -j ACCEPT
-A ufw-before-forward -s 10.1.1.0/24 -j ACCEPT
COMMIT
"""


def test_it_is_said_in_the_trace_and_its_rules_are_followed(
    world: Made, components: Components, asked: Callable[..., Trace]
) -> None:
    node = world(UFW)
    assert components(node)["ufw"].modelled is False
    trace = asked(node, "10.1.1.9:80")
    assert [o.verdict for o in trace.outcomes] == ["delivered"]
    (said,) = [text for text in trace.assumptions if "known by name only" in text]
    assert said.startswith(
        "ufw is at work on n1 (filter FORWARD jumps to ufw-before-forward, nodes/n1/iptables-save.txt:4)"
    )


@pytest.mark.parametrize(
    ("link", "name"),
    [("kilo0", "Kilo"), ("vx-submariner", "Submariner"), ("liqo.host", "Liqo"), ("tailscale0", "Tailscale")],
)
def test_known_by_a_device(world: Made, components: Components, link: str, name: str) -> None:
    assert set(components(world(links=[link]))) == {name}
    assert known_by_name.owns(link)


def test_another_datapath_gets_no_answer(world: Made, asked: Callable[..., Trace]) -> None:
    (outcome,) = asked(world(links=["vhost0"]), "10.1.1.9:80").outcomes
    assert outcome.verdict == "unknown"
    assert "Tungsten Fabric (Contrail) carries the pods' packets (link vhost0" in outcome.reason
    assert known_by_name.opaque(world().nodes["n1"], world().cluster) == ""


def test_a_plain_node_has_none(world: Made, components: Components) -> None:
    assert components(world()) == {}
    assert not known_by_name.owns("FORWARD")
