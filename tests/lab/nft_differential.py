"""Holds netk8s against the kernel on native nftables rulesets, alone and between iptables rules of both backends.

::

    PYTHONPATH=tests python -m lab.nft_differential --pairs 1000 --seed 7 [--mixed]
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from netk8s.decode import decode
from netk8s.model import Dump, NftRule, Way, World

from .agent import LabError, close_all
from .generate_nft import NftGenerator
from .generate_rules import USUAL, Sending
from .nft_rules import NFPROTO, NftRuleSet, json_without_observer, listed_rules, without_observer
from .node_under_test import NodeUnderTest
from .observation import Observation, observed
from .prediction import Difference, Rules, differences, predicted_ways, questions, read_snapshot
from .rules import EMPTY_RULES, PathStep, parse_saved
from .shrink import shrink
from .worker import Matched

PACKETS_PER_RULESET = 12
LIST = ("nft", "list", "ruleset")
FORMS = {"json": ("nft", "-j", "list", "ruleset"), "text": LIST, "handles": ("nft", "-a", "list", "ruleset"), "stateless": ("nft", "-s", "list", "ruleset")}  # fmt: skip
TRACED = ("json", "text", "both")
"""The forms that every answer is asked of; "both" is JSON with the words of the text. The variants of the text must
decode to the very same facts."""


@dataclass(frozen=True, slots=True)
class Loading:
    """What is loaded: nft's text, (backend, family, text) of iptables-restore, and what empties the dynamic sets again."""

    nft: str
    iptables: tuple[tuple[str, int, str], ...] = ()
    refill: str = ""

    def tables(self) -> tuple[tuple[str, str], ...]:
        return tuple(re.findall(r"^table (\S+) (\S+)", self.nft, flags=re.MULTILINE))


