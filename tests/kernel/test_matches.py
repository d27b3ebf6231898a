"""Every match: certain, by dice, or open; and what its inversion says.

Expectations are those of the Linux source the comments name, for the packet of ``PACKET``.
"""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address
from ipaddress import ip_network as network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s.decode import _iptables_words as words
from netk8s.kernel import matches
from netk8s.kernel.flight import Conn, Flight, Tuple, tuple_of
from netk8s.kernel.matches import Ask, Seen, conditions
from netk8s.kernel.netns import Netns
from netk8s.model import (
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    Address,
    At,
    IpSet,
    Link,
    NextHop,
    Node,
    Packet,
    Route,
    RoutingRule,
    Rule,
)

A = ip_address
PACKET = Packet(TCP, A("192.0.2.7"), A("10.96.0.1"), 40000, 80)
PACKET6 = Packet(TCP, A("2001:db8::7"), A("fd00::1"), 40000, 80)

ETH0 = Address("eth0", A("192.168.10.5"), 24, "global", index=2)
CNI0 = Address("cni0", A("10.244.1.1"), 24, "global", index=3)
ETH6 = Address("eth0", A("2001:db8:1::5"), 64, "global", index=2)
NODE = Node(
    "n",
    links=(Link("lo", 1), Link("eth0", 2), Link("cni0", 3, "bridge")),
    addresses=(ETH0, CNI0, ETH6),
    routes=(
        Route(network("0.0.0.0/0"), "unicast", (NextHop("eth0", A("192.168.10.1")),)),
        Route(network("192.168.10.0/24"), "unicast", (NextHop("eth0"),)),
        Route(network("10.244.1.0/24"), "unicast", (NextHop("cni0"),)),
        Route(network("203.0.113.0/24"), "blackhole", ()),
        Route(network("192.168.10.5/32"), "local", (NextHop("eth0"),), "local"),
        Route(network("10.244.1.1/32"), "local", (NextHop("cni0"),), "local"),
        Route(network("127.0.0.0/8"), "local", (NextHop("lo"),), "local"),
        Route(network("192.168.10.255/32"), "broadcast", (NextHop("eth0"),), "local"),
        Route(network("::/0"), "unicast", (NextHop("eth0", A("2001:db8:1::1")),)),
        Route(network("2001:db8:1::5/128"), "local", (NextHop("eth0"),), "local"),
        Route(network("2001:db8:1::/128"), "anycast", (NextHop("eth0"),), "local"),
    ),
    covered=frozenset({"addr", "link", "route4", "route6", "rules4", "rules6"}),
)
BARE = Node("bare", covered=frozenset({"rules4"}))


def rule(text: str) -> Rule:
    chain, found, target, comment, _ = words.parse(f"-A X {text} -j ACCEPT")
    return Rule(chain, found, target, At("dump", 7), text, comment)


def flight(packet: Packet = PACKET, **changes: object) -> Flight:
    there = tuple_of(packet)
    return Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth0", oif="eth1").with_(**changes)


def truth(text: str, there: Flight | None = None, node: Node = NODE, hook: str = "prerouting") -> bool | Fraction | Ask:
    found = conditions(rule(text), Seen(there or flight(), hook, Netns(node), rule(text)))
    if found is None:
        return False
    if not found:
        return True
    assert len(found) == 1
    return found[0]


def check(text: str, expected: bool, there: Flight | None = None, node: Node = NODE, hook: str = "prerouting") -> None:
    assert truth(text, there, node, hook) is expected


# ---------------------------------------------------------------- the header (ip_packet_match, ip6_packet_match)

HEADER = [
    ("-s 192.0.2.7/32", True),
    ("-s 192.0.2.7", True),
    ("-s 192.0.2.0/24", True),
    ("-s 192.0.2.0/255.255.255.0", True),
    ("-s 192.0.3.0/24", False),
    ("-s 0.0.0.0/0", True),
    ("-d 10.96.0.1/32", True),
    ("-d 10.96.0.0/12", True),
    ("-d 10.112.0.0/12", False),
    ("-d 10.96.0.2/32", False),
    ("-i eth0", True),
    ("-i eth1", False),
    ("-i eth+", True),
    ("-i +", True),
    ("-i eth", False),
    ("-i cali+", False),
    ("-i eth0+", True),
    ("-o eth1", True),
    ("-o lo", False),
    ("-p tcp", True),
    ("-p 6", True),
    ("-p TCP", True),
    ("-p udp", False),
    ("-p all", True),
    ("-p 0", True),
    ("-p icmp", False),
]


@pytest.mark.parametrize(("text", "expected"), HEADER)
def test_header(text: str, expected: bool) -> None:
    check(text, expected)
    if text not in ("-p all", "-p 0"):
        check(f"! {text}", not expected)


def test_fragments() -> None:
    """Packets that are followed are whole: -f never holds, ! -f does (IPT_INV_FRAG)."""
    check("-f", False)
    check("! -f", True)


