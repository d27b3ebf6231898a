"""``iptables -L`` is recognised and refused: it leaves parts of rules out."""

from __future__ import annotations

import pytest

from netk8s import decode, dialects
from netk8s.decode import iptables_list
from netk8s.errors import DecodeError, UsageError
from netk8s.model import Ask, Dump, Snapshot

VERBOSE = """\
# Warning: iptables-legacy tables present, use iptables-legacy to see them
Chain PREROUTING (policy ACCEPT 12M packets, 834M bytes)
 pkts bytes target     prot opt in     out     source               destination
 117K   10M KUBE-SERVICES  all  --  *      *       0.0.0.0/0            0.0.0.0/0            /* kubernetes service portals */

Chain KUBE-MARK-MASQ (5 references)
 pkts bytes target     prot opt in     out     source               destination
"""
NAMES = """\
Chain INPUT (policy ACCEPT)
target     prot opt source               destination
KUBE-FIREWALL  all  --  anywhere             anywhere
"""
EXACT = "Chain DOCKER-USER (1 references)\n    pkts      bytes target     prot opt in     out     source               destination\n"


@pytest.mark.parametrize("text", [VERBOSE, NAMES, EXACT])
def test_alone_it_is_refused_with_what_to_give(text: str) -> None:
    dump = Dump("sos_commands/firewall_tables/iptables_-t_nat_-nvL", text.encode(), "n1")
    assert decode.recognise(dump) is None
    with pytest.raises(
        DecodeError, match=r"`iptables -L` prints and leaves parts of rules out; give .*`iptables-save`"
    ):
        decode.decode(Snapshot((dump,)))


def test_beside_others_it_is_missing() -> None:
    rules = Dump("iptables-save", b"*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", "n1")
    found = decode.decode(Snapshot((rules, Dump("listing", NAMES.encode(), "n1"))))
    (gap,) = found.missing
    assert gap.what.startswith("the rules in listing, which is what `iptables -L` prints")
    assert found.unread == ()
    assert set(found.nodes["n1"].covered) == {"rules4"}


def test_beside_the_clusters_objects_the_reason_is_told() -> None:
    pods = Dump("pods.json", b'{"apiVersion": "v1", "kind": "PodList", "items": []}')
    world = decode.decode(Snapshot((pods, Dump("listing", NAMES.encode()))))
    with pytest.raises(UsageError, match=r"no node's rules \(the rules in listing, which is what `iptables -L` prints"):
        dialects.resolve(world, Ask("svc/web", "80"))


@pytest.mark.parametrize(
    "text", ["", "\n", "Chain of command\n", "# Warning\n", "Chain A (policy ACCEPT) and more\n", "-P INPUT ACCEPT\n"]
)
def test_nothing_else_is_taken_for_one(text: str) -> None:
    assert not iptables_list.sniff(Dump("x", text.encode()))
    assert decode.refused(Dump("x", text.encode())) == ""
