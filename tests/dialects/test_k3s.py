"""k3s, by what its node reports and by its load balancer's pods."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import k3s
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

NODE = {
    "kind": "Node",
    "metadata": {"name": "n1"},
    "status": {"nodeInfo": {"kubeProxyVersion": "v1.30.5+k3s1"}},
}
BALANCER = {
    "kind": "Pod",
    "metadata": {"name": "svclb-traefik-0a1b2c3d-x7k2p", "namespace": "kube-system"},
    "spec": {"nodeName": "n1"},
    "status": {"phase": "Running"},
}


def test_k3s_is_known_by_version_and_pods(world: Made, components: Components) -> None:
    found = components(world(objects=[NODE, BALANCER]))[k3s.NAME]
    assert [sign.what for sign in found.by] == [
        "kube-proxy v1.30.5+k3s1", "pod kube-system/svclb-traefik-0a1b2c3d-x7k2p (klipper-lb)",
    ]  # fmt: skip
    assert components(world(objects=[{**NODE, "status": {"nodeInfo": {"kubeProxyVersion": "v1.30.5"}}}])) == {}


def test_its_load_balancer_sends_on_what_it_gets(world: Callable[..., World], asked: Callable[..., Trace]) -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"name": "svclb-web-0a1b2c3d-xyz12", "namespace": "kube-system", "labels": {}},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "podIP": "10.1.1.9"},
    }
    (said,) = [text for text in asked(world(objects=[pod]), "10.1.1.9:80").assumptions if "k3s" in text]
    assert "on to Service web, which sees the pod's address" in said
    labels = {"svccontroller.k3s.cattle.io/svcname": "web", "svccontroller.k3s.cattle.io/svcnamespace": "shop"}
    pod["metadata"]["labels"] = labels  # type: ignore[index]
    (said,) = [text for text in asked(world(objects=[pod]), "10.1.1.9:80").assumptions if "k3s" in text]
    assert "on to Service shop/web" in said
    assert not [text for text in asked(world(objects=[pod]), "10.1.1.8:80").assumptions if "k3s" in text]
