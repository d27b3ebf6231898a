"""Rules in short, odds as people read them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from netk8s.model import Step
from netk8s.render._words import chance, listed, percent, short


def step(rule: str | None, odds: Fraction = Fraction(1), action: str = "act") -> Step:
    return Step("prerouting", "nat", "C", rule, None, action, odds)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            '-A C -d 10.0.0.1/32 -p tcp -m comment --comment "a b" -m tcp --dport 80 -j D',
            "-d 10.0.0.1 -p tcp --dport 80 -j D",
        ),
        ("-A C ! -s 10.0.0.0/16 -j D", "! -s 10.0.0.0/16 -j D"),
        ("-A C -d fd00::1/128 -g D", "-d fd00::1 -g D"),
        ("-A C -j MARK --set-xmark 0x4000/0x4000", "-j MARK --set-xmark 0x4000/0x4000"),
        ("-A C -m statistic --mode nth --every 3 --packet 0 -j D", "--mode nth --every 3 --packet 0 -j D"),
        ('-A C -j LOG --log-prefix "two words"', '-j LOG --log-prefix "two words"'),
        ('-A C -m comment --comment "unbalanced -j D', '-j D'),
        ('ip daddr vmap @service-ips comment "x" counter packets 1 bytes 2', "ip daddr vmap @service-ips"),
        (None, "act"),
        ("-A C", "act"),
    ],
)  # fmt: skip
def test_short_rules(rule: str | None, expected: str) -> None:
    assert short(step(rule)) == expected


def test_the_odds_of_a_rule() -> None:
    third = Fraction(1, 3)
    dice = "-A C -m statistic --mode random --probability 0.33333333349 -j D"
    assert short(step(dice, third)) == "--probability 33.3% -j D"
    assert short(step(dice)) == "--probability 0.33333333349 -j D"
    assert short(step("-A C -m statistic --mode nth --every 3 -j D", third)) == "--mode nth --every 3 -j D (33.3%)"
    assert short(step(None, third, "server 10.0.0.1:80")) == "server 10.0.0.1:80 (33.3%)"


def test_percent_never_rounds_to_what_it_is_not() -> None:
    odds = ((0, 1), (1, 1), (1, 2), (1, 3), (1, 1500), (9999, 10000), (1, 10**9))
    assert [percent(Fraction(n, d)) for n, d in odds] == [
        "0%", "100%", "50%", "33.3%", "0.067%", ">99.9%", "<0.0001%",
    ]  # fmt: skip


def test_chance() -> None:
    assert chance(Fraction(1, 3)) == "1/3 (33.3%)"
    assert chance(Fraction(1)) == "always"
    assert chance(None) == "unknown odds"
    assert chance(Fraction(357913941, 1073741824)) == "33.3%"


def test_listed() -> None:
    assert listed(["a", "b", "c"], None) == "a, b, c"
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
