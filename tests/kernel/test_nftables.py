"""What rules of nftables do to a packet, by the kernel's own answer where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s.decode import iptables_save, nft_json, nft_text
from netk8s.kernel import hooks, targets
from netk8s.kernel.flight import Branch, Conn, Flight, steps_of, tuple_of
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.model import ICMP, TCP, UDP, Address, Dump, Link, NftTable, Node, Packet, Table

A = ip_address
PACKET = Packet(TCP, A("10.9.0.2"), A("10.9.0.1"), 40000, 80)
ADDRESSES = (
    Address("lo", A("127.0.0.1"), 8, "host", index=1),
    Address("lo", A("::1"), 128, "host", index=1),
    Address("eth0", A("10.9.0.1"), 24, "global", index=2),
    Address("eth0", A("fd00:9::1"), 64, "global", index=2),
)


def ruleset(text: str) -> tuple[NftTable, ...]:
    """Tables as they would be typed, with lines indented by spaces."""
    lines = [f"{chr(9)}{line.strip()}" if line.strip().endswith("{") and "table " not in line else line for line in
             text.strip().splitlines()]  # fmt: skip
    data = "\n".join(line.strip() if line.strip().startswith("table ") else line for line in lines)
    return tuple(f for f in nft_text.decode(Dump("x", data.encode())) if isinstance(f, NftTable))


def chain(*rules: str, hook: str = "input", priority: str = "0", kind: str = "filter", policy: str = "accept",
          more: str = "", family: str = "inet") -> str:  # fmt: skip
    """One table with one base chain, and ``more`` chains and sets beside it."""
    body = "\n".join(f"\t\t{rule}" for rule in rules)
    head = f"type {kind} hook {hook} priority {priority}; policy {policy};"
    return f"table {family} t {{\n{more}\n\tchain base {{\n\t\t{head}\n{body}\n\t}}\n}}"


def netns(*texts: str, tables: Iterable[Table] = (), covered: Iterable[str] = ("rules4", "rules6")) -> Netns:
    found = [replace(t, index=i) for i, t in enumerate(t for text in texts for t in ruleset(text))]
    known = frozenset({"addr", "link", "nft", "route4", "route6", *covered})
    links = (Link("lo", 1), Link("eth0", 2), Link("cali1", 3, "veth"))
    return Netns(Node("n", tuple(tables), nft=tuple(found), addresses=ADDRESSES, links=links, covered=known))


def start(packet: Packet = PACKET, **changes: object) -> Branch:
    there = tuple_of(packet)
    flight = Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth0")
    return Branch(flight.with_(**changes))


def run(space: Netns, hook: str = "input", branch: Branch | None = None) -> list[Verdict]:
    return list(hooks.run(hook, branch or start(), space))


def likely(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict under what is assumed."""
    (found,) = (v for v in verdicts if all(c.answer == c.question.default for c in v.branch.choices))
    return found


def rules(verdict: Verdict) -> list[str]:
    return [f"{s.chain}: {s.rule}" for s in steps_of(verdict.branch.log) if s.rule is not None]


# ---------------------------------------------------------------- chains and verdicts


def test_a_chain_without_rules_lets_pass() -> None:
    (found,) = run(netns(chain()))
    assert found.kind == targets.ACCEPT
    assert not rules(found)


def test_policy_drop() -> None:
    (found,) = run(netns(chain("tcp dport 81 accept", policy="drop")))
    assert found.kind == targets.DROP
    assert "policy drop of t base" in found.detail


def test_accept_ends_this_base_chain_and_no_other() -> None:
    first = chain("accept", priority="-5")
    second = chain("counter drop", priority="5").replace("table inet t", "table ip u")
    (found,) = run(netns(first, second))
    assert found.kind == targets.DROP
    assert rules(found) == ["base: accept", "base: counter drop"]


def test_jump_comes_back_and_goto_does_not() -> None:
    more = "\tchain a {\n\t\tcounter return\n\t\tdrop\n\t}\n\tchain b {\n\t\tgoto a\n\t\tdrop\n\t}\n"
    (found,) = run(netns(chain("jump b", "goto a", "drop", more=more)))
    assert found.kind == targets.ACCEPT
    assert rules(found) == [
        "base: jump b", "b: goto a", "a: counter return", "base: goto a", "a: counter return",
    ]  # fmt: skip