def test_a_hook_without_the_device_sees_no_name() -> None:
    """ip_packet_match compares with an empty name: "-i cni0" fails, "! -i cni0" holds, "+" holds."""
    sent = flight(iif=None, oif="eth0")
    check("-i cni0", False, sent, hook="output")
    check("! -i cni0", True, sent, hook="output")
    check("-i +", True, sent, hook="output")
    check("! -i eth+", True, sent, hook="output")


def test_an_unknown_device_is_a_question() -> None:
    there = flight(iif=None, iif_known=False)
    found = truth("-i cni0", there)
    assert isinstance(found, Ask)
    assert (found.wanted, found.question.default) == (True, False)
    inverted = truth("! -i cni0", there)
    assert isinstance(inverted, Ask)
    assert inverted.wanted is False
    assert inverted.question.key == found.question.key
    check("-i +", True, there)
    check("-i lo", False, there)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-s 2001:db8::/32", True),
        ("-s 2001:db8::7/128", True),
        ("-s 2001:DB8:0::7", True),
        ("-s 2001:db9::/32", False),
        ("-d fd00::/8", True),
        ("-d fc00::/8", False),
        ("-s 0.0.0.0/0", False),
    ],
)
def test_header6(text: str, expected: bool) -> None:
    check(text, expected, flight(PACKET6))
    check(f"! {text}", not expected, flight(PACKET6))


def test_a_source_that_masquerade_chose_and_no_dump_tells_is_open() -> None:
    there = flight(src_known=False)
    for text in (
        "-s 192.0.2.0/24",
        "! -s 192.0.2.0/24",
        "-m iprange --src-range 192.0.2.1-192.0.2.9",
        "-m addrtype --src-type LOCAL",
    ):
        assert isinstance(truth(text, there), Ask)
    check("-d 10.96.0.1", True, there)


# ---------------------------------------------------------------- ports (xt_tcpudp.c, xt_multiport.c, xt_sctp.c)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-m tcp --dport 80", True),
        ("-m tcp --dport 81", False),
        ("-m tcp --dport 79:81", True),
        ("-m tcp --dport :80", True),
        ("-m tcp --dport :79", False),
        ("-m tcp --dport 80:", True),
        ("-m tcp --dport 81:", False),
        ("-m tcp --dport http", True),
        ("-m tcp --dport https", False),
        ("-m tcp --sport 40000", True),
        ("-m tcp --sport 1024:65535", True),
        ("-m tcp --sport 80", False),
        ("-m tcp --destination-port 80", True),
        ("-m multiport --dports 22,80,443", True),
        ("-m multiport --dports 22,443", False),
        ("-m multiport --dports 22,79:81", True),
        ("-m multiport --sports 40000", True),
        ("-m multiport --sports 80", False),
        ("-m multiport --ports 80", True),
        ("-m multiport --ports 40000", True),
        ("-m multiport --ports 22", False),
    ],
)
def test_ports(text: str, expected: bool) -> None:
    check(f"-p tcp {text}", expected)
    module, option = text[3:].split(" ", 1)
    check(f"-p tcp -m {module} ! {option}", not expected)


def test_both_ports_have_to_hold() -> None:
    check("-p tcp -m tcp --sport 40000 --dport 80", True)
    check("-p tcp -m tcp --sport 40001 --dport 80", False)
    check("-p tcp -m tcp ! --sport 40000 --dport 80", False)


@pytest.mark.parametrize("module", ["tcp", "udp", "sctp", "multiport"])
def test_ports_of_another_protocol_never_hold(module: str) -> None:
    """The match is asked with the protocol's own header or not at all (checkentry: "-p tcp -m udp" cannot be loaded)."""
    packet = Packet(ICMP, A("192.0.2.7"), A("10.96.0.1"), None, None, icmp_type=8, icmp_code=0)
    option = "--dports 80" if module == "multiport" else "--dport 80"
    check(f"-m {module} {option}", False, flight(packet))
    check(f"-m {module} ! {option}", False, flight(packet))


def test_udp_and_sctp_ports() -> None:
    udp, sctp = PACKET.replace(protocol=UDP, dport=53), PACKET.replace(protocol=SCTP, dport=132)
    check("-p udp -m udp --dport 53", True, flight(udp))
    check("-p udp -m udp ! --dport 53", False, flight(udp))
    check("-p udp -m tcp --dport 53", False, flight(udp))
    check("-p sctp -m sctp --dport 132", True, flight(sctp))
    check("-p sctp -m multiport --dports 1:200", True, flight(sctp))


