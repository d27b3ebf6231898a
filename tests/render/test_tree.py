"""What ways share, where they part, and which rules had a part in the outcome."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from netk8s.model import Choice, Question, Report, Step, Way
from netk8s.render._tree import conditions, matters, shape, total, tree


def step(chain: str, action: str, table: str = "filter", **more: object) -> Step:
    return Step("forward", table, chain, f"-A {chain}", None, action, **more)  # type: ignore[arg-type]


def test_a_jump_matters_if_something_in_the_chain_does() -> None:
    steps = [
        step("FORWARD", "jump IDLE"),
        step("FORWARD", "jump A"),
        step("A", "jump B"),
        step("B", "RETURN"),
        step("A", "jump C"),
        step("C", "ACCEPT"),
    ]
    assert matters(steps) == [False, True, False, False, True, True]


def test_goto_is_how_the_packet_got_there() -> None:
    steps = [step("FORWARD", "jump A"), step("A", "goto B"), step("B", "DROP")]
    assert matters(steps) == [True, True, True]


def test_a_chain_of_another_table_is_another_chain() -> None:
    assert matters([step("FORWARD", "jump A", "mangle"), step("A", "ACCEPT", "filter")]) == [False, True]


def test_a_return_of_nat_is_why_nothing_was_translated() -> None:
    steps = [step("POSTROUTING", "jump K", "nat"), step("K", "RETURN", "nat")]
    assert matters(steps) == [True, True]


def test_doubt_and_dice_matter() -> None:
    assert matters([step("A", "RETURN", assumed=True), step("A", "RETURN", odds=Fraction(1, 2))]) == [True, True]


def test_branches_with_the_same_shape(build: Callable[[str], Report]) -> None:
    ways = build("nodeport").trace.ways
    root = tree(ways, range(3))
    assert [branch.ways for branch in root.children] == [[0], [1], [2]]
    assert len({shape(branch, ways) for branch in root.children}) == 1
    assert shape(root, ways) is None


def test_dice_add_up_and_answers_do_not(build: Callable[[str], Report]) -> None:
    (base,) = build("one endpoint").trace.ways
    question = Question("q", "it is so", "it is not so")

    def way(answer: bool, odds: Fraction) -> Way:
        return Way(base.hops, odds, (Choice(question, answer),), "delivered", "", base.packet)

    half = Fraction(1, 2)
    ways = (way(True, half), way(True, half), way(False, Fraction(1)))
    assert total(ways, [0, 1]) == 1
    assert total(ways, [0, 1, 2]) == 1
    assert total(ways, [0, 2]) is None
    assert conditions(ways, [0, 1], [0, 1, 2]) == ["it is so"]
    assert conditions(ways, [2], [0, 1, 2]) == ["it is not so"]
    assert conditions(ways, [0], [0, 1]) == []