def test_chains_that_go_in_a_circle_end() -> None:
    more = "\tchain a {\n\t\tgoto b\n\t}\n\tchain b {\n\t\tgoto a\n\t}\n\tchain c {\n\t\tjump c\n\t}\n"
    for word in ("goto a", "jump c"):
        (found,) = run(netns(chain(word, more=more)))
        assert found.kind == targets.UNKNOWN


def test_what_a_rule_changed_before_it_broke_off_stays() -> None:
    (found,) = run(netns(chain("meta mark set 0x5 tcp dport 81 drop", "meta mark 0x5 counter")))
    assert rules(found) == ["base: meta mark 0x5 counter"]
    assert found.branch.flight.packet.mark == 5


def test_a_chain_that_is_not_there_is_unknown() -> None:
    (found,) = run(netns(chain("jump nowhere")))
    assert found.kind == targets.UNKNOWN
    assert "nowhere" in found.detail


def test_an_expression_that_is_not_understood_is_followed_both_ways() -> None:
    found = run(netns(chain('osf name "Linux" drop', "tcp dport 80 accept")))
    assert {v.kind for v in found} == {targets.ACCEPT, targets.DROP}
    (question,) = {c.question.if_true for v in found for c in v.branch.choices}
    assert "osf" in question


# ---------------------------------------------------------------- the order of hooks


def _legacy(text: str) -> list[Table]:
    return [f for f in iptables_save.decode(Dump("y", text.encode())) if isinstance(f, Table)]


FILTER = "# Generated by iptables-save v1.8.9 (nf_tables) on x\n*filter\n:INPUT {} [0:0]\n{}COMMIT\n"


def test_native_chains_and_iptables_share_one_order() -> None:
    tables = _legacy(FILTER.format("ACCEPT", "-A INPUT -p tcp -j ACCEPT\n"))
    space = netns(chain("counter", priority="-1"), chain("counter drop", priority="1").replace("inet t", "ip u"),
                  tables=tables)  # fmt: skip
    (found,) = run(space)
    assert rules(found) == ["base: counter", "INPUT: -A INPUT -p tcp -j ACCEPT", "base: counter drop"]


def test_tables_of_iptables_nft_are_not_counted_twice() -> None:
    tables = _legacy(FILTER.format("ACCEPT", "-A INPUT -p tcp -j ACCEPT\n"))
    native = "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy accept;\n\t\tdrop\n\t}\n}"
    (found,) = run(netns(native, tables=tables))
    assert found.kind == targets.ACCEPT
    (alone,) = run(netns(native))
    assert alone.kind == targets.DROP


def test_of_equal_priorities_the_later_table_is_asked_first_and_the_other_order_is_shown() -> None:
    old = chain("tcp dport 80 reject with tcp reset")
    new = chain("tcp dport 80 drop").replace("inet t", "ip u")
    found = run(netns(old, new))
    assert [v.kind for v in found] == [targets.DROP, targets.REJECT]
    likely, other = (c for v in found for c in v.branch.choices)
    assert likely.question.default is True
    assert "nftables chain ip u base" in likely.question.if_true
    assert not other.answer
    assert all(s.assumed for v in found for s in steps_of(v.branch.log))


def test_no_order_is_assumed_where_it_makes_no_difference() -> None:
    (found,) = run(netns(chain("counter accept"), chain("counter").replace("inet t", "ip u")))
    assert found.kind == targets.ACCEPT
    assert not found.branch.choices
    assert not found.branch.assumptions


def test_within_one_table_the_order_is_known() -> None:
    more = "\tchain first {\n\t\ttype filter hook input priority 0; policy accept;\n\t\tdrop\n\t}\n"
    (found,) = run(netns(chain("reject", more=more)))
    assert found.kind == targets.REJECT
    assert not found.branch.choices


def test_dormant_tables_do_nothing() -> None:
    text = chain("drop").replace("table inet t {", "table inet t {\n\tflags dormant")
    (found,) = run(netns(text))
    assert found.kind == targets.ACCEPT