def test_an_ephemeral_port_is_any_from_1024() -> None:
    there = flight(PACKET.replace(sport=None))
    check("-p tcp -m tcp --sport 1024:65535", True, there)
    check("-p tcp -m tcp --sport 1:65535", True, there)
    check("-p tcp -m tcp --sport 1:1023", False, there)
    check("-p tcp -m tcp ! --sport 1:1023", True, there)
    few, many = truth("-p tcp -m tcp --sport 40000", there), truth("-p tcp -m tcp --sport 1024:40000", there)
    assert isinstance(few, Ask)
    assert isinstance(many, Ask)
    assert (few.question.default, many.question.default) == (False, None)
    check("-p tcp -m multiport --ports 80,40000", True, there)
    assert isinstance(truth("-p tcp -m multiport --ports 81,40000", there), Ask)


@pytest.mark.parametrize(
    ("flags", "text", "expected"),
    [
        ("SYN", "--tcp-flags FIN,SYN,RST,ACK SYN", True),
        ("SYN,ACK", "--tcp-flags FIN,SYN,RST,ACK SYN", False),
        ("SYN,ACK", "--tcp-flags SYN SYN", True),
        ("ACK", "--tcp-flags SYN,RST NONE", True),
        ("SYN", "--tcp-flags SYN,RST NONE", False),
        ("SYN", "--tcp-flags ALL SYN", True),
        ("SYN,PSH", "--tcp-flags ALL SYN", False),
        ("", "--tcp-flags ALL NONE", True),
        ("SYN", "--tcp-flags ALL ALL", False),
        ("SYN", "--syn", True),
        ("SYN,PSH", "--syn", True),
        ("SYN,ACK", "--syn", False),
        ("RST", "--syn", False),
    ],
)
def test_tcp_flags(flags: str, text: str, expected: bool) -> None:
    there = flight(PACKET.replace(tcp_flags=frozenset(flags.split(",")) - {""}))
    check(f"-p tcp -m tcp {text}", expected, there)
    check(f"-p tcp -m tcp ! {text}", not expected, there)


@pytest.mark.parametrize(
    ("kind", "code", "text", "expected"),
    [
        (8, 0, "--icmp-type 8", True),
        (8, 0, "--icmp-type echo-request", True),
        (8, 0, "--icmp-type ping", True),
        (8, 0, "--icmp-type any", True),
        (8, 0, "--icmp-type 0", False),
        (3, 4, "--icmp-type 3/4", True),
        (3, 4, "--icmp-type fragmentation-needed", True),
        (3, 4, "--icmp-type 3", True),
        (3, 4, "--icmp-type destination-unreachable", True),
        (3, 4, "--icmp-type 3/3", False),
        (3, 4, "--icmp-type port-unreachable", False),
        (11, 0, "--icmp-type time-exceeded", True),
    ],
)
def test_icmp(kind: int, code: int, text: str, expected: bool) -> None:
    packet = Packet(ICMP, A("192.0.2.7"), A("10.96.0.1"), icmp_type=kind, icmp_code=code)
    check(f"-p icmp -m icmp {text}", expected, flight(packet))
    check(f"-p icmp -m icmp ! {text}", not expected, flight(packet))
    check(f"-m icmp {text}", False)
    check(f"-m icmp ! {text}", False)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (128, "--icmpv6-type 128", True),
        (128, "--icmpv6-type echo-request", True),
        (135, "--icmpv6-type neighbour-solicitation", True),
        (135, "--icmpv6-type neighbor-solicitation", True),
        (135, "--icmpv6-type 136", False),
        (2, "--icmpv6-type packet-too-big", True),
    ],
)
def test_icmp6(kind: int, text: str, expected: bool) -> None:
    packet = Packet(ICMPV6, A("2001:db8::7"), A("fd00::1"), icmp_type=kind, icmp_code=0)
    check(f"-p ipv6-icmp -m icmp6 {text}", expected, flight(packet))
    check(f"-p ipv6-icmp -m icmp6 ! {text}", not expected, flight(packet))
    check(f"-m icmp6 {text}", False, flight(PACKET6))


# ---------------------------------------------------------------- marks (xt_mark.c, xt_connmark.c)


@pytest.mark.parametrize(
    ("mark", "text", "expected"),
    [
        (0x4000, "--mark 0x4000/0x4000", True),
        (0x4001, "--mark 0x4000/0x4000", True),
        (0x4001, "--mark 0x4000", False),
        (0, "--mark 0x4000/0x4000", False),
        (0, "--mark 0", True),
        (0xC000, "--mark 0x8000/0x8000", True),
        (0xFFFFFFFF, "--mark 0xffffffff", True),
        (16, "--mark 16", True),
        (5, "--mark 0x5/0x1", False),
        (5, "--mark 0x1/0x1", True),
    ],
)
def test_mark(mark: int, text: str, expected: bool) -> None:
    check(f"-m mark {text}", expected, flight(PACKET.replace(mark=mark)))
    check(f"-m mark ! {text}", not expected, flight(PACKET.replace(mark=mark)))


