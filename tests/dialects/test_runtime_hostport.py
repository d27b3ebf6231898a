"""hostPorts of the container runtime itself."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import runtime_hostport
from netk8s.model import Recognised, Trace, World

# The layout of CRI-O's hostport_manager.go, hashes made up.
RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-HOSTPORTS - [0:0]
:KUBE-HP-ABCDEFGHIJKLMNOP - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -m comment --comment "kube hostport portals" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS
-A OUTPUT -m comment --comment "kube hostport portals" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS
-A KUBE-HOSTPORTS -p tcp -m comment --comment "k8s_web-1_shop_0_ hostport 8080" -m tcp --dport 8080 -j KUBE-HP-ABCDEFGHIJKLMNOP
-A KUBE-HP-ABCDEFGHIJKLMNOP -s 10.1.1.9/32 -m comment --comment "k8s_web-1_shop_0_ hostport 8080" -j KUBE-MARK-MASQ
-A KUBE-HP-ABCDEFGHIJKLMNOP -p tcp -m comment --comment "k8s_web-1_shop_0_ hostport 8080" -m tcp -j DNAT --to-destination 10.1.1.9:80
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
COMMIT
*filter
:FORWARD ACCEPT [0:0]
COMMIT
"""


def test_hostport_and_its_steps_are_named(
    world: Callable[..., World],
    components: Callable[[World], dict[str, Recognised]],
    asked: Callable[..., Trace],
    meanings: Callable[..., list[tuple[str, str]]],
) -> None:
    node = world(RULES)
    assert "nat PREROUTING jumps to KUBE-HOSTPORTS" in components(node)[runtime_hostport.NAME].by[0].what
    trace = asked(node, "192.0.2.11:8080")
    assert [str(o.reached.ip) for o in trace.outcomes if o.reached] == ["10.1.1.9"]
    steps = meanings(trace)
    assert ("PREROUTING", "hostPort lookup") in steps
    assert ("KUBE-HOSTPORTS", "hostPort of one pod") in steps
    assert ("KUBE-HP-ABCDEFGHIJKLMNOP", "hostPort: the pod is the new destination") in steps
