"""netk8s against real connections in random clusters: a small fixed portion; `make fuzz-paths` asks for more."""

from __future__ import annotations

import os
from fractions import Fraction

import pytest

from netk8s.model import Outcome

from .connections import differs, held
from .generate_cluster import Asked, random_cluster
from .worker import Connected

SEED = int(os.environ.get("NETK8S_FUZZ_SEED", "20260101"))
CLUSTERS, FLOWS = {"iptables": 3, "nftables": 2}, 20


@pytest.mark.lab
@pytest.mark.parametrize("mode", CLUSTERS)
def test_random_clusters(mode: str) -> None:
    wrong = []
    asked = answered = unknown = 0
    for each in held(range(SEED, SEED + CLUSTERS[mode]), FLOWS, mode):
        asked += 1
        answered += each.answers[0].result == "connected"
        unknown += any(outcome.verdict == "unknown" for outcome in each.outcomes)
        if each.difference:
            wrong.append(f"seed {each.seed} {each.asked}: {each.difference}")
    assert not wrong, "\n".join(wrong)
    assert asked == CLUSTERS[mode] * FLOWS
    # A lab where hardly anything connects, or answers that say nothing, would show nothing either.
    assert answered > asked // 4
    assert unknown < asked // 10


def test_a_seed_is_a_cluster() -> None:
    assert random_cluster(7) == random_cluster(7)
    assert random_cluster(7) != random_cluster(8)


@pytest.mark.parametrize(
    ("answer", "agrees"),
    [
        (Connected("connected", "10.244.1.5:80", "default/a", "10.244.1.1"), False),
        (Connected("timeout"), True),
        (Connected("unreachable"), False),
        (Connected("refused"), False),
    ],
)
def test_an_answer_that_was_not_told_is_a_difference(answer: Connected, agrees: bool) -> None:
    dropped = Outcome("dropped", Fraction(1), None, None, None, "", ())
    assert (differs(Asked("client", "10.96.0.1", 80), [answer], (dropped,)) == "") is agrees
