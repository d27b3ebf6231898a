"""Makes a ruleset small while something stays true of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .generate_rules import GeneratedChain, GeneratedRule, RuleSet


def shrink(rules: RuleSet, still_wrong: Callable[[RuleSet], bool], rounds: int = 400) -> RuleSet:
    """The smallest ruleset found of which ``still_wrong`` holds, after at most so many trials."""
    tried = 0
    progress = True
    while progress and tried < rounds:
        progress = False
        for candidate in _smaller(rules):
            tried += 1
            if tried >= rounds:
                break
            if still_wrong(candidate):
                rules, progress = candidate, True
                break
    return rules


def _smaller(rules: RuleSet) -> Iterator[RuleSet]:
    """Rulesets with something left out, the biggest pieces first."""
    for table in {chain.table for chain in rules.chains}:
        if any(chain.rules or chain.policy == "DROP" for chain in rules.chains if chain.table == table):
            yield RuleSet(rules.family, tuple(chain for chain in rules.chains if chain.table != table))
    named = {word for chain in rules.chains for rule in chain.rules for word in rule.target.split()[1:2]}
    unused = tuple(c for c in rules.chains if (c.rules or c.policy == "DROP" or c.name in named))
    if len(unused) < len(rules.chains):
        yield RuleSet(rules.family, unused)
    for i, chain in enumerate(rules.chains):
        if chain.policy == "DROP":
            yield _with(rules, i, replace(chain, policy="ACCEPT"))
        count = len(chain.rules)
        if count > 1:
            yield _with(rules, i, replace(chain, rules=()))
            yield _with(rules, i, replace(chain, rules=chain.rules[: count // 2]))
            yield _with(rules, i, replace(chain, rules=chain.rules[count // 2 :]))
        for j in range(count):
            yield _with(rules, i, replace(chain, rules=chain.rules[:j] + chain.rules[j + 1 :]))
    for i, chain in enumerate(rules.chains):
        for j, rule in enumerate(chain.rules):
            for k in range(len(rule.matches)):
                matches = rule.matches[:k] + rule.matches[k + 1 :]
                yield _with(rules, i, _replace_rule(chain, j, GeneratedRule(matches, rule.target)))
            if rule.target:
                yield _with(rules, i, _replace_rule(chain, j, GeneratedRule(rule.matches, "")))


def _with(rules: RuleSet, at: int, chain: GeneratedChain) -> RuleSet:
    return RuleSet(rules.family, (*rules.chains[:at], chain, *rules.chains[at + 1 :]))


def _replace_rule(chain: GeneratedChain, at: int, rule: GeneratedRule) -> GeneratedChain:
    return replace(chain, rules=(*chain.rules[:at], rule, *chain.rules[at + 1 :]))
