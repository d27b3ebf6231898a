"""istio's redirect in a pod's namespace."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import istio
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

# What istio-iptables writes in REDIRECT mode (tools/istio-iptables, golden files).
RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
COMMIT
*filter
:INPUT ACCEPT [0:0]
COMMIT
"""


def test_the_redirect_to_the_sidecar_is_named(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(RULES)
    assert istio.NAME in components(node)
    steps = meanings(asked(node, "192.0.2.11:80"))
    assert ("ISTIO_INBOUND", "istio: to the sidecar") in steps
    assert ("ISTIO_IN_REDIRECT", "istio: the proxy gets the packet, and picks the endpoint itself") in steps
    assert ("ISTIO_INBOUND", "istio: not for the proxy") in meanings(asked(node, "192.0.2.11:15020"))


def test_ambient_mode_is_known_by_its_set(world: Made, components: Components) -> None:
    made = "create istio-inpod-probes-v4 hash:ip family inet hashsize 1024 maxelem 65536\n"
    assert components(world(sets=made))[istio.NAME].by[0].what == "ipset istio-inpod-probes-v4"
