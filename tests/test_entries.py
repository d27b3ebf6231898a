"""Whether packets come to kube-proxy's rules."""

from __future__ import annotations

import pytest

from netk8s import decode
from netk8s.entries import unentered
from netk8s.model import Dump, Node, Programmed, Snapshot

SERVICES = "-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp --dport 80 -j KUBE-SVC-A"


def node(*rules: str, chains: str = "KUBE-SERVICES KUBE-SVC-A HOOK", file: str = "iptables-save.txt") -> Node:
    hooks = [f":{name} ACCEPT [0:0]" for name in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")]
    text = "\n".join(["*nat", *hooks, *(f":{name} - [0:0]" for name in chains.split()), *rules, "COMMIT", ""])
    dumps = (Dump(f"nodes/n1/{file}", text.encode(), "n1"),)
    return decode.decode(Snapshot(dumps=dumps)).nodes["n1"]


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (("-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES", SERVICES), ""),
        (("-A PREROUTING -j HOOK", "-A HOOK -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES", SERVICES), ""),
        (("-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES"), "KUBE-SERVICES has no rules"),
        (("-A PREROUTING -j KUBE-SERVICES", SERVICES), "OUTPUT of nat does not lead to KUBE-SERVICES"),
        (("-A PREROUTING -j HOOK", "-A HOOK -j HOOK", SERVICES), "PREROUTING and OUTPUT of nat do not lead to KUBE-SERVICES"),
    ],
)  # fmt: skip
def test_what_keeps_packets_from_the_rules(rules: tuple[str, ...], why: str) -> None:
    assert [text for _, text, _ in unentered(node(*rules), ())] == ([why] if why else [])


def test_another_mode_has_left_them_behind() -> None:
    broken = node("-A PREROUTING -j KUBE-SERVICES")
    assert list(unentered(broken, ()))
    row = Programmed("n1", "default/web", "", 6, "ClusterIP", None, 80, "", (), mode="nftables")
    assert not list(unentered(broken, (row,)))


def test_a_node_without_them_has_nothing_to_come_to() -> None:
    assert not list(unentered(node(chains="OTHER"), ()))
