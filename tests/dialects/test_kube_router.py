"""kube-router: policies by the comments of two layouts."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import kube_router
from netk8s.model import Policed, Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]


def said(trace: Trace) -> list[tuple[str, Policed]]:
    """(chain, what policies said) along the first way."""
    return [(s.chain, s.policed) for hop in trace.ways[0].hops for s in hop.steps if s.policed is not None]


HEAD = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
*filter
:FORWARD ACCEPT [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-POD-FW-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-NWPLCY-BBBBBBBBBBBBBBBB - [0:0]
-A FORWARD -m comment --comment "kube-router netpol - 4IA2OSFRMVNDXBVV" -j KUBE-ROUTER-FORWARD
"""
# pkg/controllers/netpol: comments of 1.0 to 2.8, as in records of k3s nodes …
OLD = (
    HEAD
    + """\
-A KUBE-NWPLCY-BBBBBBBBBBBBBBBB -s 198.51.100.0/24 -d 10.1.1.9/32 -m comment --comment "rule to ACCEPT traffic from source pods to dest pods selected by policy name web namespace shop" -j MARK --set-xmark 0x10000/0x10000
-A KUBE-NWPLCY-BBBBBBBBBBBBBBBB -s 198.51.100.0/24 -d 10.1.1.9/32 -m mark --mark 0x10000/0x10000 -j RETURN
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m comment --comment "rule for stateful firewall for pod" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m comment --comment "rule to drop invalid state for pod" -m conntrack --ctstate INVALID -j DROP
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -d 10.1.1.9/32 -m comment --comment "run through nw policy web" -j KUBE-NWPLCY-BBBBBBBBBBBBBBBB
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m comment --comment "rule to REJECT traffic destined for POD name:web-1 namespace: shop" -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -j MARK --set-xmark 0x0/0x10000
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m comment --comment "set mark to ACCEPT traffic that comply to network policies" -j MARK --set-xmark 0x20000/0x20000
-A KUBE-ROUTER-FORWARD -d 10.1.1.9/32 -m comment --comment "rule to jump traffic destined to POD name:web-1 namespace: shop to chain KUBE-POD-FW-AAAAAAAAAAAAAAAA" -j KUBE-POD-FW-AAAAAAAAAAAAAAAA
-A KUBE-ROUTER-FORWARD -m comment --comment "rule to explicitly ACCEPT traffic that comply to network policies" -m mark --mark 0x20000/0x20000 -j ACCEPT
COMMIT
"""
)
# … and of 2.9 and later.
NEW = OLD.replace("run through nw policy web", "shop/web policy").replace(
    "rule to jump traffic destined to POD name:web-1 namespace: shop to chain KUBE-POD-FW-AAAAAAAAAAAAAAAA",
    "shop/web-1 in",
)


def test_a_rejection_names_the_policy_in_both_layouts(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    for text in (OLD, NEW):
        node = world(text, ["kube-bridge"])
        assert components(node)[kube_router.NAME].enforces == "rules"
        trace = asked(node, "10.1.1.9:80", "203.0.113.9")
        assert [o.verdict for o in trace.outcomes] == ["refused"]
        assert said(trace) == [
            ("KUBE-POD-FW-AAAAAAAAAAAAAAAA", Policed("kube-router", ("shop/web",), "ingress", False))
        ]
        assert meanings(trace)[-1][1] == "kube-router policy shop/web denied this (ingress)"


def test_the_policy_that_admitted_is_named(world: Made, asked: Callable[..., Trace]) -> None:
    trace = asked(world(OLD), "10.1.1.9:80")
    assert [o.verdict for o in trace.outcomes] == ["delivered"]
    assert said(trace) == [("KUBE-NWPLCY-BBBBBBBBBBBBBBBB", Policed("kube-router", ("shop/web",), "ingress", True))]


def test_invalid_packets_are_no_policy_s(world: Made, asked: Callable[..., Trace]) -> None:
    everything = OLD.replace("-m conntrack --ctstate INVALID", "-m conntrack --ctstate INVALID,NEW")
    trace = asked(world(everything), "10.1.1.9:80")
    assert [o.verdict for o in trace.outcomes] == ["dropped"]
    assert said(trace) == []


def test_devices_alone_enforce_nothing(world: Made, components: Components) -> None:
    assert components(world(links=["kube-bridge"]))[kube_router.NAME].enforces == ""