def test_a_chain_of_type_route_reroutes_and_one_of_type_filter_does_not() -> None:
    for kind, called in (("route", True), ("filter", False)):
        seen: list[str] = []

        def after(name: str, before: Flight, branch: Branch, seen: list[str] = seen) -> list[Verdict]:
            if branch.flight.packet.mark != before.packet.mark:
                seen.append(name)
            return [Verdict(branch, targets.ACCEPT)]

        space = netns(chain("meta mark set 0x1", hook="output", kind=kind))
        list(hooks.run("output", start(), space, after))  # type: ignore[arg-type]
        assert (seen == ["mangle"]) is called


def test_what_runs_before_conntrack_has_no_entry() -> None:
    for priority, matched in (("raw", True), ("-200", True), ("-199", False)):
        (found,) = run(netns(chain("ct state invalid counter", hook="prerouting", priority=priority)), "prerouting")
        assert bool(rules(found)) is matched


def test_notrack_before_conntrack_leaves_nat_out() -> None:
    raw = chain("notrack", hook="prerouting", priority="raw")
    nat = chain("dnat ip to 10.9.0.9", hook="prerouting", priority="dstnat", kind="nat").replace("inet t", "inet u")
    (found,) = run(netns(raw, nat), "prerouting")
    assert found.branch.flight.packet == PACKET


@pytest.mark.parametrize(("state", "then"), [("INVALID", "UNTRACKED"), ("ESTABLISHED", "ESTABLISHED")])
def test_notrack_behind_conntrack_is_for_packets_without_an_entry(state: str, then: str) -> None:
    """A packet that is invalid to conntrack has no entry (nft_notrack_eval); seen on Linux 6.18."""
    there = tuple_of(PACKET)
    branch = start(conn=Conn(state, "ORIGINAL", there, there.reversed()))
    (found,) = run(netns(chain("notrack", hook="prerouting", priority="mangle")), "prerouting", branch)
    assert found.branch.flight.conn.state == then


def test_tables_that_see_packets_before_ip_are_named() -> None:
    ingress = 'table netdev n {\n\tchain i {\n\t\ttype filter hook ingress device "eth0" priority 0; policy accept;\n\t\tdrop\n\t}\n}'
    (found,) = run(netns(ingress), "prerouting")
    assert "table netdev n" in found.branch.assumptions[0]


def test_rules_that_no_dump_of_iptables_shows_are_an_assumption() -> None:
    (found,) = run(netns(chain(hook="prerouting"), covered=()), "prerouting")
    assert found.branch.assumptions == ("no iptables-save of n: it is taken to have no legacy iptables rules",)


# ---------------------------------------------------------------- translation


def nat(*rules: str, hook: str = "prerouting", more: str = "", family: str = "ip") -> str:
    priority = "dstnat" if hook in ("prerouting", "output") else "srcnat"
    return chain(*rules, hook=hook, priority=priority, kind="nat", more=more, family=family)


def test_the_first_translation_wins() -> None:
    first = nat("dnat to 10.9.0.8:8080")
    second = nat("dnat to 10.9.0.9").replace("ip t", "inet u").replace("priority dstnat", "priority -90")
    (found,) = run(netns(second, first), "prerouting")
    assert (str(found.branch.flight.packet.dst), found.branch.flight.packet.dport) == ("10.9.0.8", 8080)
    assert found.branch.flight.conn.dnat


def test_nat_chains_run_where_the_kernel_has_its_nat_function() -> None:
    """A nat chain at -150 still runs behind a filter chain at -110."""
    text = nat("dnat to 10.9.0.8").replace("priority dstnat", "priority -150")
    other = chain("ip daddr 10.9.0.1 counter", hook="prerouting", priority="-110").replace("inet t", "inet u")
    (found,) = run(netns(text, other), "prerouting")
    assert rules(found) == ["base: ip daddr 10.9.0.1 counter", "base: dnat to 10.9.0.8"]


def test_only_new_connections_are_translated() -> None:
    branch = start()
    branch = branch.fly(branch.flight.with_(conn=replace(branch.flight.conn, state="ESTABLISHED")))
    (found,) = run(netns(nat("dnat to 10.9.0.8")), "prerouting", branch)
    assert not rules(found)


def test_dice_by_map() -> None:
    rule = "meta l4proto tcp dnat ip to numgen random mod 3 map { 0 : 10.9.0.7 . 81, 1-2 : 10.9.0.8 . 82 }"
    found = run(netns(nat(rule)), "prerouting")
    assert [(str(v.branch.flight.packet.dst), v.branch.flight.packet.dport, v.branch.odds) for v in found] == [
        ("10.9.0.7", 81, Fraction(1, 3)),
        ("10.9.0.8", 82, Fraction(2, 3)),
    ]
    (step,) = steps_of(found[1].branch.log)
    assert step.odds == Fraction(2, 3)
    assert step.changes == (("dst", "10.9.0.1:80 → 10.9.0.8:82"),)


