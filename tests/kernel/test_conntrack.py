"""Which packets open an entry (nf_conntrack_proto_tcp.c, _icmp.c, _icmpv6.c), and what an earlier entry decides."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from netk8s.decode import conntrack as decode_conntrack
from netk8s.decode import iptables_save
from netk8s.kernel import hooks, ipvs, targets
from netk8s.kernel.conntrack import first_state, untranslated
from netk8s.kernel.flight import Branch, Conn, Flight, steps_of, tuple_of
from netk8s.kernel.netns import Netns
from netk8s.model import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Address,
    At,
    ConntrackTable,
    Dump,
    Node,
    Packet,
    RealServer,
    Sysctl,
    Table,
    VirtualServer,
)

V4 = (ip_address("192.0.2.1"), ip_address("192.0.2.2"))
V6 = (ip_address("2001:db8::1"), ip_address("2001:db8::2"))


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        ("SYN", "NEW"),
        ("SYN ECE CWR", "NEW"),
        ("ACK", "NEW"),
        ("ACK PSH", "NEW"),
        ("SYN ACK", "INVALID"),
        ("RST", "INVALID"),
        ("RST ACK", "INVALID"),
        ("FIN ACK", "INVALID"),
        ("FIN", "INVALID"),
        ("", "INVALID"),
        ("SYN FIN", "INVALID"),
        ("FIN PSH URG", "INVALID"),
    ],
)
def test_tcp(flags: str, state: str) -> None:
    packet = Packet(TCP, *V4, 40000, 80, tcp_flags=frozenset(flags.split()))
    assert first_state(packet) == state


def test_an_ack_in_the_middle_of_a_connection_opens_an_entry_only_where_that_is_allowed() -> None:
    packet = Packet(TCP, *V4, 40000, 80, tcp_flags=frozenset({"ACK"}))
    assert first_state(packet, loose=False) == "INVALID"


@pytest.mark.parametrize(
    ("kind", "state"), [(8, "NEW"), (13, "NEW"), (0, "INVALID"), (3, "INVALID"), (11, "INVALID"), (14, "INVALID")]
)
def test_icmp(kind: int, state: str) -> None:
    assert first_state(Packet(ICMP, *V4, icmp_type=kind, icmp_code=0)) == state


@pytest.mark.parametrize(
    ("kind", "state"), [(128, "NEW"), (129, "INVALID"), (1, "INVALID"), (135, "UNTRACKED"), (143, "UNTRACKED")]
)
def test_icmpv6(kind: int, state: str) -> None:
    assert first_state(Packet(ICMPV6, *V6, icmp_type=kind, icmp_code=0)) == state


def test_udp_has_no_wrong_beginning() -> None:
    assert first_state(Packet(UDP, *V4, 53, 40000, tcp_flags=frozenset())) == "NEW"


# ---------------------------------------------------------------- entries of earlier packets

CLIENT, SERVICE, NODE_IP = ip_address("192.0.2.50"), ip_address("10.96.0.10"), ip_address("192.0.2.1")
OLD, NEWER = ip_address("10.244.1.5"), ip_address("10.244.1.6")
RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 10.96.0.10/32 -j DNAT --to-destination 10.244.1.6
-A POSTROUTING -j MASQUERADE
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m conntrack --ctstate ESTABLISHED -j MARK --set-xmark 0x1/0xffffffff
-A PREROUTING -m conntrack --ctstatus ASSURED -j MARK --set-xmark 0x2/0x2
COMMIT
"""
TO_OLD = "src=192.0.2.50 dst=10.96.0.10 sport=40000 dport={} {}src=10.244.1.5 dst=192.0.2.1 sport={} dport=1025 {}"
ANSWERED = "udp 17 100 " + TO_OLD.format(53, "", 5353, "[ASSURED] mark=0 use=1")
UNANSWERED = "udp 17 25 " + TO_OLD.format(53, "[UNREPLIED] ", 5353, "mark=0 use=1")


