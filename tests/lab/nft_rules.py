"""An nftables ruleset in pieces, so that a shrinker can leave some out; with the iptables rules beside it, if any."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .generate_rules import RuleSet
from .shrink import Place
from .worker import OBSERVER

NFPROTO = {1: "inet", 2: "ip", 10: "ip6"}
_NAMED = re.compile(r"(?:jump|goto|@)\s*([\w-]+)")


@dataclass(frozen=True, slots=True)
class NftRule:
    """A rule as its statements."""

    parts: tuple[str, ...]

    def text(self) -> str:
        return " ".join(self.parts)


@dataclass(frozen=True, slots=True)
class NftChain:
    """A chain; ``base`` is what a base chain says of its type, hook and priority."""

    name: str
    rules: tuple[NftRule, ...]
    base: str = ""
    drop: bool = False

    def text(self) -> str:
        head = [f"{self.base}; policy {'drop' if self.drop else 'accept'};"] if self.base else []
        lines = [*head, *(rule.text() for rule in self.rules)]
        return "".join([f" chain {self.name} {{\n", *(f"  {line}\n" for line in lines), " }\n"])


@dataclass(frozen=True, slots=True)
class NftSet:
    """A set or map. ``dynamic``: rules add to it."""

    name: str
    declared: str
    elements: tuple[str, ...] = ()
    dynamic: bool = False
    map: bool = False

    def text(self) -> str:
        elements = f"  elements = {{ {', '.join(self.elements)} }}\n" if self.elements else ""
        return f" {'map' if self.map else 'set'} {self.name} {{\n  {self.declared}\n{elements} }}\n"


@dataclass(frozen=True, slots=True)
class NftTable:
    family: str
    name: str
    sets: tuple[NftSet, ...]
    chains: tuple[NftChain, ...]

    def text(self) -> str:
        inner = "".join([*(s.text() for s in self.sets), *(c.text() for c in self.chains)])
        return f"table {self.family} {self.name} {{\n{inner}}}\n"


@dataclass(frozen=True, slots=True)
class NftRuleSet:
    """Native tables in the order they are made, and behind them the rules of each iptables backend."""

    tables: tuple[NftTable, ...]
    iptables: tuple[tuple[str, RuleSet], ...] = ()

    def text(self) -> str:
        return "".join(table.text() for table in self.tables)

    def refill(self) -> str:
        """What empties the sets that rules add to, as they were at first; "" when there are none."""
        lines = []
        for table in self.tables:
            for s in table.sets:
                if s.dynamic:
                    where = f"{table.family} {table.name} {s.name}"
                    lines.append(f"flush set {where}")
                    lines += [f"add element {where} {{ {', '.join(s.elements)} }}"] if s.elements else []
        return "".join(line + "\n" for line in lines)

    # ------------------------------------------------------------ for the shrinker

    def places(self) -> list[Place]:
        """Rules as (0, table, chain, rule), drop policies with rule -1; iptables rules as (1, ruleset, chain, rule)."""
        native = [
            (0, i, j, k)
            for i, table in enumerate(self.tables)
            for j, chain in enumerate(table.chains)
            for k in (*([-1] if chain.drop else []), *range(len(chain.rules)))
        ]
        return [*native, *((1, i, *place) for i, (_, rules) in enumerate(self.iptables) for place in rules.places())]

    def only(self, kept: Sequence[Place]) -> NftRuleSet:
        places = set(kept)
        tables = []
        for i, table in enumerate(self.tables):
            chains = tuple(
                replace(
                    chain,
                    rules=tuple(rule for k, rule in enumerate(chain.rules) if (0, i, j, k) in places),
                    drop=(0, i, j, -1) in places,
                )
                for j, chain in enumerate(table.chains)
            )
            tables.append(_without_idle(replace(table, chains=chains)))
        iptables = tuple(
            (backend, rules.only([place[2:] for place in places if place[:2] == (1, i)]))
            for i, (backend, rules) in enumerate(self.iptables)
        )
        return NftRuleSet(tuple(table for table in tables if table.chains), iptables)

    def simpler(self) -> Iterator[NftRuleSet]:
        for i, table in enumerate(self.tables):
            for j, chain in enumerate(table.chains):
                for k, rule in enumerate(chain.rules):
                    for p in range(len(rule.parts)):
                        fewer = NftRule(rule.parts[:p] + rule.parts[p + 1 :])
                        if fewer.parts:
                            rules = (*chain.rules[:k], fewer, *chain.rules[k + 1 :])
                            chains = (*table.chains[:j], replace(chain, rules=rules), *table.chains[j + 1 :])
                            changed = _without_idle(replace(table, chains=chains))
                            yield replace(self, tables=(*self.tables[:i], changed, *self.tables[i + 1 :]))
        for i, (backend, rules) in enumerate(self.iptables):
            for simple in rules.simpler():
                yield replace(self, iptables=(*self.iptables[:i], (backend, simple), *self.iptables[i + 1 :]))


def _without_idle(table: NftTable) -> NftTable:
    """A table without empty chains and sets that nothing names."""
    while True:
        words = " ".join([c.text() for c in table.chains] + [s.text() for s in table.sets])
        named = set(_NAMED.findall(words))
        chains = tuple(c for c in table.chains if (c.base and (c.rules or c.drop)) or (not c.base and c.name in named))
        sets = tuple(s for s in table.sets if s.name in named)
        if (len(chains), len(sets)) == (len(table.chains), len(table.sets)):
            return table
        table = replace(table, chains=chains, sets=sets)


# ------------------------------------------------------------ as nft lists it


def without_observer(text: str) -> str:
    """``nft list ruleset`` without the lab's own table."""
    return re.sub(rf"^table inet {OBSERVER} \{{.*?^\}}\n", "", text, flags=re.MULTILINE | re.DOTALL)


def json_without_observer(text: str) -> str:
    """``nft -j list ruleset`` without the lab's own table."""
    listed = json.loads(text)
    kept = [item for item in listed["nftables"] if OBSERVER not in _table_of(item)]
    return json.dumps({"nftables": kept})


def _table_of(item: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(inner.get(key)) for inner in item.values() for key in ("table", "name") if isinstance(inner, dict))


def listed_rules(text: str) -> dict[tuple[str, str, str], list[str]]:
    """(family, table, chain) → its rules, of ``nft list ruleset``; read by indentation, which nft keeps to. A line with a comment and nothing
    else is the chain's."""
    found: dict[tuple[str, str, str], list[str]] = {}
    family = table = chain = ""
    for line in text.splitlines():
        if line.startswith("table "):
            family, table = line.split()[1:3]
        elif line.startswith("\tchain "):
            chain = line.split()[1]
        elif line.startswith("\t}"):
            chain = ""
        elif chain and line.startswith("\t\t") and not line.startswith(("\t\ttype ", '\t\tcomment "')):
            if line.startswith("\t\t\t"):
                found[family, table, chain][-1] += " " + line.strip()  # elements of a set go on over lines
            else:
                found.setdefault((family, table, chain), []).append(re.sub(r" packets \d+ bytes \d+", "", line.strip()))
    return found
