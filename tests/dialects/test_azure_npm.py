"""Azure NPM: policies by comments, marks by chain."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import azure_npm
from netk8s.model import Policed, Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]


def said(trace: Trace) -> list[tuple[str, Policed]]:
    """(chain, what policies said) along the first way."""
    return [(s.chain, s.policed) for hop in trace.ways[0].hops for s in hop.steps if s.policed is not None]


# npm/pkg/dataplane/policies of Azure/azure-container-networking, marks as up to NPM 1.4.
RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
*filter
:FORWARD ACCEPT [0:0]
:AZURE-NPM - [0:0]
:AZURE-NPM-ACCEPT - [0:0]
:AZURE-NPM-EGRESS - [0:0]
:AZURE-NPM-INGRESS - [0:0]
:AZURE-NPM-INGRESS-123 - [0:0]
:AZURE-NPM-INGRESS-ALLOW-MARK - [0:0]
-A FORWARD -m conntrack --ctstate NEW -j AZURE-NPM
-A AZURE-NPM -j AZURE-NPM-INGRESS
-A AZURE-NPM -j AZURE-NPM-EGRESS
-A AZURE-NPM -j AZURE-NPM-ACCEPT
-A AZURE-NPM-ACCEPT -m comment --comment CLEAR-AZURE-NPM-MARKS -j MARK --set-xmark 0x0/0xffffffff
-A AZURE-NPM-ACCEPT -j ACCEPT
-A AZURE-NPM-EGRESS -m mark --mark 0x5000 -m comment --comment DROP-ON-EGRESS-DROP-MARK-0x5000 -j DROP
-A AZURE-NPM-EGRESS -m mark --mark 0x2000 -m comment --comment ACCEPT-ON-INGRESS-ALLOW-MARK-0x2000 -j AZURE-NPM-ACCEPT
-A AZURE-NPM-INGRESS -d 10.1.1.9/32 -m comment --comment "INGRESS-POLICY-shop/web-TO-podlabel-app:web-IN-ns-shop" -j AZURE-NPM-INGRESS-123
-A AZURE-NPM-INGRESS -m mark --mark 0x4000 -m comment --comment DROP-ON-INGRESS-DROP-MARK-0x4000 -j DROP
-A AZURE-NPM-INGRESS-123 -s 198.51.100.0/24 -m comment --comment "ALLOW-FROM-cidr" -j AZURE-NPM-INGRESS-ALLOW-MARK
-A AZURE-NPM-INGRESS-123 -m comment --comment "SET-INGRESS-DROP-MARK-0x4000" -j MARK --set-xmark 0x4000/0xffffffff
-A AZURE-NPM-INGRESS-ALLOW-MARK -m comment --comment SET-INGRESS-ALLOW-MARK-0x2000 -j MARK --set-xmark 0x2000/0xffffffff
-A AZURE-NPM-INGRESS-ALLOW-MARK -j AZURE-NPM-EGRESS
COMMIT
"""


def test_the_mark_of_kube_proxy_is_a_drop_here(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(RULES)
    assert components(node)[azure_npm.NAME].enforces == "rules"
    trace = asked(node, "10.1.1.9:80", "203.0.113.9")
    assert [o.verdict for o in trace.outcomes] == ["dropped"]
    assert said(trace) == [("AZURE-NPM-INGRESS", Policed("azure-npm", ("shop/web",), "ingress", False))]
    marked = dict(meanings(trace))["AZURE-NPM-INGRESS-123"]
    assert marked == "azure-npm: notes that a policy selects the pod and this does not match"


def test_the_policy_that_admitted_is_named(
    world: Made, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    trace = asked(world(RULES), "10.1.1.9:80")
    assert [o.verdict for o in trace.outcomes] == ["delivered"]
    assert said(trace) == [("AZURE-NPM-INGRESS-123", Policed("azure-npm", ("shop/web",), "ingress", True))]
    assert ("AZURE-NPM-ACCEPT", "azure-npm: takes every mark off") in meanings(trace)


def test_devices_of_the_cni_plugin_alone_enforce_nothing(world: Made, components: Components) -> None:
    assert components(world(links=["azv0123456789a"]))[azure_npm.NAME].enforces == ""
