"""NodeLocal DNSCache: DNS past conntrack and past kube-proxy."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import nodelocal_dns
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

RULES = """\
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d 192.0.2.11/32 -p udp -m udp --dport 53 -m comment --comment "NodeLocal DNS Cache: skip conntrack" -j NOTRACK
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
-A INPUT -d 192.0.2.11/32 -p udp -m udp --dport 53 -m comment --comment "NodeLocal DNS Cache: allow DNS traffic" -j ACCEPT
COMMIT
"""


def test_its_rules_are_named(
    world: Made, components: Components, meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    from netk8s import dialects
    from netk8s.model import Ask
    from netk8s.trace import trace

    node = world(RULES, ["nodelocaldns"])
    assert components(node)[nodelocal_dns.NAME].by[0].what == "link nodelocaldns"
    flow = dialects.resolve(node, Ask("192.0.2.11:53", protocol="udp", source="10.1.1.9", via="n1"))
    found: Trace = dialects.label(node, trace(node, flow))
    assert meanings(found) == [
        ("PREROUTING", "NodeLocal DNSCache: past conntrack and kube-proxy, the node answers"),
        ("INPUT", "NodeLocal DNSCache: DNS traffic of its own"),
    ]