def test_dice_with_a_gap() -> None:
    found = run(netns(chain("numgen random mod 4 vmap { 0 : drop, 3 : accept }", "reject")))
    assert {v.kind: v.branch.odds for v in found} == {
        targets.DROP: Fraction(1, 4), targets.ACCEPT: Fraction(1, 4), targets.REJECT: Fraction(1, 2),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("match", "odds"),
    [
        ("numgen random mod 10 < 3", Fraction(3, 10)),
        ("numgen random mod 10 != 3", Fraction(9, 10)),
        ("numgen random mod 10 offset 100 { 100, 105-200 }", Fraction(6, 10)),
        ("meta random & 2147483647 < 1073741824", Fraction(1, 2)),
        ("numgen inc mod 4 0", Fraction(1, 4)),
        ("jhash ip saddr mod 5 2", Fraction(1, 5)),
    ],
)
def test_dice_in_matches(match: str, odds: Fraction) -> None:
    found = run(netns(chain(f"{match} drop")))
    assert sum(v.branch.odds for v in found) == 1
    assert [v.branch.odds for v in found if v.kind == targets.DROP] == [odds]
    noted = any(v.branch.assumptions for v in found)
    assert noted == ("inc" in match or "jhash" in match)


@pytest.mark.parametrize(
    ("rule", "destination"),
    [
        ("dnat ip to ip daddr map { 10.9.0.1 : 10.9.0.5 }", "10.9.0.5:80"),
        ("dnat ip to tcp dport map @ports", "10.9.0.6:80"),
        ("dnat ip to ip saddr . tcp dport map @pairs", "10.9.0.7:8080"),
        ("dnat to :8080", "10.9.0.1:8080"),
        ("redirect to :81", "10.9.0.1:81"),
        ("dnat ip prefix to ip daddr map { 10.9.0.0/24 : 10.8.0.0/24 }", "10.8.0.1:80"),
        ("dnat ip to tcp dport map { 81 : 10.9.0.5 }", "10.9.0.1:80"),
    ],
)
def test_destinations(rule: str, destination: str) -> None:
    more = (
        "\tmap ports {\n\t\ttype inet_service : ipv4_addr\n\t\tflags interval\n\t\telements = { 1-100 : 10.9.0.6 }\n\t}\n"
        "\tmap pairs {\n\t\ttype ipv4_addr . inet_service : ipv4_addr . inet_service\n\t\tflags interval\n"
        "\t\telements = { 10.9.0.0/24 . 80 : 10.9.0.7 . 8080 }\n\t}\n"
    )
    (found,) = run(netns(nat(rule, more=more)), "prerouting")
    assert targets.endpoint_text(found.branch.flight.packet.dst, found.branch.flight.packet.dport) == destination


def test_masquerade_names_the_rule_that_rewrote() -> None:
    branch = start(oif="eth0")
    (found,) = run(netns(nat("masquerade fully-random", hook="postrouting")), "postrouting", branch)
    (rewrite,) = found.branch.flight.rewrites
    assert (rewrite.rule, rewrite.table, rewrite.chain, str(rewrite.after)) == (
        "masquerade fully-random", "t", "base", "10.9.0.1",
    )  # fmt: skip


def test_a_translation_of_the_other_family_is_passed_over() -> None:
    (found,) = run(netns(nat("dnat ip6 to fd00::7", family="inet")), "prerouting")
    assert found.branch.flight.packet == PACKET
    assert rules(found) == ["base: dnat ip6 to fd00::7"]


@pytest.mark.parametrize(
    ("rule", "packet", "detail"),
    [
        ("reject", PACKET, "icmp-port-unreachable"),
        ("reject", Packet(TCP, A("fd00:9::2"), A("fd00:9::1"), 1, 2), "icmp6-port-unreachable"),
        ("meta l4proto tcp reject with tcp reset", PACKET, "tcp-reset"),
        ("reject with icmpx admin-prohibited", PACKET, "icmp-admin-prohibited"),
        ("reject with icmp host-unreachable", PACKET, "icmp-host-unreachable"),
        ("reject with icmpv6 no-route", Packet(TCP, A("fd00:9::2"), A("fd00:9::1"), 1, 2), "icmp6-no-route"),
    ],
)
def test_rejects(rule: str, packet: Packet, detail: str) -> None:
    (found,) = run(netns(chain(rule)), branch=start(packet))
    assert (found.kind, found.detail) == (targets.REJECT, detail)