def loading(rules: NftRuleSet) -> Loading:
    iptables = tuple((backend, each.family, each.text()) for backend, each in rules.iptables)
    return Loading(rules.text(), iptables, rules.refill())


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rules as the kernel has them: every listing, and what iptables-save prints by backend and family."""

    loading: Loading
    listings: dict[str, str]
    saved: dict[tuple[str, int], str]

    def dumps(self, form: str) -> list[Dump]:
        found = []
        if form in ("json", "both"):
            found.append(Dump("nodes/node/nft-ruleset.json", self.listings["json"].encode(), "node"))
        if form != "json":
            listing = self.listings["text" if form == "both" else form]
            found.append(Dump("nodes/node/nft-ruleset.txt", listing.encode(), "node"))
        for (backend, family), text in self.saved.items():
            name = f"{'ip6' if family == 6 else 'ip'}tables-{backend}-save.txt"
            found.append(Dump(f"nodes/node/{name}", text.encode(), "node"))
        return found


@dataclass(frozen=True, slots=True)
class NftPair:
    """One ruleset and packet, what the kernel made of them, and in what netk8s differs, by the form of the dump."""

    loaded: Loaded
    sending: Sending
    observation: Observation
    differences: tuple[Difference, ...]
    form: str = ""
    questions: frozenset[str] = frozenset()


class NftBench:
    """A node under test, and netk8s' view of it."""

    def __init__(self) -> None:
        # Legacy tables are there first, empty or not: their hooks stand behind those of equal priority.
        self.node = NodeUnderTest("legacy", USUAL)
        self.node.node.call("arm", "both")
        self._tables: tuple[tuple[str, str], ...] = ()
        self._backends: set[str] = {"legacy"}
        self._empty = True
        self._saved: dict[tuple[str, int], str] = {}
        with tempfile.TemporaryDirectory(prefix="nk-lab-") as folder:
            self.snapshot = read_snapshot(self.node.dump(Path(folder), armed="both"))
        dumps = tuple(dump for dump in self.snapshot.dumps if "tables-" not in dump.origin)
        self._rest = decode(replace(self.snapshot, dumps=dumps)).nodes["node"]

    def close(self) -> None:
        self.node.close()

    # ------------------------------------------------------------ the kernel's side

    def load(self, rules: Loading) -> Loaded:
        """Loads rules in place of those before. LabError when nft refuses them; then its old ones are still there."""
        agent = self.node.node
        if rules.iptables:
            for backend, family, text in rules.iptables:
                self._backends.add(backend)
                agent.call("load", backend, family, text)
        elif not self._empty:
            for backend in self._backends:
                for family in (4, 6):
                    agent.call("load", backend, family, EMPTY_RULES)
        gone = "".join(f"delete table {family} {name}\n" for family, name in self._tables)
        agent.call("load_nft", gone + rules.nft)
        self._tables = rules.tables()
        if rules.iptables or not self._empty or not self._saved:
            backends = sorted(self._backends)
            self._saved = {(b, family): agent.call("save", b, family) for b in backends for family in (4, 6)}
        self._empty = not rules.iptables
        return Loaded(rules, self._listings(), self._saved)

    def _listings(self) -> dict[str, str]:
        listings = {form: self.node.node.call("run", command) for form, command in FORMS.items()}
        return {
            form: json_without_observer(text) if form == "json" else without_observer(text)
            for form, text in listings.items()
        }

    def observe(self, loaded: Loaded, names: Names, sending: Sending) -> Observation:
        agent, probe = self.node.node, sending.probe
        if loaded.loading.refill:
            agent.call("load_nft", loaded.loading.refill)
        refused, collected = self.node.send(sending)
        path = names.path(probe.family, collected.matched)
        # Of two backends' events either's last may be the end.
        last = next((event for event in collected.matched if names.drops(probe.family, event)), None)
        ended = ""
        if last is not None:
            rule = next((step.rule for step in names.path(probe.family, [last])), "")
            ended = "rejected" if re.search(r"\breject\b|-j REJECT", rule) else "dropped"
        return observed(probe, refused, collected, path, ended)

    # ------------------------------------------------------------ netk8s' side

    def world(self, loaded: Loaded, form: str) -> World:
        found = decode(replace(self.snapshot, dumps=tuple(loaded.dumps(form))))
        # What is no rule stays the same, and is decoded once.
        rules = found.nodes["node"]
        node = replace(self._rest, tables=rules.tables, nft=rules.nft, covered=self._rest.covered | rules.covered)
        return replace(found, nodes={"node": node})

    def judge(self, loaded: Loaded, sendings: Iterable[Sending]) -> Iterator[NftPair]:
        """Sends packets through the loaded rules and compares, with every form of the dump."""
        names = Names(loaded)
        worlds, trouble = self._worlds(loaded)
        predicted = {form: Predicted(names, world) for form, world in worlds.items()}
        for sending in sendings:
            seen = self.observe(loaded, names, sending)
            form, found, asked = "", trouble, frozenset[str]()
            for form in TRACED if not trouble else ():
                try:
                    ways = predicted_ways(worlds[form], sending)
                    asked, found = frozenset(questions(ways)), differences(seen, ways, predicted[form].path)
                except TimeoutError as error:
                    found = (Difference("slow", seen.verdict, str(error)),)
                except Exception as error:
                    found = (Difference("error", seen.verdict, _told(error)),)
                if found:
                    break
            yield NftPair(loaded, sending, seen, found, form, asked)

    def _worlds(self, loaded: Loaded) -> tuple[dict[str, World], tuple[Difference, ...]]:
        """netk8s' view by form, and what keeps it from having one: an error, or variants of the text that differ."""
        try:
            worlds = {form: self.world(loaded, form) for form in (*TRACED, "handles", "stateless")}
            facts = {form: _facts(worlds.pop(form)) for form in ("handles", "stateless")}
        except Exception as error:
            return {}, (Difference("error", "", _told(error)),)
        plain = _facts(worlds["text"])
        for form, found in facts.items():
            if found != plain:
                first = next(((a, b) for a, b in zip(plain, found, strict=False) if a != b), (len(plain), len(found)))
                return worlds, (Difference("form", f"nft list: {first[0]}", f"{form}: {first[1]}"),)
        return worlds, ()

    def shrunk(self, rules: NftRuleSet, pair: NftPair, rounds: int = 150) -> NftPair:
        """A pair with the smallest ruleset found whose difference is of the same kind."""
        best = pair
        kind = pair.differences[0].kind

        def still_wrong(rules: NftRuleSet) -> bool:
            nonlocal best
            try:
                loaded = self.load(loading(rules))
            except LabError:
                return False
            again = next(iter(self.judge(loaded, [pair.sending])))
            if again.differences and again.differences[0].kind == kind:
                best = again
                return True
            return False

        shrink(rules, still_wrong, rounds)
        return best


