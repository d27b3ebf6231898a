"""Holds netk8s against the kernel, on rules and packets nobody has seen before.

::

    PYTHONPATH=tests python -m lab.differential --pairs 1000 --seed 7 [--backend nft|legacy] [--family 4|6]
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from netk8s.model import Way, World

from .agent import LabError, close_all
from .frames import UDP, Probe
from .generate_layout import random_layout
from .generate_rules import USUAL, Generator, Layout, RuleSet, Sending
from .node_under_test import NodeUnderTest
from .observation import Observation
from .prediction import (
    Difference,
    answer_differences,
    answer_to,
    answered_way,
    differences,
    predicted,
    predicted_ways,
    questions,
    read_snapshot,
    source_differences,
    world_with_rules,
)
from .shrink import shrink

PACKETS_PER_RULESET = 12
DICE = re.compile(r"-m (statistic|length) ")
"""What falls differently for the packet and for its answer, so that one way of it need not be the kernel's."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One ruleset and packet, what the kernel made of them, and in what netk8s differs. ``saved``: by iptables-save."""

    backend: str
    rules: RuleSet
    sending: Sending
    saved: str
    observation: Observation
    differences: tuple[Difference, ...]
    questions: frozenset[str] = frozenset()


class Bench:
    """A node under test, and netk8s' view of it."""

    def __init__(self, backend: str, layout: Layout = USUAL) -> None:
        self.layout = layout
        self.answers = 0
        self.node = NodeUnderTest(backend, layout)
        with tempfile.TemporaryDirectory(prefix="nk-lab-") as folder:
            # The texts stay readable: a snapshot holds them, mapped or read, behind the folder's end.
            self.snapshot = read_snapshot(self.node.dump(Path(folder)))

    def close(self) -> None:
        self.node.close()

    def load(self, rules: RuleSet) -> str:
        return self.node.load(rules)

    def judge(self, rules: RuleSet, saved: str, sendings: Iterable[Sending]) -> Iterator[Pair]:
        """Sends packets through the loaded rules and compares."""
        try:
            world: World | None = world_with_rules(self.snapshot, rules.family, saved)
            trouble = ""
        except Exception as error:
            world, trouble = None, _told(error)
        for sending in sendings:
            seen = self.node.observe(sending)
            asked: frozenset[str] = frozenset()
            if world is None:
                found: tuple[Difference, ...] = (Difference("error", seen.verdict, trouble),)
            else:
                try:
                    ways = predicted_ways(world, sending)
                    asked, found = frozenset(questions(ways)), differences(seen, ways)
                    if not found and not DICE.search(saved):
                        found = self._answer(sending, seen, ways)
                except TimeoutError as error:
                    found = (Difference("slow", seen.verdict, str(error)),)
                except Exception as error:
                    found = (Difference("error", seen.verdict, _told(error)),)
            yield Pair(self.node.backend, rules, sending, saved, seen, found, asked)

    def _answer(self, sending: Sending, seen: Observation, ways: tuple[Way, ...]) -> tuple[Difference, ...]:
        """Sends the answer to a packet that left, and compares its way too where netk8s followed it."""
        way = answered_way(sending, seen, ways)
        if way is None:
            return ()
        self.answers += 1
        back = self.node.observe(Sending(seen.oif, answer_to(sending, seen)), first=False)
        return answer_differences(sending.probe, back, way)

    def ask_sources(self, rules: RuleSet, saved: str, asked: Iterable[tuple[str, int]]) -> Iterator[Pair]:
        """Asks for the source address and the way of sockets that have none, by destination and mark."""
        world = world_with_rules(self.snapshot, rules.family, saved)
        for ip, mark in asked:
            seen = self.node.ask_source(ip, PORT_ASKED, mark)
            sending = Sending("", Probe(UDP, "::" if ":" in ip else "0.0.0.0", ip, 0, PORT_ASKED, mark=mark))  # noqa: S104
            try:
                found = source_differences(seen, predicted(world, sending))
            except Exception as error:
                found = (Difference("error", seen.verdict, _told(error)),)
            yield Pair(self.node.backend, rules, sending, saved, seen, found)

    def shrunk(self, pair: Pair, rounds: int = 120) -> Pair:
        """A pair with the smallest ruleset found whose difference is of the same kind."""
        best = pair
        kind = pair.differences[0].kind

        def still_wrong(rules: RuleSet) -> bool:
            nonlocal best
            try:
                saved = self.load(rules)
            except LabError:
                return False
            again = next(iter(self.judge(rules, saved, [pair.sending])))
            if again.differences and again.differences[0].kind == kind:
                best = again
                return True
            return False

        shrink(pair.rules, still_wrong, rounds)
        return best