@pytest.mark.parametrize(
    ("mark", "text", "expected"),
    [
        (0x80, "--mark 0x80/0x80", True),
        (0x81, "--mark 0x80/0x80", True),
        (1, "--mark 0x80/0x80", False),
        (1, "--mark 1", True),
    ],
)
def test_connmark(mark: int, text: str, expected: bool) -> None:
    there = tuple_of(PACKET)
    conn = Conn("NEW", "ORIGINAL", there, there.reversed(), mark=mark)
    check(f"-m connmark {text}", expected, flight(conn=conn))
    check(f"-m connmark ! {text}", not expected, flight(conn=conn))
    for state in ("UNTRACKED", "INVALID"):
        gone = Conn(state, "ORIGINAL", there, there.reversed(), mark=mark)
        check(f"-m connmark {text}", False, flight(conn=gone))
        check(f"-m connmark ! {text}", False, flight(conn=gone))


# ---------------------------------------------------------------- conntrack (xt_conntrack.c)


def translated(state: str = "NEW", direction: str = "ORIGINAL") -> Flight:
    """192.0.2.7:40000 dialled 10.96.0.1:80, which became 10.244.1.6:8080 with source 10.244.1.1:47487."""
    original = tuple_of(PACKET)
    reply = Tuple(TCP, A("10.244.1.6"), 8080, A("10.244.1.1"), 47487)
    return flight(PACKET.replace(dst=A("10.244.1.6"), dport=8080), conn=Conn(state, direction, original, reply))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--ctstate NEW", True),
        ("--ctstate ESTABLISHED", False),
        ("--ctstate RELATED,ESTABLISHED", False),
        ("--ctstate NEW,ESTABLISHED", True),
        ("--ctstate INVALID", False),
        ("--ctstate DNAT", True),
        ("--ctstate SNAT", True),
        ("--ctstate RELATED,ESTABLISHED,DNAT", True),
        ("--ctproto tcp", True),
        ("--ctproto 17", False),
        ("--ctorigsrc 192.0.2.0/24", True),
        ("--ctorigdst 10.96.0.1", True),
        ("--ctorigdst 10.244.1.6", False),
        ("--ctreplsrc 10.244.1.6/32", True),
        ("--ctrepldst 10.244.1.1", True),
        ("--ctrepldst 192.0.2.7", False),
        ("--ctorigsrcport 40000", True),
        ("--ctorigdstport 80", True),
        ("--ctorigdstport 8080", False),
        ("--ctorigdstport 79:81", True),
        ("--ctreplsrcport 8080", True),
        ("--ctrepldstport 47487", True),
        ("--ctdir ORIGINAL", True),
        ("--ctdir REPLY", False),
        ("--ctstatus CONFIRMED", False),
        ("--ctstatus SEEN_REPLY", False),
        ("--ctstatus NONE", False),
    ],
)
def test_conntrack(text: str, expected: bool) -> None:
    check(f"-m conntrack {text}", expected, translated())
    check(f"-m conntrack ! {text}", not expected, translated())


def test_conntrack_of_an_answer() -> None:
    there = translated("ESTABLISHED", "REPLY")
    check("-m conntrack --ctstate RELATED,ESTABLISHED", True, there)
    check("-m conntrack --ctstate NEW", False, there)
    check("-m conntrack --ctstate DNAT", True, there)
    check("-m conntrack --ctdir REPLY", True, there)
    check("-m conntrack ! --ctdir ORIGINAL", True, there)
    check("-m conntrack --ctstatus SEEN_REPLY,ASSURED", True, there)
    check("-m state --state ESTABLISHED", True, there)
    check("-m state ! --state NEW,INVALID", True, there)


def test_a_null_binding_is_no_translation() -> None:
    """IPS_DST_NAT is set where an address really changed; ctstate DNAT asks for it."""
    there = tuple_of(PACKET)
    conn = Conn("NEW", "ORIGINAL", there, there.reversed(), dst_bound=True, src_bound=True)
    check("-m conntrack --ctstate DNAT", False, flight(conn=conn))
    check("-m conntrack --ctstate SNAT", False, flight(conn=conn))
    check("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", True, flight(conn=conn))


@pytest.mark.parametrize("state", ["UNTRACKED", "INVALID"])
def test_packets_without_an_entry_have_a_state_and_nothing_else(state: str) -> None:
    there = tuple_of(PACKET)
    gone = flight(conn=Conn(state, "ORIGINAL", there, there.reversed()))
    check(f"-m conntrack --ctstate {state}", True, gone)
    check("-m conntrack --ctstate NEW,ESTABLISHED", False, gone)
    check("-m conntrack ! --ctstate NEW", True, gone)
    check(f"-m conntrack --ctstate {state},NEW", True, gone)
    check(f"-m state --state {state}", True, gone)
    check("-m conntrack --ctorigdst 10.96.0.1", False, gone)
    check("-m conntrack ! --ctorigdst 10.0.0.1", False, gone)


# ---------------------------------------------------------------- addrtype (xt_addrtype.c)


