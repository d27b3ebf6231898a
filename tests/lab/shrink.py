"""Makes a ruleset small while something stays true of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .generate_rules import GeneratedRule, RuleSet

Place = tuple[int, int]


def shrink(rules: RuleSet, still_wrong: Callable[[RuleSet], bool], rounds: int = 150) -> RuleSet:
    """The smallest ruleset found of which ``still_wrong`` holds, after at most so many trials.

    First whole runs of rules go, halves before quarters (Zeller's ddmin), then the matches of those that are left.
    """
    left = rounds

    def wrong(candidate: RuleSet) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and still_wrong(candidate)

    kept = _places(rules)
    size = max(1, len(kept) // 2)
    while left > 0:
        for at in range(0, len(kept), size):
            fewer = kept[:at] + kept[at + size :]
            if wrong(_only(rules, fewer)):
                kept = fewer
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
    rules = _only(rules, kept)
    progress = True
    while progress and left > 0:
        progress = False
        for candidate in _simpler(rules):
            if wrong(candidate):
                rules, progress = candidate, True
                break
    return rules


def _places(rules: RuleSet) -> list[Place]:
    """Every rule, as (chain, position); position -1 is a DROP policy."""
    return [
        (i, j)
        for i, chain in enumerate(rules.chains)
        for j in (*([-1] if chain.policy == "DROP" else []), *range(len(chain.rules)))
    ]


def _only(rules: RuleSet, places: list[Place]) -> RuleSet:
    """The ruleset with nothing but these rules and the user chains they name."""
    kept = set(places)
    chains = [
        replace(
            chain,
            rules=tuple(rule for j, rule in enumerate(chain.rules) if (i, j) in kept),
            policy="ACCEPT" if chain.policy and (i, -1) not in kept else chain.policy,
        )
        for i, chain in enumerate(rules.chains)
    ]
    named = {(chain.table, rule.target.split()[1]) for chain in chains for rule in chain.rules if rule.target}
    return RuleSet(
        rules.family,
        tuple(chain for chain in chains if chain.rules or chain.policy == "DROP" or (chain.table, chain.name) in named),
    )


def _simpler(rules: RuleSet) -> Iterator[RuleSet]:
    """Rulesets with one match or one target left out."""
    for i, chain in enumerate(rules.chains):
        for j, rule in enumerate(chain.rules):
            fewer = [
                GeneratedRule(rule.matches[:k] + rule.matches[k + 1 :], rule.target) for k in range(len(rule.matches))
            ]
            for simple in (*fewer, *([GeneratedRule(rule.matches, "")] if rule.target else [])):
                changed = replace(chain, rules=(*chain.rules[:j], simple, *chain.rules[j + 1 :]))
                yield RuleSet(rules.family, (*rules.chains[:i], changed, *rules.chains[i + 1 :]))
