"""weave: its bridge, its masquerade, its policies without names."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import weave
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

# weaveworks/weave, npc/README.md of 2.x.
RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:WEAVE - [0:0]
-A POSTROUTING -j WEAVE
-A WEAVE -s 10.1.0.0/16 ! -d 10.1.0.0/16 -j MASQUERADE
COMMIT
*filter
:FORWARD ACCEPT [0:0]
:WEAVE-NPC - [0:0]
:WEAVE-NPC-DEFAULT - [0:0]
:WEAVE-NPC-INGRESS - [0:0]
-A FORWARD -o cni0 -j WEAVE-NPC
-A FORWARD -o cni0 -j DROP
-A WEAVE-NPC -m state --state RELATED,ESTABLISHED -j ACCEPT
-A WEAVE-NPC -m state --state NEW -j WEAVE-NPC-DEFAULT
-A WEAVE-NPC -m state --state NEW -j WEAVE-NPC-INGRESS
-A WEAVE-NPC-DEFAULT -d 10.1.1.8/32 -j ACCEPT
-A WEAVE-NPC-INGRESS -s 198.51.100.0/24 -d 10.1.1.9/32 -j ACCEPT
COMMIT
"""


def test_weave_says_who_was_stopped_and_who_admitted(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(RULES, ["weave"])
    assert components(node)[weave.NAME].enforces == "rules"
    denied = asked(node, "10.1.1.9:80", "203.0.113.9")
    assert [o.verdict for o in denied.outcomes] == ["dropped"]
    assert meanings(denied)[-1] == ("FORWARD", "weave: a network policy denied this (ingress)")
    admitted = asked(node, "10.1.1.9:80")
    assert [o.verdict for o in admitted.outcomes] == ["delivered"]
    assert ("WEAVE-NPC-INGRESS", "weave: a network policy admitted this (ingress)") in meanings(admitted)
    free = asked(node, "10.1.1.8:80", "203.0.113.9")
    assert ("WEAVE-NPC-DEFAULT", "weave: no policy selects the pod") in meanings(free)


def test_its_bridge_alone_enforces_nothing(world: Made, components: Components) -> None:
    assert components(world(links=["weave"]))[weave.NAME].enforces == ""
