"""microk8s, by its rules in FORWARD."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import microk8s
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -d 10.1.0.0/16 -m comment --comment "generated for MicroK8s pods" -j ACCEPT
COMMIT
"""


def test_its_forward_rules_are_named(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(RULES)
    assert components(node)[microk8s.NAME].by[0].at.line == 6
    assert meanings(asked(node, "10.1.1.9:80")) == [("FORWARD", "microk8s: pod traffic is forwarded")]