def _facts(world: World) -> list[object]:
    """Everything decoded of the tables but the lines and times left: rule by rule, element by element."""
    found: list[object] = []
    for table in world.nodes["node"].nft:
        found.append((table.family, table.name, table.dormant))
        for chain in table.chains.values():
            found.append((chain.name, chain.type, chain.hook, chain.priority, chain.policy))
            found += [(rule.statements, rule.raw, rule.comment) for rule in chain.rules]
        for s in table.sets.values():
            found.append((s.name, s.types, s.map, s.dynamic, s.timeout))
            found += [replace(element, expires=None) for element in s.elements]
    return found


def _told(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


class Names:
    """The kernel's rules in the words of the listings: of native ones ``number: text``, of iptables' as saved."""

    def __init__(self, loaded: Loaded) -> None:
        self.native = listed_rules(loaded.listings["text"])
        self.saved = {key: parse_saved(text) for key, text in loaded.saved.items()}
        self.texts = loaded.saved

    def step(self, family: str, table: str, chain: str, number: int) -> PathStep:
        rules = self.native.get((family, table, chain), [])
        text = rules[number - 1] if 1 <= number <= len(rules) else "?"
        return PathStep(f"{family} {table}", chain, f"{number}: {text}")

    def path(self, version: int, matched: Iterable[Matched]) -> tuple[PathStep, ...]:
        """The rules that matched, the legacy ones first: the kernel does not tell the order of the two backends."""
        steps: list[tuple[bool, PathStep]] = []
        for event in matched:
            found = self._iptables(version, event)
            if found is None:
                if event.number > 0:
                    steps.append((True, self.step(NFPROTO[event.nfproto], event.table, event.chain, event.number)))
            elif 1 <= event.number <= len(found):
                name = f"{event.backend} {event.table}"
                steps.append((event.backend == "nft", PathStep(name, event.chain, found[event.number - 1], event.mark)))
        return tuple(step for _, step in sorted(steps, key=lambda s: s[0]))

    def _iptables(self, version: int, event: Matched) -> list[str] | None:
        """The rules of the event's chain, None when it is a native one."""
        text = self.texts.get((event.backend, version), "")
        if event.backend == "nft" and (NFPROTO[event.nfproto] == "inet" or f"*{event.table}\n" not in text):
            return None
        return self.saved[event.backend, version].get((event.table, event.chain), [])

    def drops(self, version: int, event: Matched) -> bool:
        if event.backend == "nft":
            return event.verdict == 0
        rules = self._iptables(version, event) or []
        if 1 <= event.number <= len(rules):
            return rules[event.number - 1].endswith("-j DROP") or " -j REJECT" in rules[event.number - 1]
        section = self.texts["legacy", version].split(f"*{event.table}\n", 1)[-1].split("COMMIT", 1)[0]
        return f":{event.chain} DROP" in section


class Predicted:
    """A way's rules in the same words. A native rule is known by its place: JSON has no text to go by."""

    def __init__(self, names: Names, world: World) -> None:
        self.names = names
        self.node = world.nodes["node"]

    def path(self, way: Way) -> Rules:
        steps: list[tuple[bool, tuple[str, str, str]]] = []
        for hop in way.hops:
            for step in hop.steps:
                if step.nft is not None:
                    found = self._place(step.nft)
                    steps.append((True, (found.table, found.chain, found.rule)))
                elif step.rule is not None:
                    backend = "legacy" if step.at and "-legacy-" in step.at.origin else "nft"
                    steps.append((backend == "nft", (f"{backend} {step.table}", step.chain, step.rule)))
        return [step for _, step in sorted(steps, key=lambda s: s[0])]

    def _place(self, rule: NftRule) -> PathStep:
        for table in self.node.nft:
            chain = table.chains.get(rule.chain)
            for number, other in enumerate(chain.rules if chain else (), 1):
                if other is rule:
                    return self.names.step(table.family, table.name, rule.chain, number)
        return PathStep("?", rule.chain, rule.raw)


# ------------------------------------------------------------ a run


def judged(
    seed: int, pairs: int, mixed: bool = False, refusals: list[str] | None = None
) -> Iterator[tuple[NftBench, NftRuleSet, NftPair]]:
    """Pairs from a seed."""
    generator = NftGenerator(seed)
    bench = NftBench()
    made = 0
    try:
        while made < pairs:
            rules = generator.ruleset(mixed)
            families = [generator.random.choice((4, 6)) for _ in range(PACKETS_PER_RULESET)]
            sendings = [generator.iptables.sending(family) for family in families]
            try:
                loaded = bench.load(loading(rules))
            except LabError as error:
                if refusals is not None:
                    refusals.append(str(error))
                continue
            for pair in bench.judge(loaded, sendings):
                yield bench, rules, pair
                made += 1
    finally:
        bench.close()


def describe(pair: NftPair) -> str:
    """A pair as a person reads it."""
    seen, probe = pair.observation, pair.sending.probe
    lines = [
        f"--- as {pair.form}: ipv{probe.family} in={pair.sending.iif or 'node'} proto={probe.protocol} "
        f"{probe.src}:{probe.sport} > {probe.dst}:{probe.dport} mark={probe.mark:#x} flags={','.join(probe.tcp_flags)} "
        f"icmp={probe.icmp_type} ttl={probe.ttl}"
    ]
    lines += ["  " + line for line in pair.loaded.loading.nft.splitlines()]
    for backend, family, text in pair.loaded.loading.iptables:
        lines += [f"  {backend} {family}: {line}" for line in text.splitlines() if line[:1] == "-"]
    lines.append(f"  kernel: {seen.verdict} {seen.answer} {seen.reason} {seen.headers} out={seen.oif}")
    lines += [f"    {step.table} {step.chain} {step.rule}" for step in seen.path]
    lines += [f"  {difference}" for difference in pair.differences]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mixed", action="store_true", help="iptables rules of both backends beside the native ones")
    parser.add_argument("--save", default="", metavar="NAME", help="keep the first mismatch, shrunk, as a regression")
    parser.add_argument("--why", default="", help="what the saved case shows, in a sentence")
    parser.add_argument("--show", type=int, default=5, help="how many mismatches to shrink and print")
    options = parser.parse_args(argv)
    refusals: list[str] = []
    verdicts: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    asked: Counter[str] = Counter()
    start, shrinking, made, rulesets, shown = time.monotonic(), 0.0, 0, 0, 0
    last: Loaded | None = None
    spoilt: Loaded | None = None
    for bench, rules, pair in judged(options.seed, options.pairs, options.mixed, refusals):
        made += 1
        rulesets += pair.loaded is not last
        last = pair.loaded
        verdicts[f"{pair.observation.verdict} {pair.observation.answer}".strip()] += 1
        lengths[min(len(pair.observation.path), 12)] += 1
        asked.update(question.split(" (")[0] for question in pair.questions)
        if pair.differences:
            wrong[f"{pair.form} {pair.differences[0].kind}"] += 1
            if shown < options.show and spoilt is not pair.loaded:
                spoilt = pair.loaded
                before = time.monotonic()
                small = pair if pair.differences[0].kind == "slow" else bench.shrunk(rules, pair)
                bench.load(pair.loaded.loading)
                shrinking += time.monotonic() - before
                print(describe(small), flush=True)
                if options.save and not shown:
                    from .nft_regressions import save  # it needs this module

                    print("saved as", save(options.save, options.why, small))
                shown += 1
    took = time.monotonic() - start - shrinking
    print(f"{made} pairs of {rulesets} rulesets in {took:.1f} s: {made / took:.0f} a second; {len(refusals)} refused")
    print("kernel:", dict(verdicts.most_common()))
    print("rules matched per packet:", dict(sorted(lengths.items())))
    print("asked, for no dump tells:", dict(asked.most_common(12)))
    print("mismatches:", sum(wrong.values()), dict(wrong.most_common()))
    for why, count in Counter(r[:300] for r in refusals).most_common(5):
        print(count, why)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        close_all()
