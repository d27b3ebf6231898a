"""Commands of nft in a snapshot, held against the same commands given to the kernel."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s import decode
from netk8s.errors import Netk8sError, NotFound, NotKnown, UsageError
from netk8s.model import Dump, NftExpr, NftStatement, NftTable, Snapshot, Table
from netk8s.whatif import Wanted, whatif

BEFORE = """\
table ip filter {
	set blocked {
		type ipv4_addr
		elements = { 10.9.9.9 }
	}

	map ends {
		type ipv4_addr : verdict
		elements = { 10.9.9.8 : goto last }
	}

	chain last {
		ip saddr 10.7.7.7 drop
	}

	chain FORWARD {
		type filter hook forward priority filter; policy accept;
		ip saddr 10.0.0.1 accept
		tcp dport 443 drop
		jump more
	}

	chain more {
		ip daddr 10.0.0.2 return
		ip daddr vmap @ends
	}
}
table ip6 nat {
	chain POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
	}
}
"""
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("add rule ip filter FORWARD ip saddr 10.9.0.0/16 tcp dport { 80, 443 } counter drop",),
    ("add rule filter FORWARD ip saddr @blocked drop",),
    ("add rule ip filter FORWARD ip daddr vmap @ends",),
    ("insert rule ip filter FORWARD ct state established,related accept",),
    ('insert rule ip filter FORWARD index 1 iifname "eth*" udp dport 53-60 meta mark set 0x10 accept',),
    ("add rule ip filter FORWARD index 0 ip protocol icmp reject with icmp host-unreachable",),
    ("add rule ip filter more meta l4proto tcp ct state new jump later", "add rule ip filter later drop"),
    ("delete rule ip filter FORWARD tcp dport 443 drop",),
    ("add rule ip6 nat POSTROUTING ip6 saddr fd00::/8 oifname != \"cni0\" masquerade fully-random",),
    ("add table inet mine", "add chain inet mine f { type filter hook forward priority filter - 5; policy drop; }",
     "add rule inet mine f ct state established,related accept", "insert rule inet mine f ip daddr 10.1.1.1 accept"),
    ("add chain ip filter later", "add rule ip filter later ip saddr 10.0.0.0-10.0.0.9 return"),
    ("add chain ip filter FORWARD { policy drop; }",),
)  # fmt: skip
SAVED = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:OURS - [0:0]
-A FORWARD -s 10.0.0.1/32 -j ACCEPT
-A OURS -m comment --comment "by xt" -j DROP
COMMIT
"""


def asked(dumps: Sequence[Dump], commands: Sequence[str]) -> tuple[tuple[NftTable, ...], tuple[Table, ...]]:
    (node,) = whatif(Snapshot(tuple(dumps)), Wanted(rules=tuple(commands))).after.nodes.values()
    return node.nft, node.tables


def meaning(tables: Sequence[NftTable]) -> dict[tuple[str, str], object]:
    return {
        (table.family, table.name): {
            name: (chain.type, chain.hook, chain.priority, chain.policy, [rule.statements for rule in chain.rules])
            for name, chain in table.chains.items()
        }
        for table in tables
    }


def native(text: str = BEFORE) -> Dump:
    return Dump("nft.txt", text.encode(), "n")


