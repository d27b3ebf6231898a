"""``nft list ruleset``: tables, chains, rules, sets and maps of nftables (nft(8)).

The dump is read once for what begins and ends where; a chain's rules and a set's elements are decoded when they are
asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from netk8s.decode import _nft_words
from netk8s.decode._nftables import Late, priority
from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Fact, NftChain, NftElement, NftRule, NftSet, NftTable

NAME = "nft-text"

_TABLE = re.compile(r'table (ip|ip6|inet|arp|bridge|netdev) ("[^"]*"|[^\s{]+) \{')
_BLOCK = re.compile(r'\s+(chain|set|map|meter) ("[^"]*"|[^\s{]+) \{(?: # handle \d+)?\s*$')
_TYPE = re.compile(r"\s+type (\w+) hook (\w+)\b(.*)")
_PRIORITY = re.compile(r"\spriority (?:([a-z]\w{0,30})(?: ?([+-]) ?(\d{1,10}))?|([+-]?)(\d{1,10}))\s*(?:;|$)")
_POLICY = re.compile(r"\bpolicy (\w+);")
_OTHER = re.compile(r"(?:comment \"|(?:type|typeof|flags|size|timeout|gc-interval|policy) |auto-merge|elements = \{)")


def sniff(dump: Dump) -> bool:
    """The first line that is no comment opens a table."""
    found = [line for line in first_lines(dump) if not line.startswith("#")]
    return bool(found) and _TABLE.match(found[0]) is not None


@dataclass(slots=True)
class _Open:
    """A table that is being read."""

    family: str
    name: str
    at: At
    dormant: bool = False
    chains: dict[str, NftChain] = field(default_factory=dict)
    sets: dict[str, NftSet] = field(default_factory=dict)

    def done(self, index: int) -> NftTable:
        return NftTable(
            self.family, self.name, self.chains, self.sets, self.at, index, words=True, dormant=self.dormant
        )


def decode(dump: Dump) -> Iterator[Fact]:
    """One NftTable per table, after Coverage "nft"; tables of iptables-nft are among them.

    nft 1.0.6 does not mark those, later ones put a comment before them. Raises DecodeError for a hook whose priority
    cannot be read.
    """
    yield Coverage("nft", At(dump.origin))
    table: _Open | None = None
    index = 0
    block: tuple[str, str, int] | None = None
    body: list[tuple[int, str]] = []
    for number, line in lines(dump):
        if block is not None and line.strip() == "}":
            _close(table, block, body, dump.origin)
            block, body = None, []
        elif block is not None and not line.startswith("table "):
            body.append((number, line))
        elif line.startswith("table "):
            if table is not None:
                _close(table, block, body, dump.origin)
                yield table.done(index)
                index += 1
            opened = _TABLE.match(line)
            if not opened:
                why = "expected `table FAMILY NAME {` as `nft list ruleset` prints it; take the dump again"
                raise DecodeError(dump.origin, number, why)
            table = _Open(opened[1], opened[2].strip('"'), At(dump.origin, number))
            block, body = None, []
        elif named := _BLOCK.match(line):
            block = (named[1], named[2].strip('"'), number)
        elif table is not None and line.lstrip().startswith("flags ") and "dormant" in line:
            table.dormant = True
    if table is not None:
        _close(table, block, body, dump.origin)
        yield table.done(index)


def _close(table: _Open | None, block: tuple[str, str, int] | None, body: list[tuple[int, str]], origin: str) -> None:
    if table is None or block is None:
        return
    kind, name, number = block
    if kind == "chain":
        table.chains[name] = _chain(table.family, name, At(origin, number), body)
    else:
        table.sets[name] = _set(name, kind == "map", At(origin, number), body)


def _chain(family: str, name: str, at: At, body: list[tuple[int, str]]) -> NftChain:
    hooked: re.Match[str] | None = None
    rules: list[tuple[int, str]] = []
    for number, line in body:
        if " hook " in line and hooked is None and not rules and (hooked := _TYPE.match(line)):
            at = At(at.origin, number)
        elif line.strip() and not (not rules and line.lstrip().startswith('comment "')):
            rules.append((number, line))
    listed: Sequence[NftRule] = ()
    if rules:
        origin = at.origin
        listed = Late(lambda: [_rule(name, number, line, origin) for number, line in rules])
    if hooked is None:
        return NftChain(name, listed, at)
    found = _PRIORITY.search(hooked[3])
    level = priority(family, found[1] or "", found[2] or found[4] or "", found[3] or found[5] or "") if found else None
    if level is None:
        why = f"the priority of chain {name} is no number or name that nft has; take `nft -y list ruleset`"
        raise DecodeError(at.origin, at.line, why)
    policy = _POLICY.search(hooked[3])
    return NftChain(name, listed, at, hooked[1], hooked[2], level, policy[1] if policy else "accept")


def _rule(chain: str, number: int, line: str, origin: str) -> NftRule:
    text = _nft_words.bare(line)
    statements, comment = _nft_words.rule(text)
    return NftRule(chain, statements, At(origin, number), text, comment)


def _set(name: str, is_map: bool, at: At, body: list[tuple[int, str]]) -> NftSet:
    types: tuple[str, ...] = ()
    dynamic, timeout = False, None
    start = None
    for i, (_, line) in enumerate(body):
        text = line.strip()
        if text.startswith("elements = {"):
            start = i
            break
        word, _, rest = text.partition(" ")
        if word in ("type", "typeof"):
            types = tuple(part.strip() for part in rest.partition(" : ")[0].split(" . "))
        elif word == "flags":
            dynamic = "dynamic" in rest
        elif word == "timeout":
            timeout = _nft_words.seconds(rest)
    if start is None:
        return NftSet(name, types, (), at, is_map, dynamic, timeout)
    first = start

    def load() -> Sequence[NftElement]:
        text = " ".join(line.strip() for _, line in body[first:])
        inner = text.partition("{")[2].rpartition("}")[0]
        try:
            return _nft_words.elements(inner)
        except _nft_words.NotUnderstood:
            number = body[first][0]
            why = f"an element of {name} cannot be read; take `nft -j list ruleset`"
            raise DecodeError(at.origin, number, why) from None

    return NftSet(name, types, Late(load), at, is_map, dynamic, timeout)