# ---------------------------------------------------------------- what is not known


def test_a_set_that_rules_fill_is_a_memory() -> None:
    more = "\tset s {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t\ttimeout 10m\n\t}\n"
    found = run(netns(chain("ip saddr @s drop", "update @s { ip saddr }", more=more)))
    assert likely(found).kind == targets.ACCEPT
    assert len(found) == 2
    (question,) = {c.question for v in found for c in v.branch.choices}
    assert question.memory
    assert question.default is False


def test_a_set_holds_what_the_packet_itself_added_and_not_what_it_deleted() -> None:
    more = "\tset s {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t\ttimeout 10m\n\t}\n"
    assert [v.kind for v in run(netns(chain("update @s { ip saddr }", "ip saddr @s drop", more=more)))] == [
        targets.DROP
    ]
    gone = ("add @s { ip saddr }", "delete @s { ip saddr }", "ip saddr @s drop")
    assert [v.kind for v in run(netns(chain(*gone, more=more)))] == [targets.ACCEPT]


def test_what_the_set_held_when_the_dump_was_taken_is_the_likelier_answer() -> None:
    more = (
        "\tset s {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t\ttimeout 10m\n"
        "\t\telements = { 10.9.0.2 expires 5m3s2ms }\n\t}\n"
    )
    found = run(netns(chain("ip saddr @s drop", more=more)))
    assert likely(found).kind == targets.DROP
    assert len(found) == 2


def test_a_source_port_that_nobody_knows() -> None:
    branch = start(PACKET.replace(sport=None))
    assert [v.kind for v in run(netns(chain("tcp sport 1024-65535 drop")), branch=branch)] == [targets.DROP]
    assert [v.kind for v in run(netns(chain("tcp sport < 1024 drop")), branch=branch)] == [targets.ACCEPT]
    found = run(netns(chain("tcp sport { 5000, 22 } drop")), branch=branch)
    assert likely(found).kind == targets.ACCEPT
    assert len(found) == 2


def test_a_device_that_nobody_knows() -> None:
    branch = start(iif=None, iif_known=False)
    found = run(netns(chain('iifname "cali*" drop')), branch=branch)
    assert likely(found).kind == targets.ACCEPT
    assert len(found) == 2


def test_limits_hold_and_what_is_over_them_does_not() -> None:
    assert likely(run(netns(chain("limit rate 5/second drop")))).kind == targets.DROP
    assert likely(run(netns(chain("limit rate over 5/second drop")))).kind == targets.ACCEPT
    assert likely(run(netns(chain("ct count over 5 drop")))).kind == targets.ACCEPT
    assert likely(run(netns(chain("update @s { ip saddr limit rate over 1/minute } drop")))).kind == targets.ACCEPT


def test_sets_that_are_not_in_the_dump() -> None:
    found = run(netns(chain("ip saddr @gone drop", "ip saddr vmap @lost")))
    assert {v.kind for v in found} == {targets.ACCEPT, targets.DROP, targets.UNKNOWN}


def test_extensions_of_iptables_that_json_hides() -> None:
    for statement, kind in (
        ('xt match "comment"', {targets.ACCEPT}),
        ('xt match "recent" drop', {targets.ACCEPT, targets.DROP}),
        ('xt target "DNAT"', {targets.UNKNOWN}),
        ('xt target "LOG"', {targets.ACCEPT}),
    ):
        assert {v.kind for v in run(netns(chain(statement)))} == kind


def test_a_verdict_map_by_something_not_known_wholly() -> None:
    branch = start(PACKET.replace(sport=None))
    found = run(
        netns(chain("ip saddr . tcp sport vmap { 10.9.0.2 . 5000 : drop, 10.9.0.3 . 5001 : reject }")), branch=branch
    )
    assert likely(found).kind == targets.ACCEPT
    assert {v.kind for v in found} == {targets.ACCEPT, targets.DROP}


