"""What the kernel keeps beside a packet: tuples, entries, and branches with odds and answers."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address

from msgspec.structs import replace

from netk8s.kernel.flight import Branch, Conn, Flight, Tuple, steps_of, tuple_of
from netk8s.model import TCP, Packet, Question, Step

A = ip_address
PACKET = Packet(TCP, A("192.0.2.7"), A("10.96.0.1"), 40000, 80)
THERE = tuple_of(PACKET)
CONN = Conn("NEW", "ORIGINAL", THERE, THERE.reversed())
BRANCH = Branch(Flight(PACKET, CONN))


def test_a_tuple_and_its_inverse() -> None:
    assert Tuple(TCP, A("192.0.2.7"), 40000, A("10.96.0.1"), 80) == THERE
    assert THERE.reversed() == Tuple(TCP, A("10.96.0.1"), 80, A("192.0.2.7"), 40000)
    assert THERE.reversed().reversed() == THERE


def test_an_entry_is_translated_where_its_directions_differ() -> None:
    assert (CONN.dnat, CONN.snat) == (False, False)
    assert replace(CONN, dst_bound=True, src_bound=True).dnat is False
    moved = replace(CONN, reply=replace(CONN.reply, src=A("10.244.1.6")))
    assert (moved.dnat, moved.snat) == (True, False)
    port = replace(CONN, reply=replace(CONN.reply, sport=8080))
    assert (port.dnat, port.snat) == (True, False)
    masked = replace(CONN, reply=replace(CONN.reply, dst=A("10.244.1.1")))
    assert (masked.dnat, masked.snat) == (False, True)


def test_steps_are_shared_by_branches_and_come_out_in_order() -> None:
    first, left, right = (Step("prerouting", "nat", name, None, None, name) for name in ("a", "b", "c"))
    start = BRANCH.step(first)
    assert steps_of(start.step(left).log) == (first, left)
    assert steps_of(start.step(right).log) == (first, right)
    assert steps_of(None) == ()


def test_dice_multiply() -> None:
    assert BRANCH.dice(Fraction(1, 3)).dice(Fraction(1, 2)).odds == Fraction(1, 6)


def test_an_assumption_is_kept_once() -> None:
    assert BRANCH.assume("x").assume("y").assume("x").assumptions == ("x", "y")


OPEN = Question("open", "it rains", "it does not")
LIKELY = Question("likely", "a", "b", default=True)
OTHER = Question("other", "c", "d", default=False)


def test_an_open_question_has_two_answers_and_is_asked_once() -> None:
    yes, no = BRANCH.ask(OPEN)
    assert (yes[0], no[0]) == (True, False)
    assert yes[1].answered(OPEN) is True
    assert no[1].answered(OPEN) is False
    assert BRANCH.answered(OPEN) is None
    assert list(yes[1].ask(OPEN)) == [(True, yes[1])]
    assert list(no[1].ask(OPEN)) == [(False, no[1])]
    assert yes[1].choose(OPEN, False) is yes[1]


def test_one_default_at_a_time_is_doubted() -> None:
    """An alternative is the answer with one assumption false; all combinations would double with each."""
    (first, usual), (second, odd) = BRANCH.ask(LIKELY)
    assert (first, second) == (True, False)
    assert (usual.off_default, odd.off_default) == (False, True)
    assert [answer for answer, _ in usual.ask(OTHER)] == [False, True]
    assert [answer for answer, _ in odd.ask(OTHER)] == [False]
    assert [answer for answer, _ in odd.ask(OPEN)] == [True, False]
