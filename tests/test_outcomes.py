"""Ways folded into outcomes: dice are summed, doubts are kept apart, assumptions are named."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from netk8s import outcomes
from netk8s.model import (
    TCP,
    Choice,
    Cluster,
    Flow,
    Missing,
    Outcome,
    Packet,
    Question,
    Reached,
    Rewrite,
    Trace,
    Way,
    World,
)

A = ip_address
CLIENT, ENDS = A("192.0.2.7"), [A(f"10.244.1.{i}") for i in range(1, 9)]
PACKET = Packet(TCP, CLIENT, A("10.96.0.1"), 40000, 80)
FLOW = Flow("svc/a", "client", "outside", "n", PACKET, assumptions=("the client is outside",))
OPEN = Question("open", "the set holds it", "the set does not hold it")
LIKELY = Question("likely", "the limit is not reached", "the limit is reached", default=True)
STICKY = Question("sticky", "the node remembers it", "the node does not remember it", default=False, memory=True)


def way(end: int | str, odds: Fraction | int = 1, *choices: tuple[Question, bool], **more: object) -> Way:
    """A way to endpoint ``end``, or one that ends with a verdict."""
    delivered = isinstance(end, int)
    facts: dict[str, object] = {
        "reached": Reached(ENDS[end], 8080) if isinstance(end, int) else None,
        "source": CLIENT if delivered else None,
        **more,
    }
    return Way(
        (), Fraction(odds), tuple(Choice(q, a) for q, a in choices), "delivered" if delivered else str(end),
        "" if delivered else f"because of {end}", PACKET, **facts,
    )  # type: ignore[arg-type]  # fmt: skip


def fold(*ways: Way) -> Trace:
    return outcomes.fold(FLOW, ways, World({}, Cluster(), (Missing("a", "b"),), ("a note",)))


def told(found: tuple[Outcome, ...]) -> dict[object, Fraction | None]:
    return {(o.reached.ip if o.reached else o.verdict): o.odds for o in found}


def test_dice_are_kept_apart_by_endpoint_and_summed_within_one() -> None:
    found = fold(way(0, Fraction(1, 2)), way(1, Fraction(1, 4)), way(1, Fraction(1, 4)))
    assert told(found.outcomes) == {ENDS[0]: Fraction(1, 2), ENDS[1]: Fraction(1, 2)}
    assert [o.ways for o in found.outcomes] == [(0,), (1, 2)]
    assert found.alternatives == ()


def test_one_endpoint_with_two_sources_is_two_outcomes() -> None:
    found = fold(way(0, Fraction(1, 2)), way(0, Fraction(1, 2), source=A("10.244.1.1")))
    assert [(o.source, o.odds) for o in found.outcomes] == [(CLIENT, Fraction(1, 2)), (A("10.244.1.1"), Fraction(1, 2))]


def test_ways_that_do_not_arrive_are_one_outcome_by_verdict() -> None:
    found = fold(
        way("dropped", Fraction(1, 4)),
        replace(way("dropped", Fraction(1, 4)), reason="another"),
        way("refused", Fraction(1, 2)),
    )
    assert told(found.outcomes) == {"dropped": Fraction(1, 2), "refused": Fraction(1, 2)}
    dropped = found.outcomes[0]
    assert dropped.reason == "because of dropped; another"
    assert (dropped.reached, dropped.source, dropped.preserved) == (None, None, None)


def test_the_source_is_preserved_if_nobody_rewrote_it() -> None:
    rewrite = Rewrite("n", "-A X -j MASQUERADE", None, CLIENT, A("10.244.1.1"), "first address")
    plain, masked = fold(way(0)).outcomes[0], fold(way(0, source=A("10.244.1.1"), rewrites=(rewrite,))).outcomes[0]
    assert (plain.preserved, masked.preserved) == (True, False)
    assert masked.rewrites == (rewrite,)
    unknown = fold(way(0, source=None, source_known=False)).outcomes[0]
    assert (unknown.preserved, unknown.source) == (False, None)


def test_an_open_question_leaves_only_what_holds_either_way() -> None:
    found = fold(
        way(0, Fraction(1, 2)), way(1, Fraction(1, 2), (OPEN, True)), way("dropped", Fraction(1, 2), (OPEN, False))
    )
    assert told(found.outcomes) == {ENDS[0]: Fraction(1, 2), "unknown": Fraction(1, 2)}
    assert "the set holds it" in found.outcomes[-1].reason
    assert {a.condition: told(a.outcomes) for a in found.alternatives} == {
        OPEN.if_true: {ENDS[0]: Fraction(1, 2), ENDS[1]: Fraction(1, 2)},
        OPEN.if_false: {ENDS[0]: Fraction(1, 2), "dropped": Fraction(1, 2)},
    }


def test_an_open_question_that_changes_nothing_is_no_doubt() -> None:
    found = fold(way(0, 1, (OPEN, True)), way(0, 1, (OPEN, False)))
    assert told(found.outcomes) == {ENDS[0]: 1}


def test_nothing_is_sure_when_all_hangs_on_a_question() -> None:
    found = fold(way(0, 1, (OPEN, True)), way("dropped", 1, (OPEN, False)))
    assert [o.verdict for o in found.outcomes] == ["unknown"]
    assert len(found.alternatives) == 2


def test_a_default_is_followed_named_and_has_an_alternative() -> None:
    found = fold(way(0, 1, (LIKELY, True)), way("dropped", 1, (LIKELY, False)))
    assert told(found.outcomes) == {ENDS[0]: 1}
    assert found.outcomes[0].assumed
    assert LIKELY.if_true in found.assumptions
    assert [(a.condition, told(a.outcomes)) for a in found.alternatives] == [
        (LIKELY.if_false, {"dropped": Fraction(1)})
    ]
    same = fold(way(0, 1, (LIKELY, True)), way(0, 1, (LIKELY, False)))
    assert same.alternatives == ()


def test_odds_of_a_client_that_may_be_remembered_are_those_of_its_first_connection() -> None:
    half = Fraction(1, 2)
    found = fold(way(0, half, (STICKY, False)), way(1, half, (STICKY, False)), way(0, 1, (STICKY, True)))
    assert [(o.odds, o.first_odds) for o in found.outcomes] == [(None, half), (None, half)]
    assert {o.reached.ip for o in found.outcomes if o.reached} == {ENDS[0], ENDS[1]}
    alone = fold(way(0, 1, (STICKY, False)), way(0, 1, (STICKY, True)))
    assert [(o.odds, o.first_odds) for o in alone.outcomes] == [(1, None)]


def test_more_doubts_than_can_be_tried_leave_the_doubtful_part_unknown() -> None:
    questions = [Question(f"q{i}", f"yes {i}", f"no {i}") for i in range(outcomes.MOST_DOUBTS + 1)]
    ways = [way(0, Fraction(1, 2))]
    done: list[tuple[Question, bool]] = []
    for question in questions:
        ways.append(way("dropped", Fraction(1, 2), *done, (question, True)))
        done.append((question, False))
    ways.append(way(1, Fraction(1, 2), *done))
    assert told(fold(*ways).outcomes) == {ENDS[0]: Fraction(1, 2), "unknown": Fraction(1, 2)}


def test_what_an_answer_rests_on_is_told_once() -> None:
    found = fold(
        way(0, Fraction(1, 2), assumptions=("x",)),
        way(1, Fraction(1, 2), assumptions=("x",), missing=(Missing("c", "d"), Missing("a", "b"))),
    )
    assert list(found.assumptions) == ["a note", "the client is outside", "x"]
    assert found.missing == (Missing("a", "b"), Missing("c", "d"))


def test_the_reply_is_as_good_as_the_worst_way() -> None:
    assert fold(way(0)).reply.symmetric is True
    assert fold(way("dropped")).reply.symmetric is None
    assert fold(way(0, reply_known=False)).reply.symmetric is None
    broken = way("dropped", Fraction(1, 2), reply="the answer bypasses it")
    assert fold(way(0, Fraction(1, 2)), broken).reply.symmetric is False
    assert "bypasses" in fold(broken, way(0, Fraction(1, 2))).reply.why
    rewrite = Rewrite("n7", None, None, CLIENT, A("10.244.1.1"), "x")
    assert "n7" in fold(way(0, rewrites=(rewrite,))).reply.why


def test_no_way_at_all() -> None:
    (outcome,) = fold().outcomes
    assert (outcome.verdict, outcome.odds) == ("unknown", None)


# ---------------------------------------------------------------- hypothesis


@st.composite
def trees(draw: st.DrawFn) -> list[Way]:
    """The leaves of a tree of dice and questions: under every answer their odds are one."""
    questions = [OPEN, LIKELY, STICKY, Question("open2", "e", "f"), Question("likely2", "g", "h", default=False)]

    def grow(odds: Fraction, given: tuple[tuple[Question, bool], ...], depth: int) -> list[Way]:
        kind = draw(st.sampled_from(["end", "dice", "ask"])) if depth else "end"
        if kind == "dice":
            share = draw(st.fractions(Fraction(1, 10), Fraction(9, 10)))
            return grow(odds * share, given, depth - 1) + grow(odds * (1 - share), given, depth - 1)
        if kind == "ask":
            question = draw(st.sampled_from(questions))
            if question in [q for q, _ in given]:
                return grow(odds, given, depth - 1)
            return grow(odds, (*given, (question, True)), depth - 1) + grow(
                odds, (*given, (question, False)), depth - 1
            )
        return [way(draw(st.sampled_from([0, 1, 2, "dropped", "refused"])), odds, *given)]

    return grow(Fraction(1), (), 4)


@given(trees())
def test_the_odds_of_the_outcomes_are_whole(ways: list[Way]) -> None:
    found = fold(*ways)
    # A client that some node remembers goes where it was: no dice, and no odds.
    others = [a.outcomes for a in found.alternatives if a.condition not in (outcomes.REMEMBERED, STICKY.if_true)]
    for items in (found.outcomes, *others):
        odds = [o.odds if o.odds is not None else o.first_odds for o in items]
        if None in odds:
            assert [o.verdict for o in items if o.odds is None and o.first_odds is None] == ["unknown"]
            assert len(items) == 1
        else:
            assert sum(odds) == 1  # type: ignore[arg-type]
        assert all(o is None or o > 0 for o in odds)


@given(trees(), st.data())
def test_no_answer_takes_an_outcome_below_what_was_promised(ways: list[Way], data: st.DataObject) -> None:
    """Unknown is kept apart: whatever the open questions turn out to be, known outcomes keep at least their odds."""
    found = fold(*ways)
    answers = {
        c.question.key: c.question.default if c.question.default is not None else data.draw(st.booleans())
        for w in ways
        for c in w.choices
    }
    live = [w for w in ways if all(answers[c.question.key] == c.answer for c in w.choices)]
    assert sum(w.odds for w in live) == 1
    for outcome in found.outcomes:
        if outcome.verdict != "unknown":
            promised = outcome.odds if outcome.odds is not None else outcome.first_odds
            real = sum(w.odds for w in live if (w.verdict, w.reached) == (outcome.verdict, outcome.reached))
            assert promised is not None
            assert real >= promised


@given(trees())
def test_the_order_of_ways_does_not_matter(ways: list[Way]) -> None:
    def shape(found: Trace) -> set[tuple[object, ...]]:
        return {(o.verdict, o.odds, o.first_odds, o.reached, o.source) for o in found.outcomes}

    assert shape(fold(*ways)) == shape(fold(*reversed(ways)))
    doubled = [replace(w, odds=w.odds / 2) for w in ways for _ in range(2)]
    assert shape(fold(*doubled)) == shape(fold(*ways))
