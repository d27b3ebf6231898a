"""``nft list ruleset``: tables, chains, rules, sets and maps of nftables (nft(8)).

The dump is read once for what begins and ends where; a chain's rules and a set's elements are decoded when they are
asked for.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from netk8s.decode import _nft_words
from netk8s.decode._nftables import Late, priority
from netk8s.decode._text import first_lines
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Fact, NftChain, NftElement, NftRule, NftSet, NftTable

NAME = "nft-text"

_TABLE = re.compile(r'table (ip|ip6|inet|arp|bridge|netdev) ("[^"]*"|[^\s{]+) \{')
_SHAPE = (
    rb"(?:(?P<table>table [^\n]*)"
    rb'|[ \t]+(?P<kind>chain|set|map|meter) (?P<name>"[^"\n]*"|[^\s{]+) \{(?: # handle \d+)?[ \t\r]*'
    rb"|[ \t]*(?P<end>\})[ \t\r]*)(?=\n|\Z)"
)
"""The lines that begin and end tables, chains and sets: nft gives each a line of its own."""
_FIRST = re.compile(_SHAPE)
_NEXT = re.compile(rb"\n" + _SHAPE)
_ELEMENTS = re.compile(rb"^[ \t]*elements = \{", re.MULTILINE)
_DORMANT = re.compile(rb"^[ \t]*flags [^\n]*dormant", re.MULTILINE)
_TYPE = re.compile(r"\s+type (\w+) hook (\w+)\b(.*)")
_PRIORITY = re.compile(r"\spriority (?:([a-z]\w{0,30})(?: ?([+-]) ?(\d{1,10}))?|([+-]?)(\d{1,10}))\s*(?:;|$)")
_POLICY = re.compile(r"\bpolicy (\w+);")


def sniff(dump: Dump) -> bool:
    """The first line that is no comment opens a table."""
    found = [line for line in first_lines(dump) if not line.startswith("#")]
    return bool(found) and _TABLE.match(found[0]) is not None


class _Block(NamedTuple):
    """A chain or set that is being read, with the line it opens on and where its body starts."""

    kind: str
    name: str
    line: int
    start: int


class _Open(Struct):
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
    data = dump.data
    table: _Open | None = None
    index = 0
    block: _Block | None = None
    number, counted, outside = 1, 0, 0
    first = _FIRST.match(data)
    for found in itertools.chain((first,) if first else (), _NEXT.finditer(data)):
        start, end = found.start() + (found is not first), found.end()
        number, counted = number + data[counted:start].count(b"\n"), start
        if block is not None:
            if found["kind"]:
                continue
            _close(table, block, data[block.start : start], dump.origin)
            block = None
        elif table is not None and _DORMANT.search(data[outside:start]):
            table.dormant = True
        outside = end
        if found["table"]:
            if table is not None:
                yield table.done(index)
                index += 1
            opened = _TABLE.match(_str(found["table"]))
            if not opened:
                why = "expected `table FAMILY NAME {` as `nft list ruleset` prints it; take the dump again"
                raise DecodeError(dump.origin, number, why)
            table = _Open(opened[1], opened[2].strip('"'), At(dump.origin, number))
        elif found["kind"]:
            block = _Block(_str(found["kind"]), _str(found["name"]).strip('"'), number, end)
    if table is not None:
        if block is not None:
            _close(table, block, data[block.start :], dump.origin)
        yield table.done(index)


def _str(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _close(table: _Open | None, block: _Block, body: bytes, origin: str) -> None:
    if table is None:
        return
    at = At(origin, block.line)
    if block.kind == "chain":
        table.chains[block.name] = _chain(table.family, block.name, at, body)
    else:
        table.sets[block.name] = _set(block.name, block.kind == "map", at, body)


def _numbered(body: bytes, line: int) -> Iterator[tuple[int, str]]:
    """The lines that follow line ``line``, with their numbers."""
    for i, text in enumerate(body.split(b"\n")):
        yield line + i, _str(text).rstrip("\r")


def _rule_lines(body: bytes, line: int) -> Iterator[tuple[int, str]]:
    """Of a chain's lines those that are rules: not its hook, nor the comment of the chain itself."""
    begun = hooked = False
    for number, text in _numbered(body, line):
        if not begun and not hooked and _TYPE.match(text):
            hooked = True
        elif text.strip() and (begun or not text.lstrip().startswith('comment "')):
            begun = True
            yield number, text


def _chain(family: str, name: str, at: At, body: bytes) -> NftChain:
    first, origin = at.line, at.origin
    listed: Sequence[NftRule] = ()
    hooked: re.Match[str] | None = None
    if b" hook " in body:
        for number, line in _numbered(body, first):
            if hooked := _TYPE.match(line):
                at = At(origin, number)
                break
            if line.strip() and not line.lstrip().startswith('comment "'):
                break
    if body and not body.isspace():
        listed = Late(
            lambda: [_rule(name, number, line, origin) for number, line in _rule_lines(body, first)], passing=True
        )
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


def _set(name: str, is_map: bool, at: At, body: bytes) -> NftSet:
    types: tuple[str, ...] = ()
    dynamic, timeout = False, None
    begun = _ELEMENTS.search(body)
    head = body[: begun.start()] if begun else body
    for _, line in _numbered(head, at.line):
        word, _, rest = line.strip().partition(" ")
        if word in ("type", "typeof"):
            types = tuple(part.strip() for part in rest.partition(" : ")[0].split(" . "))
        elif word == "flags":
            dynamic = "dynamic" in rest
        elif word == "timeout":
            timeout = _nft_words.seconds(rest)
    if not begun:
        return NftSet(name, types, (), at, is_map, dynamic, timeout)
    listed = body[begun.end() :]
    number = at.line + head.count(b"\n")

    def load() -> Sequence[NftElement]:
        inner = " ".join(line.strip() for line in _str(listed).split("\n")).rpartition("}")[0]
        try:
            return _nft_words.elements(inner)
        except _nft_words.NotUnderstood:
            why = f"an element of {name} cannot be read; take `nft -j list ruleset`"
            raise DecodeError(at.origin, number, why) from None

    return NftSet(name, types, Late(load), at, is_map, dynamic, timeout)