def test_icmp_has_no_ports() -> None:
    packet = Packet(ICMP, A("10.9.0.2"), A("10.9.0.1"), icmp_type=8, icmp_code=0, tcp_flags=frozenset())
    (found,) = run(
        netns(chain("tcp dport 80 drop", "icmp type { echo-request, 13 } accept", "drop")), branch=start(packet)
    )
    assert found.kind == targets.ACCEPT


# ---------------------------------------------------------------- the kernel's own answer

SETS = """table inet t {
	set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.5-192.168.1.9 }; }
	set nets6 { type ipv6_addr; flags interval; elements = { fd00::/16 }; }
	set ifs { type ifname; flags interval; elements = { "l*", "eth0" }; }
	set ifs2 { type ifname; elements = { "lo", "eth0" }; }
	set ranges { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 5000-6000 , 1.1.1.1 . 53 }; }
	set exact { type ipv4_addr . inet_proto . inet_service; elements = { 10.9.0.1 . udp . 5555, 10.9.0.1 . tcp . 80 }; }
	map marks { type ipv4_addr : mark; elements = { 10.9.0.2 : 0x10 }; }
	chain c1 { counter;}
	chain c2 { counter return;counter;}
	chain c4 { counter;}
	chain c3 { counter goto c4;}
	chain c5 { counter jump c3;counter;}
	map ways { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.9.0.1 . tcp . 5555 : goto c1, 10.9.0.1 . udp . 5555 : jump c2 }; }
	map ports { type inet_service : verdict; flags interval; elements = { 5000-5600 : jump c2, * : jump c3 }; }
	chain input { type filter hook input priority 0; }
	chain output { type filter hook output priority -300; }
	chain route { type route hook output priority -150; }
	chain postrouting { type filter hook postrouting priority 0; }
	chain prerouting { type filter hook prerouting priority 0; }
}
"""

MATCHES = """
ct state new ;; ct state established,related ;; ct state != established,related ;; ct state != new ;; ct state ! new
ct state ! established ;; ct state { established, new } ;; ct state != { established, new } ;; ct state invalid
ct state vmap { invalid : jump c1, new : jump c2 } ;; ct status dnat ;; ct status != dnat ;; ct status confirmed
ct status ! dnat ;; ct direction original ;; ct direction reply ;; ct direction != reply
ct original ip daddr 10.9.0.1 ;; ct original ip saddr 10.9.0.1 ;; ct original ip6 saddr fd00:9::2
ct reply ip saddr 10.9.0.1 ;; ct mark 0 ;; ct mark != 0 ;; ct l3proto ipv4 ;; ct protocol udp
meta nfproto ipv4 ;; meta nfproto ipv6 ;; meta l4proto udp ;; meta l4proto != udp ;; meta l4proto { tcp, udp }
meta l4proto . th dport { udp . 5555, tcp . 80 } ;; meta protocol ip ;; meta protocol ip6 ;; ip protocol udp
ip6 nexthdr tcp ;; ip saddr 10.9.0.2 ;; ip saddr != 10.9.0.2 ;; ip saddr 10.9.0.0/24 ;; ip saddr != 10.9.0.0/24
ip saddr 10.9.0.1-10.9.0.3 ;; ip saddr != 10.9.0.1-10.9.0.3 ;; ip saddr { 10.9.0.2, 10.9.0.5 }
ip saddr != { 10.9.0.2, 10.9.0.5 } ;; ip saddr @nets ;; ip saddr != @nets ;; ip6 saddr @nets6 ;; ip6 saddr fd00::/8
ip6 saddr != fd00::/8 ;; ip daddr . th dport @ranges ;; ip daddr . th dport != @ranges
ip daddr . meta l4proto . th dport @exact ;; ip daddr . meta l4proto . th dport vmap @ways ;; th dport vmap @ports
udp dport vmap @ports ;; tcp sport vmap @ports ;; tcp dport 5555 ;; tcp dport != 5555 ;; udp dport != 5555
udp dport 5000-6000 ;; udp dport != 5000-6000 ;; udp sport { 4444, 1000-2000 } ;; udp sport > 4444 ;; udp sport >= 4444
udp sport < 4444 ;; udp sport <= 4444 ;; th sport 4444 ;; tcp flags syn ;; tcp flags != syn
tcp flags & (fin|syn|rst|ack) == syn ;; tcp flags & (fin|syn) == fin|syn ;; tcp flags { syn, syn|ack }
tcp flags ! syn ;; tcp flags ! ack ;; tcp flags & (syn|ack) != 0 ;; tcp flags syn,ack
iifname "lo" ;; iifname != "lo" ;; iifname "l*" ;; iifname "eth*" ;; iifname @ifs ;; iifname @ifs2
iifname { "lo", "x" } ;; iif lo ;; iif != lo ;; oifname "lo" ;; oifname != "lo" ;; oif lo ;; oif 0
meta mark 0 ;; meta mark != 0 ;; meta mark & 0x1 == 0 ;; meta mark & 0x4000 != 0
meta mark set 0x4001 meta mark & 0x4000 == 0x4000 ;; meta mark 0x4001 ;; meta mark 0x4000-0x5000
meta mark set meta mark ^ 0x4000 ip saddr 1.2.3.4 ;; meta mark 1 ;; meta mark set meta mark | 0xf0 ;; meta mark 0xf1
meta mark set meta mark & 0x0f ;; meta mark 1 ;; meta mark set ip saddr map @marks ;; meta mark 0x10
meta mark vmap { 0x10 : jump c1, 0x0-0x5 : jump c2 } ;; meta mark set ip daddr map @marks
meta mark set 7 ct mark set meta mark ;; ct mark 7 ;; ct mark set ct mark | 0x8 ;; ct mark & 0x8 == 0x8
meta mark set ct mark ;; meta mark 0xf ;; fib daddr type local ;; fib saddr type local ;; fib daddr type unicast
fib daddr . iif type local ;; fib daddr type { local, broadcast } ;; fib daddr type != local
fib daddr type != { local, broadcast } ;; meta pkttype host ;; meta pkttype broadcast ;; icmp type echo-request
icmpv6 type nd-neighbor-solicit ;; numgen random mod 1 0 ;; numgen random mod 1 vmap { 0 : jump c5 } ;; symhash mod 1 0
jump c5 ;; jump c2 ;; ct zone 0 ;; limit rate 100/second ;; limit rate over 100/second ;; quota 1 mbytes ;; quota over 1 mbytes
"""