def node(listing: str, rules: str = RULES, **more: object) -> Netns:
    tables = tuple(f for f in iptables_save.decode(Dump("rules", rules.encode())) if isinstance(f, Table))
    listed = tuple(f for f in decode_conntrack.decode(Dump("ct", listing.encode())) if isinstance(f, ConntrackTable))
    facts: dict[str, object] = {
        "addresses": (Address("eth0", NODE_IP, 24, "global", index=2),),
        "covered": frozenset({"addr", "rules4"}),
    }
    return Netns(Node("n", tables=tables, conntrack=listed, **{**facts, **more}))  # type: ignore[arg-type]


def sent(protocol: int = UDP, sport: int | None = 40000, dport: int = 53) -> Branch:
    packet = Packet(protocol, CLIENT, SERVICE, sport, dport)
    there = tuple_of(packet)
    return Branch(Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth0", oif="eth1"))


def through(space: Netns, branch: Branch) -> Branch:
    for hook in ("prerouting", "postrouting"):
        (verdict,) = hooks.run(hook, branch, space)
        assert verdict.kind == targets.ACCEPT
        branch = verdict.branch
    return branch


def ends(branch: Branch) -> tuple[object, ...]:
    packet = branch.flight.packet
    return packet.src, packet.sport, packet.dst, packet.dport


def test_an_entry_decides_and_the_nat_rules_are_not_asked() -> None:
    done = through(node(ANSWERED), sent())
    assert ends(done) == (NODE_IP, 1025, OLD, 5353)
    steps = steps_of(done.log)
    assert not [s for s in steps if s.table == "nat" and s.rule is not None]
    decides = [s for s in steps if "an earlier connection decides" in s.action]
    assert [str(s.at) for s in decides] == ["ct:1"]
    assert [r.at for r in done.flight.rewrites] == [At("ct", 1)]
    assert (done.flight.conn.state, done.flight.packet.mark) == ("ESTABLISHED", 3), "mangle sees its state"


def test_conntrack_stands_between_raw_and_mangle() -> None:
    rules = RULES.replace(
        "*mangle",
        "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.96.0.10/32 -j MARK --set-xmark 0x0/0x0\nCOMMIT\n*mangle",
    )
    ((verdict),) = hooks.run("prerouting", sent(), node(ANSWERED, rules))
    steps = [s.table or "conntrack" for s in steps_of(verdict.branch.log)]
    assert steps == ["raw", "conntrack", "mangle", "mangle", "conntrack"]


def test_what_raw_does_not_track_has_no_entry() -> None:
    rules = RULES.replace("*mangle", "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j CT --notrack\nCOMMIT\n*mangle")
    assert ends(through(node(ANSWERED, rules), sent())) == (CLIENT, 40000, SERVICE, 53)


def test_until_an_answer_came_a_connection_is_new_and_bound_all_the_same() -> None:
    done = through(node(UNANSWERED), sent())
    assert ends(done) == (NODE_IP, 1025, OLD, 5353)
    assert (done.flight.conn.state, done.flight.packet.mark) == ("NEW", 0)


@pytest.mark.parametrize(
    ("branch", "listing"),
    [
        (sent(sport=None), ANSWERED),
        (sent(sport=40001), ANSWERED),
        (sent(dport=54), ANSWERED),
        (sent(TCP), ANSWERED),
        (sent(), f"{ANSWERED} zone=4"),
    ],
    ids=["no source port", "another port", "another service", "another protocol", "a zone"],
)
def test_a_packet_of_no_entry_asks_the_rules(branch: Branch, listing: str) -> None:
    assert through(node(listing), branch).flight.packet.dst == NEWER


def test_an_answer_is_translated_back() -> None:
    packet = Packet(UDP, OLD, NODE_IP, 5353, 1025)
    there = tuple_of(packet)
    done = through(node(ANSWERED), Branch(Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth1")))
    assert ends(done) == (SERVICE, 53, CLIENT, 40000)
    assert done.flight.conn.direction == "REPLY"


@pytest.mark.parametrize(
    ("state", "to"), [("ESTABLISHED", OLD), ("CLOSE_WAIT", OLD), ("TIME_WAIT", NEWER), ("CLOSE", NEWER)]
)
def test_a_new_connection_takes_the_place_of_one_that_is_over(state: str, to: object) -> None:
    """nf_conntrack_tcp_packet: a SYN reopens what was closed, and the packet is looked up again."""
    listing = f"tcp 6 100 {state} " + TO_OLD.format(53, "", 5353, "[ASSURED] mark=0 use=1")
    done = through(node(listing), sent(TCP))
    assert done.flight.packet.dst == to
    assert (done.flight.packet.tcp_flags == {"ACK"}) == (to == OLD)
    assert bool(done.assumptions) == (to == NEWER)


def test_a_syn_that_is_sent_again_is_still_one() -> None:
    listing = "tcp 6 100 SYN_SENT " + TO_OLD.format(53, "[UNREPLIED] ", 5353, "mark=0 use=1")
    done = through(node(listing), sent(TCP))
    assert (done.flight.packet.dst, done.flight.packet.tcp_flags) == (OLD, {"SYN"})


def test_an_untranslated_entry_keeps_the_packet_untranslated() -> None:
    listing = (
        "udp 17 25 src=192.0.2.50 dst=10.96.0.10 sport=40000 dport=53 [UNREPLIED] "
        "src=10.96.0.10 dst=192.0.2.50 sport=53 dport=40000 use=1"
    )
    done = through(node(listing), sent())
    assert ends(done) == (CLIENT, 40000, SERVICE, 53)
    assert "ct:1 does not translate 10.96.0.10" in untranslated(done.flight.conn, SERVICE, "n")
    assert untranslated(sent().flight.conn, SERVICE, "n") == "no rule of n translates 10.96.0.10"


VIRTUAL = {
    "addresses": (
        Address("eth0", NODE_IP, 24, "global", index=2),
        Address("kube-ipvs0", SERVICE, 32, "global", index=3),
    ),
    "covered": frozenset({"addr", "rules4", "ipvs"}),
}


def server(*real: object) -> VirtualServer:
    return VirtualServer(4, UDP, SERVICE, 53, "rr", real=tuple(RealServer(ip, 5353) for ip in real))  # type: ignore[arg-type]


def test_what_ipvs_translated_passes_nat_as_it_is_and_goes_where_it_went() -> None:
    space = node(ANSWERED, **VIRTUAL, virtual_servers=(server(NEWER, OLD),))
    (verdict,) = hooks.run("prerouting", sent(), space)
    assert verdict.branch.flight.packet.dst == SERVICE, "IPVS translates in INPUT"
    (stolen,) = hooks.run("input", verdict.branch, space)
    assert stolen.kind == ipvs.STOLEN
    (done,) = hooks.run("postrouting", stolen.branch, space)
    assert ends(done.branch) == (NODE_IP, 1025, OLD, 5353)


@pytest.mark.parametrize(
    ("expires", "says"), [("1", "the next one is new"), ("0", "until it times out"), (None, "new")]
)
def test_a_real_server_that_was_removed_loses_the_packet(expires: str | None, says: str) -> None:
    """ip_vs_in_hook: with expire_nodest_conn the first packet is lost, without it all are."""
    name = "net.ipv4.vs.expire_nodest_conn"
    settings = {name: Sysctl(name, expires)} if expires is not None else {}
    space = node(ANSWERED, **VIRTUAL, virtual_servers=(server(NEWER),), sysctls=settings)
    (verdict,) = hooks.run("prerouting", sent(), space)
    (lost,) = hooks.run("input", verdict.branch, space)
    assert lost.kind == targets.DROP
    assert says in lost.detail
    assert bool(lost.branch.assumptions) == (expires is None)


def test_an_answer_of_an_ipvs_connection_gets_the_virtual_address_from_ipvs() -> None:
    packet = Packet(UDP, OLD, NODE_IP, 5353, 1025)
    there = tuple_of(packet)
    space = node(ANSWERED, **VIRTUAL, virtual_servers=(server(OLD),))
    branch = Branch(Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth1", oif="eth0"))
    for hook in ("prerouting", "forward", "postrouting"):
        (verdict,) = hooks.run(hook, branch, space)
        branch = verdict.branch
    assert ends(branch) == (SERVICE, 53, CLIENT, 40000)