def in_namespace(script: str, stdin: str) -> str:
    """What a shell says in a network namespace of its own."""
    done = subprocess.run(
        ["unshare", "-n", "sh", "-ec", script], input=stdin, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.lab
@pytest.mark.parametrize("commands", COMMANDS, ids=lambda commands: commands[0])
def test_the_kernel_has_the_same_rules(commands: tuple[str, ...]) -> None:
    lines = [f"nft '{command}'" for command in commands if not command.startswith("delete")]
    if commands[0].startswith("delete"):
        # nft itself deletes by handle only.
        lines = [
            "nft delete rule ip filter FORWARD handle $(nft -a list ruleset | sed -n 's/.*dport 443 drop # handle //p')"
        ]
    if "jump later" in commands[0]:
        lines.insert(0, "nft add chain ip filter later")
        commands = ("add chain ip filter later", *commands)
    shown = in_namespace("\n".join(("nft -f -", *lines, "nft list ruleset")), BEFORE)
    (node,) = decode.decode(Snapshot((native(shown),))).nodes.values()
    assert meaning(asked([native()], commands)[0]) == meaning(node.nft)


KEPT = (
    "add rule ip filter FORWARD ip saddr 10.9.0.0/16 ip daddr != 10.8.0.1 tcp dport 80 drop",
    'insert rule ip filter FORWARD iifname "eth0" udp sport 1000-2000 accept',
    "add rule ip filter FORWARD ip protocol sctp goto OURS",
)
TRANSLATED = (
    *KEPT,
    'add rule ip filter FORWARD iifname "eth*" oifname != "cni0" ct state related,established accept',
    "add rule ip filter FORWARD tcp dport != 443 reject with tcp reset",
    "add rule ip filter FORWARD ip saddr != 10.9.0.0/16 reject with icmp host-unreachable",
    "add rule ip filter FORWARD udp sport { 53, 123 } meta mark 0x10 jump OURS",
    "add rule ip filter FORWARD meta mark != 0x10 return",
    "add rule ip6 filter FORWARD ip6 daddr fd00::/8 reject with icmpv6 no-route",
    'add rule ip filter FORWARD ip saddr 10.9.9.9 drop comment "not this one"',
)


@pytest.mark.lab
@pytest.mark.parametrize("command", TRANSLATED)
def test_iptables_translates_the_words_back(command: str) -> None:
    """iptables-translate says in nft's words what a rule of iptables is."""
    family = "ip6" if " ip6 " in command else "ip"
    save = Dump("i.txt", (f"# Generated by {family}tables-save v1.8.9 (nf_tables)\n" + SAVED).encode(), "n")
    before = {rule.raw for table in asked([save], [])[1] for rule in table.chains["FORWARD"].rules}
    _, (table,) = asked([save], [command])
    (mine,) = [rule.raw for rule in table.chains["FORWARD"].rules if rule.raw not in before]
    tool = "ip6tables-translate" if family == "ip6" else "iptables-translate"
    back = in_namespace(f"{tool} {mine}", "").strip().removeprefix("nft ").strip("'").replace(" counter", "")
    tables = f"table {family} filter {{\n\tchain FORWARD {{\n\t}}\n\tchain OURS {{\n\t}}\n}}\n"
    one, other = (
        asked([native(tables)], [words.replace("insert", "add", 1)])[0][0].chains["FORWARD"].rules
        for words in (command, back)
    )
    assert sorted(map(str, _told(one[0].statements))) == sorted(map(str, _told(other[0].statements)))


def _told(statements: Sequence[NftStatement]) -> list[NftStatement]:
    """Without the match of a protocol where a match of its port asks for it too; a set of one spelling."""
    ports = any(isinstance(s.args[0], NftExpr) and s.args[0].words[-1:] in (("dport",), ("sport",))
                for s in statements if s.kind == "match")  # fmt: skip
    protocol = NftExpr("payload", ("ip", "protocol"))
    return [
        s
        for s in statements
        if not (ports and s.kind == "match" and s.args[0] in (protocol, NftExpr("meta", ("l4proto",))))
    ]


@pytest.mark.lab
@pytest.mark.parametrize("command", KEPT)
def test_iptables_prints_the_rule_that_is_taken(command: str) -> None:
    """A table of iptables-nft with a rule that nft added: what iptables-nft-save prints is what the dump would be."""
    shown = in_namespace(f"iptables-nft-restore\nnft '{command}'\niptables-nft-save -t filter", SAVED)
    (node,) = decode.decode(Snapshot((Dump("i.txt", shown.encode(), "n"),))).nodes.values()
    (real,) = node.tables
    (mine,) = asked([Dump("i.txt", SAVED.encode(), "n")], [command])[1]

    def told(table: Table) -> dict[str, object]:
        return {name: [(sorted(rule.matches, key=str), rule.target) for rule in chain.rules]
                for name, chain in table.chains.items()}  # fmt: skip

    assert told(mine) == told(real)


def test_a_rule_in_a_table_that_iptables_keeps() -> None:
    """There the dump of iptables tells what the table does, so the rule comes into its text."""
    (table,) = asked(
        [Dump("i.txt", SAVED.encode(), "n")], ["add rule ip filter FORWARD tcp dport { 80, 81 } counter drop"]
    )[1]
    assert [rule.raw for rule in table.chains["FORWARD"].rules][1:] == [
        "-A FORWARD -p tcp -m multiport --dports 80,81 -j DROP"
    ]


def test_both_forms_of_a_table_that_nft_tells_better() -> None:
    """With sets of nft the listing counts: a rule of iptables is refused, one of nft is taken into the listing."""
    dumps = [native(), Dump("i.txt", SAVED.replace("by xt", "x").encode(), "n")]
    (changed, *_), _ = asked(dumps, ["add rule ip filter FORWARD ip saddr @blocked drop"])
    assert changed.chains["FORWARD"].rules[-1].raw == "ip saddr @blocked drop"
    with pytest.raises(NotKnown, match="in nft's words"):
        asked(dumps, ["-A FORWARD -j DROP"])


@pytest.mark.parametrize(
    ("command", "error", "why"),
    [
        ("flush ruleset", UsageError, "expected add"),
        ("add rule ip filter FORWARD", UsageError, "not all of it"),
        ("add rule bridge filter FORWARD drop", UsageError, "family bridge"),
        ("delete table ip filter", UsageError, "delete table"),
        ("add rule ip filter FORWARD tcp dport ssh drop", UsageError, "as numbers"),
        ("add rule ip filter FORWARD tcp dport { 80, http } drop", UsageError, "as numbers"),
        ("add rule ip filter FORWARD frobnicate drop", UsageError, "not understood"),
        ("add rule ip filter FORWARD masquerade", UsageError, "type nat"),
        ("add rule ip filter FORWARD handle 5 drop", UsageError, "handles"),
        ("add rule ip filter FORWARD index 9 drop", UsageError, "has 3 rules"),
        ("add chain ip filter x { type filter hook forward priority loud; }", UsageError, "priority"),
        ("add chain ip filter x { drop }", UsageError, "hook"),
        ("add rule ip filter FORWARD ip saddr @none drop", NotFound, "set none"),
        ("add rule ip filter FORWARD jump none", NotFound, "chain none"),
        ("add rule ip filter more jump FORWARD", UsageError, "base chain"),
        ("add rule ip filter more goto more", UsageError, "back to its own"),
        ("add rule ip filter last ip daddr vmap @ends", UsageError, "back to its own"),
        ("add rule ip filter FORWARD ip daddr vmap { 10.0.0.1 : jump none }", NotFound, "chain none"),
        ("add rule ip filter FORWARDS drop", NotFound, "chain FORWARDS"),
        ("add rule inet filter FORWARD drop", NotFound, "table inet filter"),
        ("add chain inet none x", NotFound, "table inet none"),
        ("delete rule ip filter FORWARD udp dport 1 drop", NotFound, "rule udp dport 1 drop"),
    ],
)
def test_what_is_refused(command: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        asked([native()], [command])


@pytest.mark.lab
@pytest.mark.parametrize(
    "command",
    [
        "add rule ip filter FORWARD masquerade", "add rule ip filter FORWARD index 9 drop",
        "add chain ip filter x { type filter hook forward priority loud; }", "add rule ip filter FORWARD ip saddr @none drop",
        "add rule ip filter FORWARD jump none", "add rule ip filter more jump FORWARD", "add rule ip filter more goto more", "add rule ip filter last ip daddr vmap @ends",
        "add rule ip filter FORWARD ip daddr vmap { 10.0.0.1 : jump none }", "add rule ip filter FORWARDS drop",
        "add rule inet filter FORWARD drop", "add chain inet none x", "add rule ip filter FORWARD frobnicate drop",
    ],
)  # fmt: skip
def test_the_kernel_refuses_it_too(command: str) -> None:
    shown = in_namespace(f"nft -f -\nif nft '{command}' 2>&1; then echo taken; fi", BEFORE)
    assert "Error" in shown
    assert "taken" not in shown
    with pytest.raises((NotFound, UsageError)):
        asked([native()], [command])


def test_a_rule_that_has_no_form_in_iptables() -> None:
    with pytest.raises(NotKnown, match="say it as iptables does"):
        asked([Dump("i.txt", SAVED.encode(), "n")], ["add rule ip filter FORWARD ip dscp 5 drop"])


WORDS = st.sampled_from((
    "add", "insert", "delete", "rule", "table", "chain", "ip", "ip6", "inet", "filter", "FORWARD", "more", "none", "{", "}",
    "drop", "jump more", "goto", "ip saddr", "10.0.0.1", "10.0.0.0/8", "@blocked", "@", "tcp dport", "80", "{ 80, 81 }", "index 1",
    "handle 3", "ct state", "new,related", "meta mark set", "0x1", "dnat to", "10.0.0.9:80", "numgen random mod 2 vmap", "vmap",
    "{ 0 : drop }", "type filter hook forward priority 0; policy drop;", "policy drop;", "counter", "log prefix \"x\"", ";", "\\;",
    "comment", "\"x y\"", "reject with", "icmp host-unreachable", "masquerade", "==", "!=", "&", "\x00", "\n", "é",
))  # fmt: skip


@given(st.lists(WORDS, max_size=14).map(" ".join), st.booleans())
def test_any_command_is_taken_or_refused(words: str, kept: bool) -> None:
    dumps = [native(), *([Dump("i.txt", SAVED.encode(), "n")] if kept else [])]
    with suppress(Netk8sError):
        tables, _ = asked(dumps, [f"add rule {words}" if kept else f"nft {words}"])
        assert all(rule.raw for table in tables for chain in table.chains.values() for rule in chain.rules)
