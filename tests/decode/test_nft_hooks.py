"""``nft list hooks``: the functions at each hook, in the kernel's order.

The texts are in the form of nft's src/mnl.c (print_hooks) and with the functions of Linux's documentation and sources:
no kernel of ours is built with nfnetlink_hook.
"""

from __future__ import annotations

import pytest

from netk8s import decode
from netk8s.decode import nft_hooks
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Hook, Snapshot

TEXT = """\
family ip {
    hook prerouting {
        -0000000400 ipv4_conntrack_defrag [nf_defrag_ipv4]
        -0000000300 ipt_do_table [ip_tables]
        -0000000200 ipv4_conntrack_in [nf_conntrack]
        -0000000100 nf_nat_ipv4_pre_routing [nf_nat]
    }
    hook input {
         0000000000 chain inet filter input [nf_tables]
         0000000000 ipt_do_table
        +0000000010 chain ip x-y z_1 [nf_tables]
        +2147483647 nf_confirm [nf_conntrack]
        +2147483647
    }
}
family netdev {
    hook ingress device eth0.7 {
         0000000000 flowtable inet f ft [nf_flow_table]
    }
}
""".replace("    ", "\t")
"""nft indents with tabs; a priority without a sign has a space in its place."""


def hook(family: str, at: str, priority: int, line: int, **more: object) -> Hook:
    return Hook(family, at, priority, at=At("x", line), **more)  # type: ignore[arg-type]


def test_hooks_in_their_order() -> None:
    dump = Dump("x", TEXT.encode())
    assert nft_hooks.sniff(dump)
    assert list(nft_hooks.decode(dump)) == [
        Coverage("hooks", At("x")),
        hook("ip", "prerouting", -400, 3, function="ipv4_conntrack_defrag", module="nf_defrag_ipv4"),
        hook("ip", "prerouting", -300, 4, function="ipt_do_table", module="ip_tables"),
        hook("ip", "prerouting", -200, 5, function="ipv4_conntrack_in", module="nf_conntrack"),
        hook("ip", "prerouting", -100, 6, function="nf_nat_ipv4_pre_routing", module="nf_nat"),
        hook("ip", "input", 0, 9, chain=("inet", "filter", "input"), module="nf_tables"),
        hook("ip", "input", 0, 10, function="ipt_do_table"),
        hook("ip", "input", 10, 11, chain=("ip", "x-y", "z_1"), module="nf_tables"),
        hook("ip", "input", 2147483647, 12, function="nf_confirm", module="nf_conntrack"),
        hook("ip", "input", 2147483647, 13),
        hook("netdev", "ingress", 0, 18, function="flowtable inet f ft", device="eth0.7", module="nf_flow_table"),
    ]


@pytest.mark.parametrize("bad", ["\t\tchain ip x y", "table ip x {", "\t\t-1x f"])
def test_what_is_no_hook_is_told_with_its_line(bad: str) -> None:
    text = TEXT.replace("\t\t+2147483647\n", f"{bad}\n")
    with pytest.raises(DecodeError, match="x:13: expected what `nft list hooks` prints"):
        list(nft_hooks.decode(Dump("x", text.encode())))


def test_they_are_the_nodes() -> None:
    world = decode.decode(Snapshot((Dump("x", TEXT.encode(), "n1"),)))
    assert [h.hook for h in world.nodes["n1"].hooks] == ["prerouting"] * 4 + ["input"] * 5 + ["ingress"]
    assert world.nodes["n1"].covered == {"hooks"}


@pytest.mark.parametrize(
    ("listed", "table", "backend", "is_it"),
    [
        (Hook("ip", "input", 0, function="ipt_do_table"), "filter", "legacy", True),
        (Hook("ip6", "input", 0, function="ip6t_do_table"), "filter", "legacy", True),
        (Hook("ip6", "input", 0, function="ipt_do_table"), "filter", "legacy", False),
        (Hook("ip", "output", -150, function="iptable_mangle_hook"), "mangle", "legacy", True),
        (Hook("ip", "output", -100, function="iptable_nat_do_chain"), "nat", "legacy", True),
        (Hook("ip", "output", -100, function="iptable_nat_do_chain"), "filter", "legacy", False),
        (Hook("ip", "output", -100, function="ipt_do_table"), "nat", "nft", False),
        (Hook("ip", "output", -100, chain=("ip", "nat", "OUTPUT")), "nat", "nft", True),
        (Hook("ip", "output", -100, chain=("ip", "nat", "out")), "nat", "nft", False),
        (Hook("ip6", "output", -100, chain=("ip", "nat", "OUTPUT")), "nat", "nft", False),
        (Hook("ip", "output", -100, chain=("ip", "nat", "OUTPUT")), "nat", "unknown", False),
    ],
)
def test_tables_of_iptables_among_them(listed: Hook, table: str, backend: str, is_it: bool) -> None:
    assert listed.calls(table, backend) is is_it