@pytest.mark.parametrize(
    ("dst", "kinds"),
    [
        ("192.168.10.5", {"LOCAL"}),
        ("10.244.1.1", {"LOCAL"}),
        ("127.0.0.1", {"LOCAL"}),
        ("127.9.9.9", {"LOCAL"}),
        ("192.168.10.255", {"BROADCAST"}),
        ("255.255.255.255", {"BROADCAST"}),
        ("224.0.0.1", {"MULTICAST"}),
        ("10.96.0.1", {"UNICAST"}),
        ("192.168.10.6", {"UNICAST"}),
    ],
)
def test_addrtype(dst: str, kinds: set[str]) -> None:
    there = flight(PACKET.replace(dst=A(dst)))
    for kind in ("LOCAL", "UNICAST", "BROADCAST", "MULTICAST"):
        check(f"-m addrtype --dst-type {kind}", kind in kinds, there)
        check(f"-m addrtype ! --dst-type {kind}", kind not in kinds, there)
    check("-m addrtype --dst-type LOCAL,UNICAST,BROADCAST,MULTICAST", True, there)


def test_addrtype_of_the_source_and_both() -> None:
    there = flight(PACKET.replace(src=A("192.168.10.5")))
    check("-m addrtype --src-type LOCAL", True, there)
    check("-m addrtype ! --src-type LOCAL", False, there)
    check("-m addrtype --src-type LOCAL --dst-type UNICAST", True, there)
    check("-m addrtype --src-type LOCAL --dst-type LOCAL", False, there)
    check("-m addrtype --src-type LOCAL", False)


def test_addrtype_limited_to_the_packet_s_device() -> None:
    """inet_dev_addr_type: local only if it is an address of that device."""
    there = flight(PACKET.replace(dst=A("192.168.10.5")))
    check("-m addrtype --dst-type LOCAL --limit-iface-in", True, there)
    check("-m addrtype --dst-type LOCAL --limit-iface-in", False, there.with_(iif="cni0"))
    check("-m addrtype --dst-type LOCAL --limit-iface-out", False, there.with_(oif="cni0"), hook="postrouting")


@pytest.mark.parametrize(
    ("dst", "kinds"),
    [
        ("2001:db8:1::5", {"LOCAL", "UNICAST"}),
        ("2001:db8:9::9", {"UNICAST"}),
        ("ff02::1", {"MULTICAST"}),
        ("2001:db8:1::", {"ANYCAST", "UNICAST"}),
    ],
)
def test_addrtype6(dst: str, kinds: set[str]) -> None:
    """match_type6: UNICAST is everything that is not multicast, a node's own addresses too."""
    there = flight(PACKET6.replace(dst=A(dst)))
    for kind in ("LOCAL", "UNICAST", "MULTICAST", "ANYCAST"):
        check(f"-m addrtype --dst-type {kind}", kind in kinds, there)
        check(f"-m addrtype ! --dst-type {kind}", kind not in kinds, there)


def test_addrtype_without_addresses_is_one_question_for_all_rules() -> None:
    there = flight(PACKET.replace(dst=A("192.168.10.5")))
    local, foreign = (
        truth("-m addrtype --dst-type LOCAL", there, BARE),
        truth("-m addrtype ! --dst-type LOCAL", there, BARE),
    )
    assert isinstance(local, Ask)
    assert isinstance(foreign, Ask)
    assert local.question == foreign.question
    assert (local.wanted, foreign.wanted) == (True, False)
    known = Netns(BARE, own=[A("192.168.10.5")], foreign=[A("10.96.0.1")])
    text = "-m addrtype --dst-type LOCAL"
    assert conditions(rule(text), Seen(there, "prerouting", known, rule(text))) == []
    assert conditions(rule(text), Seen(flight(), "prerouting", known, rule(text))) is None


# ---------------------------------------------------------------- ranges, devices, reverse routes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--src-range 192.0.2.1-192.0.2.9", True),
        ("--src-range 192.0.2.7-192.0.2.7", True),
        ("--src-range 192.0.2.8-192.0.2.9", False),
        ("--dst-range 10.96.0.0-10.96.0.255", True),
        ("--dst-range 10.97.0.0-10.97.0.255", False),
        ("--dst-range fd00::1-fd00::9", False),
    ],
)
def test_iprange(text: str, expected: bool) -> None:
    check(f"-m iprange {text}", expected)
    check(f"-m iprange ! {text}", not expected)


@pytest.mark.parametrize(
    ("there", "holding"),
    [
        (flight(), set()),
        (flight(has_physin=True, physin="veth1"), {"--physdev-is-in", "--physdev-in veth1", "--physdev-in veth+"}),
        (
            flight(has_physin=True, physin="veth1", bridged=True, physout="veth2"),
            {
                "--physdev-is-in",
                "--physdev-is-out",
                "--physdev-is-bridged",
                "--physdev-in veth1",
                "--physdev-in veth+",
                "--physdev-out veth2",
            },
        ),
    ],
    ids=["routed", "from-bridge", "bridged"],
)
def test_physdev(there: Flight, holding: set[str]) -> None:
    """physdev_mt: without a bridge port positive options fail and inverted ones hold."""
    for option in (
        "--physdev-is-in",
        "--physdev-is-out",
        "--physdev-is-bridged",
        "--physdev-in veth1",
        "--physdev-in veth9",
        "--physdev-in veth+",
        "--physdev-out veth2",
    ):
        check(f"-m physdev {option}", option in holding, there, hook="forward")
        check(f"-m physdev ! {option}", option not in holding, there, hook="forward")


