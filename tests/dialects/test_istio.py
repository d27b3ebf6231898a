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


def test_what_proxies_do_inside_pods_is_said(world: Callable[..., World], asked: Callable[..., Trace]) -> None:
    def said(labels: dict[str, str]) -> list[str]:
        pod = {
            "kind": "Pod",
            "metadata": {"name": "web-1", "namespace": "shop", "labels": labels},
            "spec": {"nodeName": "n1"},
            "status": {"phase": "Running", "podIP": "10.1.1.9"},
        }
        return [text for text in asked(world(objects=[pod]), "10.1.1.9:80").assumptions if "istio" in text]

    assert said({"app": "web"}) == []
    assert "pod shop/web-1 has istio's sidecar" in said({"security.istio.io/tlsMode": "istio"})[0]
    assert "ztunnel" in said({"istio.io/dataplane-mode": "ambient"})[0]
