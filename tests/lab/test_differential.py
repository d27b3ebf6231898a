"""netk8s against the kernel: a fixed slice of random rules and packets, and every mismatch ever found."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .differential import Bench, Pair, describe, judged, masqueraded
from .generate_rules import USUAL, GeneratedChain, GeneratedRule, Generator, RuleSet, sets_text
from .regressions import Regression, every, replay, summary
from .shrink import shrink

PAIRS = int(os.environ.get("NETK8S_FUZZ_PAIRS", "1000"))
SEED = int(os.environ.get("NETK8S_FUZZ_SEED", "20260101"))


@pytest.fixture(scope="module")
def benches() -> Iterator[dict[str, Bench]]:
    made = {backend: Bench(backend) for backend in ("nft", "legacy")}
    yield made
    for bench in made.values():
        bench.close()


@pytest.mark.lab
def test_random_rules_and_packets() -> None:
    wrong: list[Pair] = []
    refused: list[str] = []
    for bench, pair in judged(SEED, PAIRS, refusals=refused):
        if pair.differences:
            wrong.append(bench.shrunk(pair, rounds=60) if len(wrong) < 3 else pair)
            if len(wrong) <= 3:
                bench.load(pair.rules)
    assert not refused, "iptables refuses what the generator makes"
    text = "\n".join(describe(pair) for pair in wrong[:3])
    assert not wrong, f"{len(wrong)} of {PAIRS} pairs differ from the kernel (seed {SEED}); the first:\n{text}"


@pytest.mark.lab
def test_the_address_masquerade_takes() -> None:
    wrong = [pair for _, pair in masqueraded(SEED, max(4, PAIRS // 100)) if pair.differences]
    assert not wrong, f"{len(wrong)} differ from the kernel (seed {SEED}); the first:\n{describe(wrong[0])}"


@pytest.mark.lab
@pytest.mark.parametrize("case", every(), ids=lambda case: case.name)
def test_what_was_found_before(case: Regression, benches: dict[str, Bench]) -> None:
    if case.layout == USUAL:
        seen, found = replay(benches[case.backend], case)
    else:
        bench = Bench(case.backend, case.layout)
        try:
            seen, found = replay(bench, case)
        finally:
            bench.close()
    assert summary(seen) == case.kernel, "the kernel itself does otherwise than when the case was recorded"
    assert not found, f"{case.why}: " + "; ".join(map(str, found))


def test_a_seed_is_a_case() -> None:
    first, second = (Generator(7) for _ in range(2))
    assert [first.ruleset(4).text() for _ in range(3)] == [second.ruleset(4).text() for _ in range(3)]
    assert [first.sending(6) for _ in range(9)] == [second.sending(6) for _ in range(9)]
    assert sets_text(USUAL).count("create ") == 13


def test_shrinking_keeps_what_matters() -> None:
    rules = tuple(GeneratedRule((f"-p tcp --dport {i}", "-i eth0"), "-j DROP") for i in range(20))
    chains = (GeneratedChain("filter", "INPUT", "DROP", rules), GeneratedChain("nat", "OUTPUT", "ACCEPT", rules))
    small = shrink(RuleSet(4, chains), lambda r: "-p tcp --dport 13" in r.text() and "OUTPUT" in r.text())
    assert [(chain.name, len(chain.rules)) for chain in small.chains] == [("OUTPUT", 1)]
    assert small.chains[0].rules[0].matches == ("-p tcp --dport 13",)