WORKER = """
import json, socket, subprocess, sys, time
job = json.load(sys.stdin)
def sh(*words, text=None):
    done = subprocess.run(words, input=text, text=True, capture_output=True)
    assert done.returncode == 0, (words, text, done.stderr)
    return done.stdout
sh("ip", "link", "set", "lo", "up")
for address in ("10.9.0.1/24", "10.9.0.2/24"):
    sh("ip", "addr", "add", address, "dev", "lo")
for address in ("fd00:9::1/64", "fd00:9::2/64"):
    sh("ip", "-6", "addr", "add", address, "dev", "lo", "nodad")
# The kernel adds the routes of IPv6 addresses later, by itself (addrconf_dad_work).
for _ in range(500):
    local = sh("ip", "-6", "route", "show", "table", "local")
    if "fd00:9::1 " in local and "fd00:9::2 " in local:
        break
    time.sleep(0.01)
sh("nft", "-f", "-", text=job["ruleset"])
family = socket.AF_INET6 if ":" in job["src"] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM if job["udp"] else socket.SOCK_STREAM) as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, job["mark"])
    s.bind((job["src"], 4444))
    s.settimeout(0.2)
    try:
        s.connect((job["dst"], 5555))
        s.send(b"x")
    except OSError:
        pass
time.sleep(0.02)
print(json.dumps({"json": sh("nft", "-j", "list", "ruleset"), "text": sh("nft", "list", "ruleset")}))
"""


