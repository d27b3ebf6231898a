"""netk8s against the kernel under native nftables rules: a fixed slice of random ones, and every mismatch ever found."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .generate_nft import NftGenerator
from .nft_differential import NftBench, NftPair, describe, judged
from .nft_regressions import NftRegression, every, replay
from .nft_rules import NftChain, NftRule, NftRuleSet, NftSet, NftTable, listed_rules
from .shrink import shrink

PAIRS = int(os.environ.get("NETK8S_FUZZ_PAIRS", "1000")) // 5
SEED = int(os.environ.get("NETK8S_FUZZ_SEED", "20260303"))


@pytest.fixture(scope="module")
def bench() -> Iterator[NftBench]:
    made = NftBench()
    yield made
    made.close()


@pytest.mark.lab
@pytest.mark.parametrize("mixed", [False, True], ids=["native", "mixed"])
def test_random_rules_and_packets(mixed: bool) -> None:
    count = PAIRS // 4 if mixed else PAIRS
    wrong: list[NftPair] = []
    refused: list[str] = []
    for bench, rules, pair in judged(SEED, count, mixed, refused):
        if pair.differences:
            wrong.append(bench.shrunk(rules, pair, rounds=60) if not wrong else pair)
            bench.load(pair.loaded.loading)
    assert not refused, "nft refuses what the generator makes"
    text = "\n".join(describe(pair) for pair in wrong[:2])
    assert not wrong, f"{len(wrong)} of {count} pairs differ from the kernel (seed {SEED}); the first:\n{text}"


@pytest.mark.lab
@pytest.mark.parametrize("case", every(), ids=lambda case: case.name)
def test_what_was_found_before(case: NftRegression, bench: NftBench) -> None:
    seen, found = replay(bench, case)
    assert seen == case.kernel, "the kernel itself does otherwise than when the case was recorded"
    assert not found, f"{case.why}: " + "; ".join(map(str, found))


def test_a_seed_is_a_case() -> None:
    first, second = (NftGenerator(7) for _ in range(2))
    assert [first.ruleset().text() for _ in range(5)] == [second.ruleset().text() for _ in range(5)]
    assert first.ruleset(mixed=True) == second.ruleset(mixed=True)


def test_the_vocabulary_is_met() -> None:
    generator = NftGenerator(1)
    text = "".join(generator.ruleset().text() for _ in range(150))
    for word in (
        *(
            "type nat hook output",
            "type route hook output",
            "policy drop",
            "table inet",
            "table ip6 ",
            "priority dstnat",
        ),
        *(
            "vmap {",
            "vmap @",
            "numgen inc",
            "jhash",
            "symhash",
            "th dport",
            "meta l4proto",
            "fib daddr type",
            ". iif oif",
        ),
        *(
            "ct state vmap",
            "ct status",
            "ct original",
            "ct direction",
            "ct mark set",
            "dnat ip addr . port to",
            "notrack",
        ),
        *("masquerade", "redirect to :", "fully-random", "reject with icmpx", "with tcp reset", "limit rate", "quota"),
        *("goto ", "jump ", "return", "update @seen", "flags dynamic", "flags interval", "oifname", 'iif "', "pkttype"),
        *("tcp flags", "icmpv6 type", "ip dscp", "ip6 hoplimit", "map @to", "comment", "typeof", "timeout 1h30m"),
    ):
        assert word in text, word


def test_shrinking_keeps_what_a_rule_names() -> None:
    idle = tuple(NftRule((f"tcp dport {i}", "counter", "accept")) for i in range(9))
    chains = (
        NftChain("unused", idle),
        NftChain("called", idle),
        NftChain("base", (*idle, NftRule(("ip saddr @known", "jump called"))), "type filter hook input priority 0"),
    )
    table = NftTable("ip", "t", (NftSet("known", "type ipv4_addr"), NftSet("other", "type ipv4_addr")), chains)
    small = shrink(NftRuleSet((table, table)), lambda r: "jump called" in r.text())
    (left,) = small.tables
    assert [(c.name, [r.text() for r in c.rules]) for c in left.chains] == [("called", []), ("base", ["jump called"])]
    assert not left.sets


def test_rules_are_read_from_a_listing() -> None:
    text = "table ip t {\n\tset s {\n\t\ttype ipv4_addr\n\t}\n\n\tchain a {\n\t\ttype filter hook input priority 0; policy accept;\n"
    text += "\t\tcounter packets 1 bytes 2 accept\n\t\tdrop\n\t}\n"
    text += '\tchain b {\n\t\tcomment "drop {all}"\n\t\treject\n\t}\n}\n'
    assert listed_rules(text) == {("ip", "t", "a"): ["counter accept", "drop"], ("ip", "t", "b"): ["reject"]}
