"""Every target: what it does to the packet, the mark and the conntrack entry. Arithmetic by xt_MARK.c, xt_connmark.c."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from netk8s.decode import _iptables_words as words
from netk8s.kernel import targets
from netk8s.kernel.flight import Branch, Conn, Flight, tuple_of
from netk8s.kernel.matches import Seen
from netk8s.kernel.netns import Netns
from netk8s.kernel.targets import Effect
from netk8s.model import ICMP, TCP, UDP, Address, At, Link, Node, Packet, Rule

A = ip_address
PACKET = Packet(TCP, A("192.0.2.7"), A("10.96.0.1"), 40000, 80)
PACKET6 = Packet(TCP, A("2001:db8::7"), A("fd00::1"), 40000, 80)
U32 = st.integers(0, 0xFFFFFFFF)

NODE = Node(
    "n",
    links=(Link("lo", 1), Link("eth0", 2), Link("cni0", 3, "bridge"), Link("cali1", 4)),
    addresses=(
        Address("lo", A("127.0.0.1"), 8, "host", index=1),
        Address("eth0", A("192.168.10.5"), 24, "global", index=2),
        Address("eth0", A("192.168.10.6"), 24, "global", secondary=True, index=2),
        Address("eth0", A("fe80::5"), 64, "link", index=2),
        Address("eth0", A("2001:db8:1::5"), 64, "global", index=2),
        Address("cni0", A("10.244.1.1"), 24, "global", index=3),
    ),
    covered=frozenset({"addr", "link", "rules4", "rules6"}),
)


def flight(packet: Packet = PACKET, mark: int = 0, **changes: object) -> Flight:
    there = tuple_of(packet)
    return Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed(), mark=mark), iif="eth0", oif="cni0").with_(
        **changes
    )


def effects(text: str, there: Flight | None = None, hook: str = "prerouting", node: Node = NODE) -> list[Effect]:
    chain, found, target, _, _ = words.parse(f"-A X -j {text}")
    assert target is not None
    branch = Branch(there or flight())
    rule = Rule(chain, found, target, At("dump", 7), text)
    return list(targets.apply(target, branch, Seen(branch.flight, hook, Netns(node), rule)))


def one(text: str, there: Flight | None = None, hook: str = "prerouting", node: Node = NODE) -> Effect:
    (found,) = effects(text, there, hook, node)
    return found


# ---------------------------------------------------------------- verdicts and targets without effect


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("ACCEPT", targets.ACCEPT), ("DROP", targets.DROP), ("RETURN", targets.RETURN)],
)
def test_verdicts(text: str, verdict: str) -> None:
    found = one(text)
    assert (found.verdict, found.branch.flight, found.bound) == (verdict, flight(), False)


@pytest.mark.parametrize(
    "text",
    [
        "LOG --log-prefix a",
        "NFLOG --nflog-group 1",
        "TRACE",
        "TCPMSS --clamp-mss-to-pmtu",
        "CHECKSUM --checksum-fill",
        "CT --helper ftp",
        "CT --zone 1",
    ],
)
def test_targets_that_go_on_with_the_next_rule(text: str) -> None:
    found = one(text)
    assert (found.verdict, found.branch.flight, found.changes) == (targets.CONTINUE, flight(), ())


@pytest.mark.parametrize("text", ["NOTRACK", "CT --notrack"])
def test_untracked(text: str) -> None:
    found = one(text)
    assert found.verdict == targets.CONTINUE
    assert found.branch.flight.conn.state == "UNTRACKED"
    assert found.branch.flight.packet == PACKET


def test_unknown_targets_are_unknown() -> None:
    found = one("SYNPROXY --mss 1460")
    assert found.verdict == targets.UNKNOWN
    assert "SYNPROXY" in found.detail
    assert not targets.is_target("KUBE-SERVICES")
    assert all(targets.is_target(name) for name in ("DNAT", "LOG", "ACCEPT"))


@pytest.mark.parametrize(
    ("text", "packet", "kind", "seen"),
    [
        ("REJECT", PACKET, "icmp-port-unreachable", targets.REFUSED),
        ("REJECT", PACKET6, "icmp6-port-unreachable", targets.REFUSED),
        ("REJECT --reject-with icmp-port-unreachable", PACKET, "icmp-port-unreachable", targets.REFUSED),
        ("REJECT --reject-with tcp-reset", PACKET, "tcp-reset", targets.REFUSED),
        ("REJECT --reject-with icmp-host-prohibited", PACKET, "icmp-host-prohibited", targets.UNREACHABLE),
        ("REJECT --reject-with icmp-net-unreachable", PACKET, "icmp-net-unreachable", targets.UNREACHABLE),
        ("REJECT --reject-with icmp6-adm-prohibited", PACKET6, "icmp6-adm-prohibited", targets.UNREACHABLE),
    ],
)
def test_reject(text: str, packet: Packet, kind: str, seen: str) -> None:
    found = one(text, flight(packet))
    assert (found.verdict, found.detail) == (targets.REJECT, kind)
    assert targets.reject_verdict(found.detail, packet) == seen


def test_a_queue_is_a_question() -> None:
    found = effects("NFQUEUE --queue-num 1")
    assert [f.verdict for f in found] == [targets.ACCEPT, targets.DROP]
    assert [f.branch.choices[0].answer for f in found] == [True, False]
    assert [f.branch.odds for f in found] == [1, 1]


# ---------------------------------------------------------------- marks


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [
        (0, "MARK --set-xmark 0x4000/0x4000", 0x4000),
        (0x8001, "MARK --set-xmark 0x4000/0x4000", 0xC001),
        (0x4000, "MARK --set-xmark 0x4000/0x4000", 0x4000),
        (0x4000, "MARK --set-xmark 0x4000/0x0", 0),
        (0x8001, "MARK --set-xmark 0x4000/0x0", 0xC001),
        (0xFF, "MARK --set-xmark 0x1/0xffffffff", 1),
        (0xFF, "MARK --set-xmark 0x1", 1),
        (0x0F, "MARK --set-mark 0xf0/0xf", 0xF0),
        (0xF0, "MARK --set-mark 0xf0/0xf", 0xF0),
        (0xF0, "MARK --set-xmark 0xf0/0xf", 0),
        (0x1, "MARK --or-mark 0x4000", 0x4001),
        (0x4001, "MARK --xor-mark 0x4000", 1),
        (0xFF, "MARK --and-mark 0xf0", 0xF0),
        (7, "MARK --set-mark 16", 16),
    ],
)
def test_mark(before: int, text: str, after: int) -> None:
    found = one(text, flight(PACKET.replace(mark=before)))
    assert (found.verdict, found.branch.flight.packet.mark) == (targets.CONTINUE, after)
    assert bool(found.changes) is (before != after)


@given(U32, U32, U32)
def test_the_words_of_mark_are_shapes_of_set_xmark(mark: int, value: int, mask: int) -> None:
    """libxt_MARK.c mark_tg_parse: what each word becomes as value and mask."""

    def new(text: str) -> int:
        return one(f"MARK {text}", flight(PACKET.replace(mark=mark))).branch.flight.packet.mark

    assert new(f"--set-xmark {value:#x}/{mask:#x}") == (mark & ~mask & 0xFFFFFFFF) ^ value
    assert new(f"--set-mark {value:#x}/{mask:#x}") == new(f"--set-xmark {value:#x}/{value | mask:#x}")
    assert new(f"--or-mark {value:#x}") == new(f"--set-xmark {value:#x}/{value:#x}") == mark | value
    assert new(f"--xor-mark {value:#x}") == new(f"--set-xmark {value:#x}/0x0") == mark ^ value
    assert new(f"--and-mark {value:#x}") == new(f"--set-xmark 0x0/{~value & 0xFFFFFFFF:#x}") == mark & value


@given(U32, U32, U32, U32)
def test_connmark(mark: int, connmark: int, nf: int, ct: int) -> None:
    there = flight(PACKET.replace(mark=mark), mark=connmark)

    def after(text: str) -> tuple[int, int]:
        found = one(f"CONNMARK {text}", there)
        assert found.verdict == targets.CONTINUE
        return found.branch.flight.packet.mark, found.branch.flight.conn.mark

    assert after("--save-mark") == (mark, mark)
    assert after("--restore-mark") == (connmark, connmark)
    masks = f"--nfmask {nf:#x} --ctmask {ct:#x}"
    assert after(f"--save-mark {masks}") == (mark, (connmark & ~ct & 0xFFFFFFFF) ^ (mark & nf))
    assert after(f"--restore-mark {masks}") == ((mark & ~nf & 0xFFFFFFFF) ^ (connmark & ct), connmark)
    assert after(f"--save-mark --mask {nf:#x}") == (mark, (connmark & ~nf & 0xFFFFFFFF) | (mark & nf))
    assert after(f"--set-xmark {nf:#x}/{ct:#x}") == (mark, (connmark & ~ct & 0xFFFFFFFF) ^ nf)
    assert after(f"--set-mark {nf:#x}/{ct:#x}") == (mark, (connmark & ~(nf | ct) & 0xFFFFFFFF) ^ nf)


@pytest.mark.parametrize("state", ["UNTRACKED", "INVALID"])
def test_connmark_without_an_entry_does_nothing(state: str) -> None:
    there = flight(PACKET.replace(mark=5), mark=9)
    there = there.with_(conn=replace(there.conn, state=state))
    for text in ("--save-mark", "--restore-mark", "--set-mark 1"):
        assert one(f"CONNMARK {text}", there).branch.flight == there


def test_tproxy_marks_and_takes() -> None:
    found = one("TPROXY --on-port 15001 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1", flight(PACKET.replace(mark=0x10)))
    assert (found.verdict, found.branch.flight.packet.mark) == (targets.ACCEPT, 0x11)


# ---------------------------------------------------------------- DNAT, REDIRECT


@pytest.mark.parametrize(
    ("text", "dport", "places"),
    [
        ("10.244.1.6:8080", 80, [("10.244.1.6", 8080)]),
        ("10.244.1.6", 80, [("10.244.1.6", 80)]),
        (":8080", 80, [("10.96.0.1", 8080)]),
        ("10.244.1.6:8000-8999", 80, [("10.244.1.6", 8000)]),
        ("10.244.1.6:8000-8999", 8443, [("10.244.1.6", 8443)]),
        ("10.244.1.6-10.244.1.8", 80, [("10.244.1.6", 80), ("10.244.1.7", 80), ("10.244.1.8", 80)]),
        ("10.244.1.6-10.244.1.7:8080", 80, [("10.244.1.6", 8080), ("10.244.1.7", 8080)]),
    ],
)
def test_dnat(text: str, dport: int, places: list[tuple[str, int]]) -> None:
    found = effects(f"DNAT --to-destination {text}", flight(PACKET.replace(dport=dport)))
    assert [(f.branch.flight.packet.dst, f.branch.flight.packet.dport) for f in found] == [(A(h), p) for h, p in places]
    assert [f.branch.odds for f in found] == [Fraction(1, len(places))] * len(places)
    for effect in found:
        conn, packet = effect.branch.flight.conn, effect.branch.flight.packet
        assert (effect.verdict, effect.bound, conn.dst_bound, conn.src_bound) == (targets.ACCEPT, True, True, False)
        assert (conn.reply.src, conn.reply.sport) == (packet.dst, packet.dport)
        assert conn.original == tuple_of(PACKET.replace(dport=dport))
        assert (packet.src, packet.sport) == (PACKET.src, PACKET.sport)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [("[fd00::9]:8080", "fd00::9", 8080), ("fd00::9", "fd00::9", 80), ("[fd00::9]", "fd00::9", 80)],
)
def test_dnat6(text: str, address: str, port: int) -> None:
    packet = one(f"DNAT --to-destination {text}", flight(PACKET6)).branch.flight.packet
    assert (packet.dst, packet.dport) == (A(address), port)


@pytest.mark.parametrize(
    "text",
    ["nonsense", "10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", "[fd00::1", "10.0.0.1:x", "10.0.0.1:99999", "fd00::1",
     "[fd00::1]:80", "10.0.0.1:2000-2010/1000"],
)  # fmt: skip
def test_dnat_to_nonsense_is_unknown(text: str) -> None:
    assert one(f"DNAT --to-destination {text}").verdict == targets.UNKNOWN


def test_dnat_without_words_or_to_thousands_is_unknown() -> None:
    assert one("DNAT").verdict == targets.UNKNOWN
    found = one("DNAT --to-destination 10.0.0.0-10.1.0.0")
    assert found.verdict == targets.UNKNOWN
    assert "many addresses" in found.detail


def test_dnat_of_a_packet_without_ports() -> None:
    ping = Packet(ICMP, A("192.0.2.7"), A("10.96.0.1"), icmp_type=8, icmp_code=0)
    packet = one("DNAT --to-destination 10.244.1.6:8080", flight(ping)).branch.flight.packet
    assert (packet.dst, packet.dport) == (A("10.244.1.6"), None)


def test_redirect() -> None:
    """nf_nat_redirect.c: the first address of the incoming device; 127.0.0.1 for what the node itself sends."""
    found = one("REDIRECT --to-ports 15001")
    assert (found.branch.flight.packet.dst, found.branch.flight.packet.dport) == (A("192.168.10.5"), 15001)
    assert (found.verdict, found.bound) == (targets.ACCEPT, True)
    assert one("REDIRECT").branch.flight.packet.dport == 80
    assert one("REDIRECT --to-ports 79-90").branch.flight.packet.dport == 80
    assert one("REDIRECT --to-ports 100-200").branch.flight.packet.dport == 100
    bridged = one("REDIRECT --to-ports 53", flight(iif="cni0"))
    assert bridged.branch.flight.packet.dst == A("10.244.1.1")
    mine = one("REDIRECT --to-ports 15001", flight(iif=None, local=True), "output")
    assert mine.branch.flight.packet.dst == A("127.0.0.1")
    assert one("REDIRECT", flight(PACKET6, iif=None), "output").branch.flight.packet.dst == A("::1")
    assert one("REDIRECT", flight(PACKET6)).branch.flight.packet.dst == A("2001:db8:1::5")
    assert one("REDIRECT", flight(iif="cali1")).verdict == targets.DROP
    assert one("REDIRECT", node=Node("bare")).verdict == targets.UNKNOWN
    assert one("REDIRECT --to-ports x").verdict == targets.UNKNOWN
    assert one("REDIRECT --to-ports 99999").verdict == targets.UNKNOWN


# ---------------------------------------------------------------- SNAT, MASQUERADE, NETMAP


@pytest.mark.parametrize(
    ("text", "addresses", "port"),
    [
        ("--to-source 203.0.113.1", ["203.0.113.1"], 40000),
        ("--to-source 203.0.113.1-203.0.113.2", ["203.0.113.1", "203.0.113.2"], 40000),
        ("--to-source 203.0.113.1:5000", ["203.0.113.1"], 5000),
        ("--to-source 203.0.113.1:1024-2048", ["203.0.113.1"], None),
        ("--to-source 203.0.113.1 --random-fully", ["203.0.113.1"], None),
        ("--to-source :5000", ["192.0.2.7"], 5000),
    ],
)
def test_snat(text: str, addresses: list[str], port: int | None) -> None:
    found = effects(f"SNAT {text}", hook="postrouting")
    assert [f.branch.flight.packet.src for f in found] == [A(a) for a in addresses]
    assert {f.branch.flight.packet.sport for f in found} == {port}
    assert sum(f.branch.odds for f in found) == 1
    for effect in found:
        there = effect.branch.flight
        assert (effect.verdict, effect.bound, there.conn.src_bound, there.conn.dst_bound) == (
            targets.ACCEPT,
            True,
            True,
            False,
        )
        assert there.conn.reply.dst == there.packet.src
        assert (there.packet.dst, there.packet.dport) == (PACKET.dst, PACKET.dport)
        if there.packet.src != PACKET.src:
            (rewrite,) = there.rewrites
            assert (rewrite.before, rewrite.after, rewrite.node, rewrite.at) == (
                PACKET.src,
                there.packet.src,
                "n",
                At("dump", 7),
            )
        else:
            assert there.rewrites == ()


@pytest.mark.parametrize(
    ("oif", "nexthop", "source"),
    [
        ("cni0", None, "10.244.1.1"),
        ("eth0", "192.168.10.9", "192.168.10.5"),
        ("cali1", None, "192.168.10.5"),
        ("lo", None, "192.168.10.5"),
    ],
)
def test_masquerade_takes_an_address_of_the_outgoing_device(oif: str, nexthop: str | None, source: str) -> None:
    there = flight(PACKET.replace(dst=A("10.244.1.6")), iif=None, oif=oif, nexthop=A(nexthop) if nexthop else None)
    found = one("MASQUERADE", there, "postrouting")
    packet = found.branch.flight.packet
    assert (found.verdict, found.bound, packet.src, packet.sport) == (targets.ACCEPT, True, A(source), 40000)
    assert found.branch.flight.rewrites[0].because
    assert one("MASQUERADE --random-fully", there, "postrouting").branch.flight.packet.sport is None


def test_masquerade_leaves_the_unspecified_source_alone() -> None:
    found = one("MASQUERADE", flight(PACKET.replace(src=A("0.0.0.0"))), "postrouting")  # noqa: S104 - a source, no bind
    assert (found.verdict, found.bound, found.branch.flight.packet.src) == (targets.ACCEPT, False, A("0.0.0.0"))  # noqa: S104


def test_masquerade_without_any_address_drops() -> None:
    node = Node("n", links=(Link("lo", 1), Link("eth0", 2)), covered=NODE.covered)
    assert one("MASQUERADE", flight(oif="eth0"), "postrouting", node).verdict == targets.DROP


def test_masquerade_to_an_address_no_dump_tells() -> None:
    for there, node in ((flight(), Node("bare")), (flight(oif=None, oif_known=False), NODE)):
        found = one("MASQUERADE", there, "postrouting", node)
        assert (found.verdict, found.bound) == (targets.ACCEPT, True)
        assert found.branch.flight.src_known is False
        assert found.branch.flight.rewrites[0].after is None
        assert found.branch.flight.conn.src_bound


@pytest.mark.parametrize(
    ("hook", "src", "dst"),
    [
        ("prerouting", "192.0.2.7", "10.97.0.1"),
        ("output", "192.0.2.7", "10.97.0.1"),
        ("postrouting", "10.97.2.7", "10.96.0.1"),
        ("input", "10.97.2.7", "10.96.0.1"),
    ],
)
def test_netmap_keeps_the_host_part(hook: str, src: str, dst: str) -> None:
    found = one("NETMAP --to 10.97.0.0/16", hook=hook)
    packet = found.branch.flight.packet
    assert (packet.src, packet.dst, packet.sport, packet.dport) == (A(src), A(dst), 40000, 80)
    assert found.bound


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_netmap_maps_into_the_network(target: object, length: int, dst: object) -> None:
    net = ip_network(f"{target}/{length}", strict=False)
    packet = one(f"NETMAP --to {net}", flight(PACKET.replace(dst=dst))).branch.flight.packet
    assert packet.dst in net
    assert int(packet.dst) & int(net.hostmask) == int(dst) & int(net.hostmask)  # type: ignore[call-overload]


def test_netmap_of_another_family_is_unknown() -> None:
    assert one("NETMAP --to fd00::/64").verdict == targets.UNKNOWN
    assert one("NETMAP").verdict == targets.UNKNOWN


# ---------------------------------------------------------------- hypothesis

OPTION = st.sampled_from(sorted({f"{t} {o}" for t, known in words.TARGETS.items() for o in known} | set(words.TARGETS)))
VALUE = st.sampled_from(
    [
        "",
        "0x1/0x1",
        "-5",
        "1.2.3.4",
        "1.2.3.4-1.2.3.9:80-90",
        ":80",
        "[fd00::1]:80",
        "fd00::1",
        "99999",
        "0/0",
        "9" * 30,
        "10.0.0.0/8",
        "80-70",
        "-",
        "a",
    ]
)


@given(
    OPTION, st.lists(VALUE, max_size=2), st.sampled_from([PACKET, PACKET6, PACKET.replace(protocol=UDP, sport=None)])
)
def test_any_target_that_decodes_has_effects_whose_odds_are_whole(text: str, values: list[str], packet: Packet) -> None:
    try:
        words.parse(f"-A X -j {text} {' '.join(words.quote(v) for v in values)}")
    except words.Malformed:
        return
    for hook in ("prerouting", "output", "postrouting"):
        found = effects(f"{text} {' '.join(words.quote(v) for v in values)}", flight(packet), hook)
        sure = [f for f in found if not f.branch.choices]
        assert found
        assert sum(f.branch.odds for f in sure) == (1 if sure else 0)


def test_a_type_of_service_that_a_rule_sets_is_what_the_next_rule_sees() -> None:
    done = effects("DSCP --set-dscp 0x2e")
    assert [e.branch.flight.packet.tos for e in done] == [0xB8]
    assert [e.branch.flight.packet.tos for e in effects("DSCP --set-dscp-class AF21")] == [0x48]
    assert [e.branch.flight.packet.tos for e in effects("TOS --set-tos 0x10/0x3f")] == [0x10]