def _told(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def judged(
    seed: int,
    pairs: int,
    backends: tuple[str, ...] = ("nft", "legacy"),
    families: tuple[int, ...] = (4, 6),
    refusals: list[str] | None = None,
) -> Iterator[tuple[Bench, Pair]]:
    """Pairs from a seed, in turn from each backend and family."""
    generator = Generator(seed)
    benches = {backend: Bench(backend) for backend in backends}
    made = 0
    turn = 0
    try:
        while made < pairs:
            bench = benches[backends[turn % len(backends)]]
            family = families[turn // len(backends) % len(families)]
            turn += 1
            rules = generator.ruleset(family)
            sendings = [generator.sending(family) for _ in range(PACKETS_PER_RULESET)]
            try:
                saved = bench.load(rules)
            except LabError as error:
                if refusals is not None:
                    refusals.append(str(error))
                continue
            for pair in bench.judge(rules, saved, sendings):
                yield bench, pair
                made += 1
    finally:
        for bench in benches.values():
            bench.close()


PORT_ASKED = 9


def masqueraded(seed: int, layouts: int, families: tuple[int, ...] = (4, 6)) -> Iterator[tuple[Bench, Pair]]:
    """Pairs over random addresses, routes, policy rules and settings. The rules set marks and MASQUERADE: what is
    compared is the way out, the address it takes, and what a socket without an address gets.
    """
    for number in range(seed, seed + layouts):
        layout = random_layout(number)
        generator = Generator(number, layout)
        bench = Bench(("nft", "legacy")[number % 2], layout)
        try:
            for family in families:
                if not layout.pick("local", family):
                    continue
                rules = generator.routing_rules(family)
                sendings = [generator.sending(family) for _ in range(PACKETS_PER_RULESET)]
                saved = bench.load(rules)
                for pair in bench.judge(rules, saved, [s for s in sendings if s.iif != "lo"]):
                    yield bench, pair
                for pair in bench.ask_sources(rules, saved, generator.destinations(family)):
                    yield bench, pair
        finally:
            bench.close()


def _layout_text(layout: Layout) -> list[str]:
    """A node as a person reads it: addresses, routes, policy rules, settings."""
    lines = [f"  {device.name}: {', '.join(device.addresses)}" for device in layout.devices]
    lines += [f"  route {route}" for route in (*(r for d in layout.devices for r in d.routes), *layout.routes)]
    return [*lines, *(f"  {rule}" for rule in layout.rules), *(f"  {name}={value}" for name, value in layout.sysctls)]


def describe(pair: Pair) -> str:
    """A pair as a person reads it: rules, packet, the kernel's way, the differences."""
    seen, probe = pair.observation, pair.sending.probe
    rules = [line for line in pair.saved.splitlines() if line[:1] in "*:-" and not line.endswith("ACCEPT [0:0]")]
    lines = [
        f"--- {pair.backend} ipv{probe.family} in={pair.sending.iif or 'node'} proto={probe.protocol} "
        f"{probe.src}:{probe.sport} > {probe.dst}:{probe.dport} mark={probe.mark:#x} flags={','.join(probe.tcp_flags)} "
        f"icmp={probe.icmp_type} ttl={probe.ttl}"
    ]
    lines += ["  " + line for line in rules]
    lines.append(f"  kernel: {seen.verdict} {seen.answer} {seen.reason} {seen.headers} out={seen.oif}")
    lines += [f"  {difference}" for difference in pair.differences]
    return "\n".join(lines)


def rough_signature(pair: Pair) -> str:
    """The same before shrinking, which takes seconds: the first difference without its values."""
    probe = pair.sending.probe
    text = str(pair.differences[0])
    words = sorted(set(re.findall(r"(?:! )?--?[a-z][a-z-]+|-j [A-Z]+|'[a-z]+'", text)))
    packet = probe.icmp_type if probe.protocol in (1, 58) else probe.tcp_flags
    return f"{pair.differences[0].kind} {packet} {' '.join(words)}"


def signature(pair: Pair) -> str:
    """What two mismatches of one cause have in common, once they are shrunk: the words of the rules without values."""
    words = sorted(
        {
            word
            for chain in pair.rules.chains
            for rule in chain.rules
            for word in " ".join((*rule.matches, rule.target)).split()
            if word[:1] in "-!"
        }
    )
    hooks = sorted({f"{chain.table}/{chain.name}" for chain in pair.rules.chains if chain.rules and chain.policy})
    return f"{pair.differences[0].kind} {' '.join(words)} {' '.join(hooks)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=("nft", "legacy"))
    parser.add_argument("--family", type=int, choices=(4, 6))
    parser.add_argument(
        "--layouts", type=int, default=0, help="random addresses and MASQUERADE instead, on so many nodes"
    )
    parser.add_argument(
        "--save", default="", metavar="NAME", help="keep the first mismatch, shrunk, as a regression case"
    )
    parser.add_argument("--why", default="", help="what the saved case shows, in a sentence")
    parser.add_argument("--show", type=int, default=5, help="how many different mismatches to shrink and print")
    options = parser.parse_args()
    backends = (options.backend,) if options.backend else ("nft", "legacy")
    families = (options.family,) if options.family else (4, 6)
    refusals: list[str] = []
    verdicts: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    asked: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    rough: Counter[str] = Counter()
    start = time.monotonic()
    shrinking = 0.0
    made = 0
    answers: dict[int, int] = {}
    source = (
        masqueraded(options.seed, options.layouts, families)
        if options.layouts
        else judged(options.seed, options.pairs, backends, families, refusals)
    )
    for bench, pair in source:
        made += 1
        answers[id(bench)] = bench.answers
        seen = pair.observation
        verdicts[f"{seen.verdict} {seen.answer}".strip()] += 1
        lengths[min(len(seen.path), 12)] += 1
        for question in pair.questions:
            asked[question.split(" (")[0]] += 1
        if pair.differences:
            first = pair.differences[0]
            wrong[first.kind] += 1
            rough[rough_signature(pair)] += 1
            if len(shown) < options.show and rough[rough_signature(pair)] == 1:
                before = time.monotonic()
                small = pair if options.layouts or first.kind == "slow" else bench.shrunk(pair)
                bench.load(pair.rules)
                shrinking += time.monotonic() - before
                if shown[signature(small)] == 0:
                    print(
                        "\n".join([describe(small), *(_layout_text(bench.layout) if options.layouts else [])]),
                        flush=True,
                    )
                if options.save and not shown:
                    from .regressions import save  # it needs this module

                    print("saved as", save(options.save, options.why or signature(small), small, bench.layout))
                shown[signature(small)] += 1
    took = time.monotonic() - start - shrinking
    print(f"{made} pairs in {took:.1f} s: {made / took:.0f} a second; {len(refusals)} rulesets refused")
    print("answers compared too:", sum(answers.values()))
    print("kernel:", dict(verdicts.most_common()))
    print("rules matched per packet:", dict(sorted(lengths.items())))
    print("asked, for no dump tells:", dict(asked.most_common(12)))
    print("mismatches:", sum(wrong.values()), dict(wrong.most_common()))
    for name, count in shown.most_common():
        print(f"  {count} x {name}")
    for why, count in Counter(r.split("Error occurred")[0][:300] for r in refusals).most_common(8):
        print(count, why)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        close_all()