@pytest.mark.lab
@pytest.mark.parametrize("mark", [0, 1])
@pytest.mark.parametrize("udp", [True, False], ids=["udp", "tcp"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", ["prerouting", "input", "output", "route", "postrouting"])
def test_the_rules_that_match_are_those_that_the_kernel_counts(name: str, family: int, udp: bool, mark: int) -> None:
    """One packet over lo in a namespace of its own; each rule counts, and the first two keep its answers out."""
    hook = "output" if name == "route" else name
    listed = [m.strip() for line in MATCHES.strip().splitlines() for m in line.split(" ;; ")]
    # The kernel takes no fib with an incoming device where there is none.
    listed = [m for m in listed if ". iif" not in m or hook in ("prerouting", "input")]
    texts = ["meta l4proto != { tcp, udp } accept", "th dport != 5555 accept"]
    texts += [m if "vmap" in m or m.startswith("jump") else f"{m} counter" for m in listed]
    src, dst = (A("10.9.0.2"), A("10.9.0.1")) if family == 4 else (A("fd00:9::2"), A("fd00:9::1"))
    loaded = SETS + "".join(f"add rule inet t {name} {text}\n" for text in texts)
    job = {"ruleset": loaded, "udp": udp, "mark": mark, "src": str(src), "dst": str(dst)}
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", WORKER], input=json.dumps(job), capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    counted = _counted(json.loads(out["json"]))
    assert len(counted) > len(listed) - 10

    packet = Packet(UDP if udp else TCP, src, dst, 4444, 5555, mark=mark)
    there = tuple_of(packet)
    flight = Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()))
    if hook in ("prerouting", "input"):
        flight = flight.with_(iif="lo", looped=True)
    else:
        flight = flight.with_(oif="lo", local=True)
    addresses = tuple(replace(a, dev="lo", index=1) for a in (*ADDRESSES, Address("lo", src, 24, "global")))
    for decoder, text in ((nft_json, out["json"]), (nft_text, out["text"])):
        (table,) = (f for f in decoder.decode(Dump("x", text.encode())) if isinstance(f, NftTable))
        # Only the chain in question: the marks of the others are those of their own run.
        chains = {n: c if not c.hook or n == name else replace(c, hook="") for n, c in table.chains.items()}
        node = Node("n", nft=(replace(table, chains=chains),), addresses=addresses, links=(Link("lo", 1),),
                    covered=frozenset({"nft", "addr", "route4", "route6", "rules4", "rules6"}))  # fmt: skip
        verdict = likely(hooks.run(hook, Branch(flight), Netns(node)))
        matched = {id(step.nft) for step in steps_of(verdict.branch.log)}
        wrong = [
            f"{chain} {i}: {rule.raw}: the kernel {'counts' if counted[chain, i] else 'does not count'} it"
            for chain, found in table.chains.items()
            for i, rule in enumerate(found.rules)
            if (chain, i) in counted and counted[chain, i] != (id(rule) in matched)
        ]
        assert not wrong, "\n".join(wrong)


def _counted(listing: dict[str, list[dict[str, dict[str, object]]]]) -> dict[tuple[str, int], bool]:
    """(chain, place of the rule) -> whether its counter saw a packet."""
    out: dict[tuple[str, int], bool] = {}
    places: dict[str, int] = {}
    for item in listing["nftables"]:
        rule = item.get("rule")
        if rule is not None:
            name = str(rule["chain"])
            place = places[name] = places.get(name, -1) + 1
            for statement in rule["expr"]:  # type: ignore[attr-defined]
                if "counter" in statement:
                    out[name, place] = statement["counter"]["packets"] > 0
    return out


def test_every_statement_that_nft_prints_is_evaluated(request: pytest.FixtureRequest) -> None:
    """No statement of a real listing stops the traversal with an exception, whatever the packet is."""
    text = (Path(__file__).parent.parent / "decode" / "nft" / "every-statement.txt").read_bytes()
    (table,) = (f for f in nft_text.decode(Dump("x", text)) if isinstance(f, NftTable))
    packets = [
        PACKET,
        Packet(UDP, A("fd00:9::2"), A("fd00:9::1"), None, 53),
        Packet(ICMP, A("10.9.0.2"), A("10.9.0.1")),
    ]
    for packet in packets:
        for name, found in table.chains.items():
            for rule in found.rules:
                one = replace(table, chains={**table.chains, name: replace(found, rules=(rule,))})
                node = Node("n", nft=(one,), addresses=ADDRESSES, links=(Link("lo", 1), Link("eth0", 2)),
                            covered=frozenset({"nft", "addr", "route4", "route6"}))  # fmt: skip
                for hook in ("prerouting", "input", "output", "postrouting"):
                    verdicts = list(hooks.run(hook, start(packet, oif="eth0", local=hook == "output"), Netns(node)))
                    assert verdicts
                    # Branches of a question are alternatives; within one answer to all, the dice add up to one.
                    assert all(0 < v.branch.odds <= 1 for v in verdicts), rule.raw
