"""IPVS: which packets it takes, whom it sends them to and by which odds, and what it does to answers."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from netk8s.kernel import ipvs, targets
from netk8s.kernel.flight import Branch, Conn, Flight, IpvsConn, steps_of, tuple_of
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.model import (
    ICMP,
    SCTP,
    TCP,
    UDP,
    Address,
    Link,
    Node,
    Packet,
    RealServer,
    Socket,
    Sysctl,
    VirtualServer,
)

A = ip_address
VIP, CLIENT, LOCAL = A("10.96.0.1"), A("192.0.2.7"), A("192.168.10.5")
R1, R2, R3 = A("10.244.1.5"), A("10.244.2.5"), A("10.244.2.6")
PACKET = Packet(TCP, CLIENT, VIP, 40000, 80)
COVERED = frozenset({"addr", "link", "ipvs", "sysctl"})


def server(*real: RealServer, scheduler: str = "rr", **options: object) -> VirtualServer:
    made = VirtualServer(4, TCP, VIP, 80, scheduler, real=real)
    return replace(made, **options)  # type: ignore[arg-type]


def real(ip: object = R1, weight: int = 1, **options: object) -> RealServer:
    return replace(RealServer(ip, 8080, weight), **options)  # type: ignore[arg-type]


def netns(*servers: VirtualServer, covered: frozenset[str] = COVERED, **sysctls: str) -> Netns:
    settings = {"conntrack": "1", "expire_quiescent_template": "1", **sysctls}
    return Netns(
        Node(
            "n",
            links=(Link("lo", 1), Link("eth0", 2), Link("kube-ipvs0", 3, "dummy")),
            addresses=(
                Address("eth0", LOCAL, 24, "global", index=2),
                Address("kube-ipvs0", VIP, 32, "global", index=3),
                Address("kube-ipvs0", A("fd00::1"), 128, "global", index=3),
            ),
            sysctls={f"net.ipv4.vs.{k}": Sysctl(f"net.ipv4.vs.{k}", v) for k, v in settings.items()},
            virtual_servers=servers,
            covered=covered,
        )
    )


def start(packet: Packet = PACKET, **flight: object) -> Branch:
    there = tuple_of(packet)
    return Branch(
        replace(Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth0"), **flight)  # type: ignore[arg-type]
    )


def run(space: Netns, branch: Branch | None = None, hook: str = "input") -> list[Verdict]:
    return list(ipvs.run(hook, branch or start(), space))


def odds(verdicts: list[Verdict]) -> dict[object, Fraction]:
    """Odds by the destination of what is sent on, or by the verdict."""
    out: dict[object, Fraction] = {}
    for verdict in verdicts:
        if not verdict.branch.off_default:
            sent = verdict.kind == ipvs.STOLEN
            key = verdict.branch.flight.packet.dst if sent else verdict.kind
            out[key] = out.get(key, Fraction(0)) + verdict.branch.odds
    return out


# ---------------------------------------------------------------- which packets


def test_a_packet_for_a_virtual_server_is_sent_on_with_a_new_destination() -> None:
    for hook in ("input", "output"):
        (verdict,) = run(netns(server(real())), hook=hook)
        assert verdict.kind == ipvs.STOLEN
        flight = verdict.branch.flight
        assert (flight.packet.dst, flight.packet.dport, flight.packet.src) == (R1, 8080, CLIENT)
        assert flight.ipvs_property
        assert flight.conn.ipvs == IpvsConn(VIP, 80, R1, 8080)
        # ip_vs_update_conntrack alters the reply tuple and leaves the status bit: "--ctstate DNAT" does not match.
        assert (flight.conn.reply.src, flight.conn.reply.sport) == (R1, 8080)
        assert not flight.conn.dnat
        (step,) = steps_of(verdict.branch.log)
        assert (step.rule, step.changes) == (None, (("dst", "10.96.0.1:80 → 10.244.1.5:8080"),))


@pytest.mark.parametrize(
    "packet",
    [
        PACKET.replace(dport=81),
        PACKET.replace(dst=A("10.96.0.2")),
        PACKET.replace(protocol=UDP),
        PACKET.replace(protocol=ICMP, dport=None, sport=None, icmp_type=8),
        PACKET.replace(tcp_flags=frozenset({"ACK"})),
        PACKET.replace(tcp_flags=frozenset({"SYN", "RST"})),
    ],
)
def test_other_packets_pass(packet: Packet) -> None:
    branch = start(packet)
    (verdict,) = run(netns(server(real())), branch)
    assert (verdict.kind, verdict.branch) == (targets.ACCEPT, branch)


def test_forward_and_packets_it_has_had_pass() -> None:
    space = netns(server(real()))
    assert run(space, hook="forward")[0].kind == targets.ACCEPT
    assert run(space, start(ipvs_property=True))[0].kind == targets.ACCEPT


def test_a_real_server_on_this_node_gets_the_packet_where_it_is() -> None:
    (verdict,) = run(netns(server(real(LOCAL))))
    assert (verdict.kind, verdict.branch.flight.packet.dst) == (targets.ACCEPT, LOCAL)


def test_any_port_needs_persistence() -> None:
    packet = start(PACKET.replace(dport=7777))
    (verdict,) = run(netns(server(real(), port=0, persistence=300)), packet)
    assert verdict.branch.flight.packet.dport == 7777
    (verdict,) = run(netns(server(real(), port=0)), packet)
    assert verdict.kind == targets.REFUSED


def test_a_mark_comes_before_the_address() -> None:
    space = netns(server(real(R1)), server(real(R2, port=0), ip=None, port=0, protocol=0, fwmark=5))
    assert odds(run(space)) == {R1: Fraction(1)}
    (verdict,) = run(space, start(PACKET.replace(mark=5)))
    assert (verdict.branch.flight.packet.dst, verdict.branch.flight.packet.dport) == (R2, 80)


def test_ipv6_and_other_protocols() -> None:
    for protocol in (UDP, SCTP):
        there = VirtualServer(6, protocol, A("fd00::1"), 53, "rr", real=(RealServer(A("fd00:2::5"), 5353),))
        packet = Packet(protocol, A("2001:db8::1"), A("fd00::1"), 1000, 53, tcp_flags=frozenset())
        assert odds(run(netns(there), start(packet))) == {A("fd00:2::5"): Fraction(1)}


# ---------------------------------------------------------------- whom


def test_shares() -> None:
    pool = (real(R1, 1), real(R2, 3), real(R3, 0))
    assert odds(run(netns(server(*pool)))) == {R1: Fraction(1, 2), R2: Fraction(1, 2)}
    assert odds(run(netns(server(*pool, scheduler="wrr")))) == {R1: Fraction(1, 4), R2: Fraction(3, 4)}
    assert odds(run(netns(server(*pool, scheduler="fo")))) == {R2: Fraction(1)}


@pytest.mark.parametrize("scheduler", ["lc", "wlc", "sed", "nq", "twos", "ovf", "sh", "mh", "unheard-of"])
def test_what_odds_rest_on_is_said(scheduler: str) -> None:
    pool = (real(R1, active=4, inactive=1), real(R2, active=0, inactive=0))
    verdicts = run(netns(server(*pool, scheduler=scheduler)))
    assert odds(verdicts) == {R1: Fraction(1, 2), R2: Fraction(1, 2)}
    assert all(any(scheduler in text for text in v.branch.assumptions) for v in verdicts)
    # With one real server there is nothing to assume.
    assert run(netns(server(real(), scheduler=scheduler)))[0].branch.assumptions == ()


def test_a_hash_refuses_who_falls_on_a_quiesced_server() -> None:
    pool = (real(R1), real(R2, 0))
    assert odds(run(netns(server(*pool, scheduler="sh")))) == {R1: Fraction(1, 2), targets.REFUSED: Fraction(1, 2)}
    assert odds(run(netns(server(*pool, scheduler="sh", flags=("sh-fallback",))))) == {R1: Fraction(1)}


def test_a_hash_of_the_virtual_address_is_no_dice() -> None:
    verdicts = run(netns(server(real(R1), real(R2), scheduler="dh")))
    assert [(v.branch.odds, v.branch.flight.packet.dst, v.branch.doubts) for v in verdicts] == [(1, R1, 1), (1, R2, 1)]


@given(
    st.sampled_from(["rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "mh", "fo"]), st.lists(st.integers(0, 5), max_size=6)
)
def test_odds_add_up(scheduler: str, weights: list[int]) -> None:
    pool = [RealServer(A(f"10.244.9.{i}"), 80, weight) for i, weight in enumerate(weights)]
    found = odds(run(netns(server(*pool, scheduler=scheduler))))
    assert sum(found.values()) == 1
    assert all(A(f"10.244.9.{i}") not in found for i, weight in enumerate(weights) if weight == 0)


@pytest.mark.parametrize("pool", [(), (real(R1, 0), real(R2, 0))])
def test_no_real_server_is_a_refusal(pool: tuple[RealServer, ...]) -> None:
    (verdict,) = run(netns(server(*pool)))
    assert verdict.kind == targets.REFUSED
    assert "has no real server" in verdict.detail


def test_persistence_is_memory() -> None:
    verdicts = run(netns(server(real(R1), real(R2), real(R3, 0), persistence=600)))
    assert odds(verdicts) == {R1: Fraction(1, 2), R2: Fraction(1, 2)}
    remembered = [v.branch for v in verdicts if v.branch.off_default]
    assert [b.flight.packet.dst for b in remembered] == [R1, R2]
    assert all(c.question.memory and c.question.default is False for b in remembered for c in b.choices)


def test_a_quiesced_server_keeps_its_clients_unless_templates_expire() -> None:
    there = server(real(R1), real(R2, 0), persistence=600)
    kept = [v.branch.flight.packet.dst for v in run(netns(there, expire_quiescent_template="0"))]
    assert set(kept) == {R1, R2}
    assert [v.branch.flight.packet.dst for v in run(netns(there))] == [R1]


# ---------------------------------------------------------------- how


def test_other_methods_are_unknown_beyond_this_node() -> None:
    for method in ("route", "tunnel"):
        (verdict,) = run(netns(server(real(method=method))))
        assert verdict.kind == targets.UNKNOWN
        assert str(R1) in verdict.detail
        (verdict,) = run(netns(server(real(LOCAL, method=method))))
        assert (verdict.kind, verdict.branch.flight.packet.dst) == (targets.ACCEPT, VIP)


def test_a_loopback_source_does_not_leave() -> None:
    """crosses_local_route_boundary."""
    there = server(real(R1), ip=LOCAL)
    (verdict,) = run(netns(there), start(PACKET.replace(src=A("127.0.0.1"), dst=LOCAL)), "output")
    assert verdict.kind == targets.DROP


def test_without_conntrack_the_packet_is_untracked() -> None:
    (verdict,) = run(netns(server(real()), conntrack="0"))
    assert verdict.branch.flight.conn.state == "UNTRACKED"
    assert verdict.branch.flight.conn.ipvs is not None
    space = netns(server(real()))
    space = Netns(replace(space.node, sysctls={}))
    (verdict,) = run(space)
    assert "net.ipv4.vs.conntrack of n" in verdict.branch.assumptions[0]


def test_a_nodes_own_connection_without_conntrack_may_get_no_answer() -> None:
    """Seen in user-mode Linux 6.1, TCP and UDP, IPv4 and IPv6: silence."""
    (verdict,) = run(netns(server(real()), conntrack="0"), start(local=True), "output")
    assert (verdict.kind, "net.ipv4.vs.conntrack" in verdict.detail) == (targets.UNKNOWN, True)
    (verdict,) = run(netns(server(real())), start(local=True), "output")
    assert verdict.kind == ipvs.STOLEN


def test_a_mark_that_is_met_over_lo_may_get_no_answer() -> None:
    marked = server(real(), ip=None, port=0, protocol=0, fwmark=7)
    branch = start(PACKET.replace(mark=7), iif="lo", local=True, looped=True)
    (verdict,) = run(netns(marked), branch)
    assert (verdict.kind, "over lo" in verdict.detail) == (targets.UNKNOWN, True)
    (verdict,) = run(netns(marked), start(PACKET.replace(mark=7)))
    assert verdict.kind == ipvs.STOLEN


def test_a_hash_with_the_port_is_one_of_connections() -> None:
    for flags, told in (((), "one client gets the same"), (("sh-port",), "address and port")):
        found = run(netns(server(real(), real(R2), scheduler="sh", flags=flags)))
        assert all(told in text for verdict in found for text in verdict.branch.assumptions)


def test_one_packet_scheduling_expects_no_answer() -> None:
    there = server(real(), protocol=UDP, one_packet=True)
    packet = PACKET.replace(protocol=UDP, tcp_flags=frozenset())
    (verdict,) = run(netns(there), start(packet))
    assert (verdict.branch.flight.conn.ipvs, verdict.branch.flight.conn.reply.src) == (None, VIP)


# ---------------------------------------------------------------- answers


def answering(packet: Packet, known: IpvsConn) -> Branch:
    there = tuple_of(PACKET)
    entry = Conn("ESTABLISHED", "REPLY", there, tuple_of(packet), ipvs=known)
    return Branch(Flight(packet, entry, iif="eth0"))


@pytest.mark.parametrize("hook", ["input", "forward", "output"])
def test_an_answer_gets_the_virtual_address(hook: str) -> None:
    packet = Packet(TCP, R1, CLIENT, 8080, 40000, tcp_flags=frozenset({"SYN", "ACK"}))
    (verdict,) = run(netns(server(real())), answering(packet, IpvsConn(VIP, 80, R1, 8080)), hook)
    flight = verdict.branch.flight
    assert (verdict.kind, flight.packet.src, flight.packet.sport) == (targets.ACCEPT, VIP, 80)
    assert flight.packet.dst == CLIENT


def test_answers_of_others_and_of_other_methods_stay() -> None:
    packet = Packet(TCP, R2, CLIENT, 8080, 40000, tcp_flags=frozenset({"SYN", "ACK"}))
    for known in (IpvsConn(VIP, 80, R1, 8080), IpvsConn(VIP, 80, R2, 8080, "route")):
        (verdict,) = run(netns(), answering(packet, known), "forward")
        assert verdict.branch.flight.packet == packet


# ---------------------------------------------------------------- no dump


def test_without_a_dump_virtual_addresses_are_unknown() -> None:
    space = netns(covered=COVERED - {"ipvs"})
    (verdict,) = run(space)
    assert verdict.kind == targets.UNKNOWN
    assert verdict.missing is not None
    assert "ipvsadm" in verdict.missing.what
    # A NodePort may be a virtual server too; an address of somebody else is none.
    assert run(space, start(PACKET.replace(dst=LOCAL)))[0].kind == targets.UNKNOWN
    assert run(space, start(PACKET.replace(dst=R1)), "output")[0].kind == targets.ACCEPT


def test_without_a_dump_a_listener_is_taken_for_what_it_is() -> None:
    space = netns(covered=COVERED - {"ipvs"} | {"socket"})
    space = Netns(replace(space.node, sockets=(Socket(TCP, None, 80),)))
    (verdict,) = run(space, start(PACKET.replace(dst=LOCAL)))
    assert verdict.kind == targets.ACCEPT
    assert "taken to be no virtual server" in verdict.branch.assumptions[0]


def test_a_node_without_signs_of_ipvs_has_none() -> None:
    node = Node("n", addresses=(Address("eth0", LOCAL, 24, "global"),), covered=frozenset({"addr"}))
    (verdict,) = run(Netns(node), start(PACKET.replace(dst=LOCAL)))
    assert (verdict.kind, verdict.branch.assumptions) == (targets.ACCEPT, ())
    loaded = replace(node, sysctls={"net.ipv4.vs.conntrack": Sysctl("net.ipv4.vs.conntrack", "0")})
    (verdict,) = run(Netns(loaded), start(PACKET.replace(dst=LOCAL)))
    assert (verdict.kind, len(verdict.branch.assumptions)) == (targets.ACCEPT, 1)