@pytest.mark.parametrize(
    ("src", "iif", "options", "passes"),
    [
        ("192.0.2.7", "eth0", "", True),
        ("192.0.2.7", "cni0", "", False),
        ("192.0.2.7", "cni0", "--loose", True),
        ("10.244.1.6", "cni0", "", True),
        ("10.244.1.6", "eth0", "", False),
        ("203.0.113.9", "eth0", "--loose", False),
        ("192.168.10.5", "eth0", "", False),
        ("192.168.10.5", "eth0", "--accept-local", True),
        ("192.0.2.7", "lo", "", True),
    ],
)
def test_rpfilter(src: str, iif: str, options: str, passes: bool) -> None:
    there = flight(PACKET.replace(src=A(src)), iif=iif)
    check(f"-m rpfilter {options}", passes, there)
    check(f"-m rpfilter {options} --invert", not passes, there)


def test_rpfilter_by_a_marked_route() -> None:
    """--validmark: the packet's own mark chooses the table for the way back."""
    routes = (*NODE.routes, Route(network("0.0.0.0/0"), "unicast", (NextHop("cni0"),), "100"))
    rules = (
        RoutingRule(0, 4, table="local"),
        RoutingRule(100, 4, table="100", fwmark=0x80, fwmask=0x80),
        RoutingRule(32766, 4, table="main"),
    )
    node = Node("n", links=NODE.links, addresses=NODE.addresses, routes=routes, rules=rules, covered=NODE.covered)
    there = flight(PACKET.replace(mark=0x80), iif="cni0")
    check("-m rpfilter --validmark", True, there, node)
    check("-m rpfilter", False, there, node)


def test_rpfilter_without_routes_is_assumed_to_pass() -> None:
    """calico drops what "--invert" matches: packets whose reverse route is wrong, which are taken to be none."""
    for text, holds in (("-m rpfilter", True), ("-m rpfilter --validmark --invert", False)):
        for there, node in ((flight(), BARE), (flight(iif=None, iif_known=False), NODE)):
            found = truth(text, there, node)
            assert isinstance(found, Ask)
            assert (found.question.default == found.wanted) is holds


@pytest.mark.parametrize(
    ("dst", "kind"), [("10.96.0.1", "unicast"), ("224.0.0.1", "multicast"), ("255.255.255.255", "broadcast")]
)
def test_pkttype(dst: str, kind: str) -> None:
    there = flight(PACKET.replace(dst=A(dst)))
    for word in ("unicast", "multicast", "broadcast"):
        check(f"-m pkttype --pkt-type {word}", word == kind, there)
        check(f"-m pkttype ! --pkt-type {word}", word != kind, there)


# ---------------------------------------------------------------- dice (xt_statistic.c)


@pytest.mark.parametrize(
    ("text", "odds"),
    [
        ("0.50000000000", Fraction(1, 2)),
        ("0.33333333349", Fraction(1, 3)),
        ("0.33332999982", Fraction(1, 3)),
        ("0.25000000000", Fraction(1, 4)),
        ("0.20000000019", Fraction(1, 5)),
        ("0.16666666651", Fraction(1, 6)),
        ("0.16667000018", Fraction(1, 6)),
        ("0.14286000002", Fraction(1, 7)),
        ("0.30000000028", Fraction("0.30000000028")),
        ("0.75", Fraction(3, 4)),
        ("1.00000000000", Fraction(1)),
        ("0.00000000000", Fraction(0)),
        ("1.5", None),
        ("-0.5", None),
        ("x", None),
        ("", None),
        ("1e-999999999", None),
        ("0." + "3" * 400, None),
    ],
)
def test_probabilities_are_those_a_balancer_meant(text: str, odds: Fraction | None) -> None:
    assert matches.probability(text) == odds


@given(st.integers(1, 1500))
def test_one_nth_is_found_again_in_what_iptables_save_prints(n: int) -> None:
    """The kernel keeps round(p · 2³¹) of kube-proxy's ten digits, and eleven digits of that are printed."""
    kept = round(float(f"{1 / n:.10f}") * (1 << 31))
    assert matches.probability(f"{kept / (1 << 31):.11f}") == Fraction(1, n)


