"""What tells that a component is at work on a node, and the words for what its rules do.

A component is known by names that are its own: links, nftables tables, ipsets, and chains or comments of rules that
stand in a built-in chain. A chain that no hook leads to is no sign: nothing asks it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

from msgspec import Struct

from netk8s.errors import DecodeError
from netk8s.model import Node, Recognised, Rule, Sign, Step, Table

MOST_RULES = 2000
"""Rules of one built-in chain that are looked at: a component's own jump stands among the first or the last."""
MOST_SIGNS = 2
"""Signs of one kind that are named."""

_HOOKS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


class Signs(Struct, frozen=True):
    """A component's own names, each a regular expression for the whole name; ``comments`` for a part of a comment."""

    chains: str = ""
    links: str = ""
    tables: str = ""
    sets: str = ""
    comments: str = ""

    def owns(self, name: str) -> bool:
        """Whether a chain, link, table or set has a name that only this component gives."""
        return any(re.fullmatch(own, name) for own in (self.chains, self.links, self.tables, self.sets) if own)


@lru_cache(maxsize=256)
def hooked(node: Node) -> tuple[tuple[Table, Rule], ...]:
    """The rules of a node's built-in chains."""
    return tuple(_hooked(node))


def _hooked(node: Node) -> Iterator[tuple[Table, Rule]]:
    for table in node.tables:
        for name in _HOOKS.get(table.name, ()):
            # A rule nobody can read is an error where a packet meets it, and no sign of anything here.
            try:
                chain = table.chains.get(name)
                for rule in islice(chain.rules, MOST_RULES) if chain is not None else ():
                    yield table, rule
            except DecodeError:
                continue


def comments(rule: Rule) -> Iterator[str]:
    """Every comment of a rule: calico gives one its hash and a second one its words."""
    for match in rule.matches:
        for option in match.options:
            if option.name == "--comment" and option.values:
                yield option.values[0]


def found(node: Node, signs: Signs) -> tuple[Sign, ...]:
    """The signs of a component on a node, at most MOST_SIGNS of each kind."""
    kinds = (_links(node, signs), _rules(node, signs), _tables(node, signs), _sets(node, signs))
    return tuple(sign for kind in kinds for sign in islice(kind, MOST_SIGNS))


def recognised(
    name: str, node: Node, signs: Signs | Sequence[Sign], enforces: str = "", *, modelled: bool = True
) -> Recognised | None:
    """The component if there is any sign of it."""
    by = found(node, signs) if isinstance(signs, Signs) else tuple(signs)
    return Recognised(name, node.name, by, enforces, modelled) if by else None


def _links(node: Node, signs: Signs) -> Iterator[Sign]:
    for link in node.links if signs.links else ():
        if re.fullmatch(signs.links, link.name):
            yield Sign(f"link {link.name}", link.at)


def _rules(node: Node, signs: Signs) -> Iterator[Sign]:
    seen = set()
    for table, rule in hooked(node) if signs.chains or signs.comments else ():
        name = rule.target.name if rule.target is not None else ""
        if signs.chains and name not in seen and re.fullmatch(signs.chains, name):
            seen.add(name)
            yield Sign(f"{table.name} {rule.chain} jumps to {name}", rule.at)
            continue
        said = next((c for c in comments(rule) if signs.comments and re.search(signs.comments, c)), None)
        if said is not None and said not in seen:
            seen.add(said)
            yield Sign(f'a rule of {table.name} {rule.chain} says "{said}"', rule.at)


def _tables(node: Node, signs: Signs) -> Iterator[Sign]:
    for table in node.nft if signs.tables else ():
        if re.fullmatch(signs.tables, table.name):
            yield Sign(f"nftables table {table.family} {table.name}", table.at)


def _sets(node: Node, signs: Signs) -> Iterator[Sign]:
    for ipset in node.sets if signs.sets else ():
        if re.fullmatch(signs.sets, ipset.name):
            yield Sign(f"ipset {ipset.name}", ipset.at)


# ---------------------------------------------------------------- words for steps


class Did(Struct, frozen=True):
    """What a step did, whichever tool wrote the rule: ``verb`` in lower case, ``to`` the chain of a jump."""

    chain: str
    verb: str
    to: str = ""
    comment: str = ""

    def __str__(self) -> str:
        return f"{self.chain} {self.verb} {self.to} #{self.comment}"


def did(step: Step) -> Did | None:
    """None for a step that is no rule."""
    word, _, rest = step.action.partition(" ")
    verb, to = (word.lower(), rest) if word.lower() in ("jump", "goto") else (word.lower(), "")
    if step.detail is not None:
        if not to:
            verb = step.detail.target.name.lower() if step.detail.target is not None else "continue"
        return Did(step.chain, verb, to, "; ".join(comments(step.detail)))
    if step.nft is not None:
        if not to:
            kinds = [s.kind for s in step.nft.statements if s.kind in _NFT_VERBS]
            verb = kinds[-1] if kinds else verb
        return Did(step.chain, verb, to, step.nft.comment)
    return None


_NFT_VERBS = frozenset({"dnat", "snat", "masquerade", "redirect", "tproxy", "mangle"})

Words = tuple[tuple[str, str], ...]
"""(regular expression for "CHAIN verb TO #comment", what it means), the first that is found decides."""


def worded(step: Step, words: Iterable[tuple[str, str]]) -> str:
    """The meaning of a step by a component's table of words, "" when it has none for it."""
    what = did(step)
    if what is None:
        return ""
    line = str(what)
    return next((text for pattern, text in words if re.search(pattern, line)), "")
