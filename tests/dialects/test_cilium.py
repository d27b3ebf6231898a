"""Cilium: recognised, and no answer is given from rules that are not its datapath."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import cilium
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

KUBE = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:CILIUM_PRE_nat - [0:0]
-A PREROUTING -m comment --comment "cilium-feeder: CILIUM_PRE_nat" -j CILIUM_PRE_nat
-A PREROUTING -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.1.1.9:80
COMMIT
*filter
:FORWARD ACCEPT [0:0]
COMMIT
"""
PROXY = {
    "kind": "Pod",
    "metadata": {"name": "kube-proxy-x", "namespace": "kube-system", "labels": {"k8s-app": "kube-proxy"}},
    "spec": {"nodeName": "n1", "hostNetwork": True},
    "status": {"phase": "Running", "podIP": "192.0.2.11"},
}


def test_leftover_rules_of_kube_proxy_get_no_answer(
    world: Made, components: Components, asked: Callable[..., Trace]
) -> None:
    node = world(KUBE, ["cilium_host", "cilium_net", "lxc0123456789ab"])
    assert components(node)[cilium.NAME].enforces == "hidden"
    (outcome,) = asked(node, "10.96.0.10:80").outcomes
    assert outcome.verdict == "unknown"
    assert "cilium's BPF programs are this node's datapath (link cilium_host, nodes/n1/ip-link.json" in outcome.reason
    assert "kube-proxy's rules (nodes/n1/iptables-save.txt:9) are not" in outcome.reason


def test_kube_proxy_beside_cilium_is_said(world: Made, asked: Callable[..., Trace]) -> None:
    node = world(KUBE, ["cilium_host"], objects=[PROXY])
    (outcome,) = asked(node, "10.96.0.10:80").outcomes
    assert outcome.verdict == "unknown"
    assert "with kube-proxy beside it (kube-system/kube-proxy-x)" in outcome.reason


def test_chains_left_behind_are_no_datapath(world: Made, asked: Callable[..., Trace]) -> None:
    """Where the links are known and none is cilium's, its chains are what is left of it."""
    node = world(KUBE)
    assert node.nodes["n1"].opaque == ""
    assert [o.verdict for o in asked(node, "10.96.0.10:80").outcomes] == ["delivered"]


def test_without_links_the_chains_decide(world: Made) -> None:
    node = world(KUBE).nodes["n1"]
    from msgspec.structs import replace

    unknown = replace(node, links=(), covered=node.covered - {"link"})
    assert "CILIUM_PRE_nat" in cilium.opaque(unknown, world(KUBE).cluster)