def test_statistic() -> None:
    assert truth("-m statistic --mode random --probability 0.33333333349") == Fraction(1, 3)
    assert truth("-m statistic --mode random ! --probability 0.33333333349") == Fraction(2, 3)
    check("-m statistic --mode random --probability 1.00000000000", True)
    check("-m statistic --mode random --probability 0.00000000000", False)
    check("-m statistic --mode random ! --probability 0.00000000000", True)
    assert truth("-m statistic --mode nth --every 4 --packet 0") == Fraction(1, 4)
    assert truth("-m statistic --mode nth ! --every 4 --packet 3") == Fraction(3, 4)
    check("-m statistic --mode nth --every 1 --packet 0", True)
    for text in ("--mode nth --every 0", "--mode random", "--mode random --probability 7", "--mode nth --every x"):
        assert isinstance(truth(f"-m statistic {text}"), Ask)


# ---------------------------------------------------------------- memory, sets, rates, sockets


def test_recent() -> None:
    """xt_recent.c: --set always holds; a list that no dump shows is taken not to have the client."""
    check("-m recent --name a --set", True)
    check("-m recent --name a ! --set", False)
    text = "-m recent --name KUBE-SEP-A --rcheck --seconds 10800 --reap"
    found = truth(text)
    assert isinstance(found, Ask)
    assert (found.question.default, found.question.memory, found.wanted) == (False, True, True)
    inverted = truth(text.replace("--rcheck", "! --rcheck"))
    assert isinstance(inverted, Ask)
    assert (inverted.question.key, inverted.wanted) == (found.question.key, False)
    other = truth(text, flight(PACKET.replace(src=A("192.0.2.8"))))
    assert isinstance(other, Ask)
    assert other.question.key != found.question.key
    by_destination = truth(f"{text} --rdest", flight(PACKET.replace(src=A("192.0.2.8"))))
    assert by_destination == truth(f"{text} --rdest")


def test_sets() -> None:
    kept = IpSet("web", "hash:ip,port", (), ("192.0.2.7,tcp:80",), At("ipset", 1))
    node = Node("n", sets=(kept,), covered=NODE.covered)
    check("-m set --match-set web src,dst", True, node=node)
    check("-m set ! --match-set web src,dst", False, node=node)
    check("-m set --match-set web dst,dst", False, node=node)
    found = truth("-m set --match-set gone src", node=node)
    assert isinstance(found, Ask)
    assert found.question.default is None
    assert "gone" in found.question.if_true
    inverted = truth("-m set ! --match-set gone src", node=node)
    assert isinstance(inverted, Ask)
    assert inverted.wanted is False


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("-m limit --limit 5/min", True),
        ("-m hashlimit --hashlimit-upto 5/sec --hashlimit-name a", True),
        ("-m hashlimit --hashlimit-above 5/sec --hashlimit-name a", False),
        ("-m connlimit --connlimit-above 10", False),
        ("-m connlimit ! --connlimit-above 10", True),
        ("-m connlimit --connlimit-upto 10", True),
        ("-m quota --quota 1000", True),
    ],
)
def test_rates_are_assumed_not_to_be_reached(text: str, holds: bool) -> None:
    found = truth(text)
    assert isinstance(found, Ask)
    assert found.question.default is not None
    assert (found.question.default == found.wanted) is holds


def test_the_sender_is_asked_on_its_own_node_only() -> None:
    """owner_mt: without a socket all options have to be inverted."""
    for text in (
        "-m owner --uid-owner 0",
        "-m owner --gid-owner 1-9",
        "-m owner --socket-exists",
        "-m cgroup --path a",
    ):
        module, rest = text.split(" --")
        check(text, False, hook="postrouting")
        check(f"{module} ! --{rest}", True, hook="postrouting")
    mine = flight(local=True)
    check("-m owner --socket-exists", True, mine, hook="output")
    found = truth("-m owner --uid-owner 0", mine, hook="output")
    assert isinstance(found, Ask)
    assert found.question.default is None


def test_open_ends() -> None:
    for text in (
        "-m u32 --u32 0>>22&0x3C@0&0xFF=8",
        "-m bpf --object-pinned /x",
        "-m cpu --cpu 0",
        "-m time --timestart 8:00",
    ):
        found = truth(text)
        assert isinstance(found, Ask)
        assert found.question.default is None
    unknown = truth("-m geoip --source-country DE")
    assert isinstance(unknown, Ask)
    assert "-m geoip --source-country DE" in unknown.question.if_true


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("--ttl-eq 64", True),
        ("--ttl-eq 63", False),
        ("--ttl-lt 64", False),
        ("--ttl-lt 65", True),
        ("--ttl-gt 63", True),
    ],
)
def test_the_ttl_is_that_of_a_usual_sender(text: str, holds: bool) -> None:
    for inverted in ("", "! "):
        found = truth(f"-m ttl {inverted}{text}")
        assert isinstance(found, Ask)
        assert (found.question.default == found.wanted) is (holds is not bool(inverted))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-m comment --comment anything", True),
        ("-m nfacct --nfacct-name ct_state_invalid_dropped_pkts", True),
        ("-m ipvs --ipvs", False),
        ("-m string --algo bm --string x", False),
        ("-m string --algo bm ! --string x", True),
    ],
)
def test_matches_that_need_no_knowledge(text: str, expected: bool) -> None:
    check(text, expected)


