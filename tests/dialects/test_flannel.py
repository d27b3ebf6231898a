"""flannel's rules and devices."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import flannel
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.1.1.0/24 -d 10.1.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.1.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
COMMIT
*filter
:FORWARD DROP [0:0]
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.1.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.1.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
"""
# Up to flannel 0.20 the rules stood in the built-in chains themselves.
OLD = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 10.1.0.0/16 -d 10.1.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A POSTROUTING -s 10.1.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
COMMIT
*filter
:FORWARD ACCEPT [0:0]
COMMIT
"""


def test_flannel_is_known_by_device_and_chains(world: Made, components: Components) -> None:
    found = components(world(RULES, ["flannel.1"]))[flannel.NAME]
    assert [sign.what for sign in found.by] == [
        "link flannel.1", "nat POSTROUTING jumps to FLANNEL-POSTRTG", "filter FORWARD jumps to FLANNEL-FWD",
    ]  # fmt: skip
    assert found.by[1].at.line == 7
    assert found.enforces == ""
    assert flannel.NAME in components(world(OLD))
    assert flannel.NAME not in components(world(links=["flannel"]))


def test_its_steps_are_named_in_both_layouts(
    world: Made, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    new = meanings(asked(world(RULES), "203.0.113.5:80", "10.1.1.9"))
    masquerade = "flannel: leaves the pod network, or comes into it from outside"
    assert ("FLANNEL-FWD", "flannel: traffic of the pod network is forwarded") in new
    assert ("FLANNEL-POSTRTG", masquerade) in new
    assert ("POSTROUTING", masquerade) in meanings(asked(world(OLD), "203.0.113.5:80", "10.1.1.9"))


def test_its_tunnel_is_named(world: Callable[..., World], asked: Callable[..., Trace]) -> None:
    route = {"dst": "10.1.2.0/24", "gateway": "10.1.2.0", "dev": "flannel.1", "flags": ["onlink"]}
    trace = asked(world(links=["flannel.1"], routes=[route]), "10.1.2.7:80")
    said = [s.means for s in trace.ways[0].hops[0].steps if s.hook == "routing"]
    assert "flannel: vxlan to the pods of other nodes" in said
