"""kindnet: its masquerade chain, its tables."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import kindnet
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KIND-MASQ-AGENT - [0:0]
-A POSTROUTING -m addrtype ! --dst-type LOCAL -m comment --comment "kind-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom KIND-MASQ-AGENT chain" -j KIND-MASQ-AGENT
-A KIND-MASQ-AGENT -d 10.1.0.0/16 -m comment --comment "kind-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A KIND-MASQ-AGENT -m comment --comment "kind-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -j MASQUERADE
COMMIT
*filter
:FORWARD ACCEPT [0:0]
COMMIT
"""


def test_its_masquerade_is_named(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(RULES)
    assert components(node)[kindnet.NAME].by[0].at.line == 5
    steps = meanings(asked(node, "203.0.113.5:80", "10.1.1.9"))
    assert steps[-1] == ("KIND-MASQ-AGENT", "kindnet: leaves the pod network")
    assert meanings(asked(node, "10.1.1.9:80"))[-1] == ("KIND-MASQ-AGENT", "kindnet leaves the source as it is")


def test_its_policy_table_decides_in_a_process(world: Made, components: Components) -> None:
    nft = "table inet kindnet-network-policies {\n\tchain postrouting {\n\t}\n}\n"
    assert components(world(nft=nft))[kindnet.NAME].enforces == "hidden"