def test_ipsec_and_sockets_are_taken_not_to_be_there() -> None:
    for text, holds in [
        ("-m policy --dir in --pol ipsec", False),
        ("-m policy --dir in --pol none", True),
        ("-m socket", False),
    ]:
        found = truth(text)
        assert isinstance(found, Ask)
        assert (found.question.default == found.wanted) is holds


# ---------------------------------------------------------------- three truth values together


def test_a_rule_with_one_match_that_fails_is_no_question() -> None:
    check("-m geoip --source-country DE -p udp", False)
    check("-m statistic --mode random --probability 0.5 -d 10.0.0.9", False)


def test_what_is_left_open_keeps_its_order() -> None:
    text = "-m statistic --mode random --probability 0.5 -p tcp -m u32 --u32 0=1"
    found = conditions(rule(text), Seen(flight(), "prerouting", Netns(NODE), rule(text)))
    assert found is not None
    assert found[0] == Fraction(1, 2)
    assert isinstance(found[1], Ask)


@given(st.booleans() | st.fractions(0, 1))
def test_negation_twice_is_none(value: bool | Fraction) -> None:
    assert matches.negate(matches.negate(value)) == value


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("eth0", "eth0", True),
        ("eth0", "eth01", False),
        ("cali+", "cali12ab", True),
        ("cali+", "cal", False),
        ("+", None, True),
        ("eth0", None, False),
    ],
)
def test_device_patterns(pattern: str, name: str | None, expected: bool) -> None:
    assert matches.device_matches(pattern, name) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", (80, 80)),
        ("1024:2048", (1024, 2048)),
        (":80", (0, 80)),
        ("80:", (80, 65535)),
        ("90:80", None),
        ("70000", None),
        ("nonsense", None),
        ("", None),
        ("domain", (53, 53)),
    ],
)
def test_port_ranges(text: str, expected: tuple[int, int] | None) -> None:
    assert matches.port_range(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0x4000/0x4000", (0x4000, 0x4000)),
        ("0x1", (1, 0xFFFFFFFF)),
        ("16", (16, 0xFFFFFFFF)),
        ("0x0/0", (0, 0)),
        ("x", None),
        ("1/", None),
        ("-1", None),
        ("0x1/-1", None),
        ("0x100000000", None),
    ],
)
def test_values_and_masks(text: str, expected: tuple[int, int] | None) -> None:
    assert matches.value_mask(text) == expected


@pytest.mark.parametrize(
    "text",
    ["-m mark --weird", "-m connmark --weird", "-p tcp -m multiport --weird", "-m iprange --weird", "-m pkttype ! --weird",
     "-p tcp -m tcp --weird", "-m set --weird", "-m conntrack --weird", "-m statistic --weird", "-m recent --weird"],
)  # fmt: skip
def test_an_option_that_is_newer_than_netk8s_is_open(text: str) -> None:
    found = truth(text)
    assert isinstance(found, Ask)
    assert found.question.default is None


# ---------------------------------------------------------------- hypothesis

OPTIONS = sorted(
    {f"-m {m} {n}" for m, known in words.MATCHES.items() if m for n in [*known, "--weird"]}
    | {f"{n}" for n in words.MATCHES[""]}
)
VALUE = st.sampled_from(
    [
        "",
        "0",
        "80",
        "80:90",
        "0x1/0x1",
        "10.0.0.0/8",
        "fd00::1",
        "eth+",
        "tcp",
        "SYN",
        "a,b",
        "NEW",
        "LOCAL",
        "src,dst",
        "9" * 30,
        "-1",
        "8/0",
        "1.1.1.1-2.2.2.2",
    ]
)


@given(
    st.lists(st.tuples(st.sampled_from(OPTIONS), st.booleans(), st.lists(VALUE, max_size=2)), min_size=1, max_size=3)
)
def test_any_rule_that_decodes_has_an_answer(parts: list[tuple[str, bool, list[str]]]) -> None:
    text = " ".join(
        " ".join(
            [*name.split(" ")[:-1], *(["!"] if negated else []), name.split(" ")[-1], *(words.quote(v) for v in values)]
        )
        for name, negated, values in parts
    )
    try:
        asked = rule(text)
    except words.Malformed:
        return
    for there in (flight(), flight(PACKET6), flight(PACKET.replace(sport=None)), flight(iif=None, iif_known=False)):
        for node in (NODE, BARE):
            found = conditions(asked, Seen(there, "prerouting", Netns(node), asked))
            assert found is None or all(isinstance(c, Ask | Fraction) for c in found)


def test_an_option_with_a_value_that_is_newer_than_netk8s_is_open() -> None:
    assert isinstance(truth("-m mark --weird 5"), Ask)
