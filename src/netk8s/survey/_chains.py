"""The chains and sets of single Services: whole, in words, and whether their rules are plain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from netk8s.model import NftChain, NftSet, NftTable, Node, Table
from netk8s.survey._plain import plain_rule, plain_words

MARKS = tuple("\x02\x04\x05\x06")
"""What numbers of names begin with, and what stands for names in forms (``_forms``)."""

CHAIN = r"KUBE-(?:SVC|SVL|EXT|XLB|FW|SEP)-[A-Z2-7]{16}"
NAMED = r"(?:service|local|external|firewall|endpoint|affinity)-[A-Z2-7]{8}-[^\s,;{}\"'()]+"
OWN = re.compile(f"{CHAIN}|{NAMED}")
FOUR = r"\d{1,3}(?:\.\d{1,3}){3}"
SIX = r"(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|\d{1,3}(?:\.\d{1,3}){3})?"
SPAN = re.compile(rf"(?<![\w.:-])({FOUR}|{SIX})-({FOUR}|{SIX})(?![\w.])")
_PREFIX = re.compile(r"NftExpr\(op='prefix', words=\(\), args=\('([^']+)', (\d+)\)\)")
COUNTED = re.compile(r"^\[\d+:\d+\] ", re.M)


class Chain(Struct, frozen=True):
    """A chain of a single Service: its words, and where they stand: (origin, first line, how many)."""

    text: str
    lines: tuple[tuple[str, int, int], ...]
    four: bool = False
    """It is one of iptables for IPv4."""


class Chains:
    """The chains of the tables of some nodes."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        tables: list[tuple[str, Table | NftTable]] = []
        for node in nodes:
            tables += [(place_of(node, table), table) for table in node.tables]
            tables += [(place_of(node, table), table) for table in node.nft]
        self._iptables = [table.chains for _, table in tables if isinstance(table, Table)]
        # Most tables have none of a Service's, and are not to be asked for each.
        self._tables = [
            (place, table)
            for place, table in tables
            if isinstance(table, NftTable) or any(map(OWN.fullmatch, table.chains))
        ]
        self._plain: dict[str, bool] = {}

    def named(self, name: str) -> Iterator[tuple[str, Chain]]:
        """The chains and sets of a name, each with the table that it is in. Raises ValueError for what is not plain."""
        for place, table in self._tables:
            if isinstance(table, Table):
                if runs := table.runs(name):
                    text = runs[0][1] if len(runs) == 1 else "".join([text for _, text in runs])
                    text = COUNTED.sub("", text) if "[" in text else text
                    lines = tuple([(table.at.origin, n, text.count("\n")) for n, text in runs])
                    yield place, Chain(text, lines, table.family == 4)
                elif name in table.chains:
                    yield place, Chain("no rules", (), four=True)
            elif name in table.chains:
                yield place, _nft_chain(table.chains[name])
            elif name in table.sets:
                yield place, _set_as_chain(table.sets[name])

    def check(self, name: str, text: str) -> None:
        """Raises ValueError for rules of iptables, with MARKS in front of or for their names, that are not known to be plain."""
        if text not in self._plain:
            known = {
                word
                for word in re.findall(r" -[jg] (\S+)", text)
                if word[:1] in MARKS or any(word in chains for chains in self._iptables)
            }
            self._plain[text] = plain_words(text, known) and SPAN.search(text) is None
        if not self._plain[text]:
            raise ValueError(name)


def _nft_chain(chain: NftChain) -> Chain:
    out = []
    for rule in chain.rules:
        # The text and what JSON says of it are two dumps: what both say is compared.
        out.append(f"{rule.raw} {shown(rule.statements)}")
        if not plain_rule(rule, own=True):
            raise ValueError(chain.name)
    lines = tuple((rule.at.origin, rule.at.line, 1) for rule in chain.rules)
    return Chain("\n".join([f"{chain.hook} {chain.priority} {chain.policy}", *out]), lines)


def place_of(node: Node, table: Table | NftTable) -> str:
    """The place of a table among those of all nodes."""
    kind = f"{table.family} {table.backend}" if isinstance(table, Table) else table.family
    return f"{node.name} {kind} {table.name}"


def shown(value: object) -> str:
    """A value of nft in words, its networks as they are written elsewhere."""
    return _PREFIX.sub(r"\1/\2", repr(value))


def _set_as_chain(found: NftSet) -> Chain:
    about = f"{found.types} {found.map} {found.dynamic} {found.timeout}"
    return Chain("\n".join([about, *map(shown, found.elements)]), ((found.at.origin, found.at.line, 1),))
