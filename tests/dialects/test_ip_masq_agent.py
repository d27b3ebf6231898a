"""ip-masq-agent's chain."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import ip_masq_agent
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:IP-MASQ-AGENT - [0:0]
-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
-A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -m addrtype ! --dst-type LOCAL -j RETURN
-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -m addrtype ! --dst-type LOCAL -j MASQUERADE
COMMIT
*filter
:FORWARD ACCEPT [0:0]
COMMIT
"""


def test_what_is_masqueraded_and_what_not(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(RULES)
    assert components(node)[ip_masq_agent.NAME].by[0].at.line == 5
    out = meanings(asked(node, "203.0.113.5:80", "10.1.1.9"))
    assert out[-1] == ("IP-MASQ-AGENT", "ip-masq-agent: any other destination sees the node's address")
    inside = meanings(asked(node, "10.1.1.9:80"))
    assert inside[-1] == ("IP-MASQ-AGENT", "ip-masq-agent: a destination that is not masqueraded for")
