"""What both forms of an nft dump share: hook priorities by name, and how two dumps of one table become one.

Priorities as nftables prints them: src/rule.c, ``prio_tags`` and ``bridge_prio_tags``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, overload

from msgspec.structs import replace

from netk8s.errors import DecodeError
from netk8s.model import NftChain, NftRule, NftSet, NftTable

PRIORITIES: Mapping[str, int] = {
    "raw": -300,
    "mangle": -150,
    "dstnat": -100,
    "filter": 0,
    "security": 50,
    "srcnat": 100,
}
BRIDGE_PRIORITIES: Mapping[str, int] = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}


def priority(family: str, name: str, sign: str, offset: str) -> int | None:
    """``dstnat``, ``dstnat - 10`` or a number, as a number; None when it is none of these."""
    if not name:
        value: int | None = 0
    else:
        value = (BRIDGE_PRIORITIES if family == "bridge" else PRIORITIES).get(name)
    if value is None:
        return None
    step = int(offset) if offset else 0
    found = value - step if sign == "-" else value + step
    return found if -(1 << 31) <= found < 1 << 31 else None


T = TypeVar("T")


class Late(Sequence[T]):
    """A sequence that is made when it is first asked for: a trace enters few chains of a large ruleset.

    ``passing``: who reads all of a large ruleset reads most of it once, so it is kept only when it is asked for again.
    """

    __slots__ = ("_found", "_load", "_passing")

    def __init__(self, load: Callable[[], Sequence[T]], *, passing: bool = False) -> None:
        self._load, self._passing = load, passing
        self._found: Sequence[T] | None = None

    def _all(self) -> Sequence[T]:
        if self._found is None:
            self._found = self._load()
        return self._found

    def __repr__(self) -> str:
        return repr(tuple(self._all()))

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[T]:
        if self._passing and self._found is None:
            self._passing = False
            return iter(self._load())
        return iter(self._all())

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self._all()[index]


def merged(found: list[NftTable]) -> tuple[NftTable, ...]:
    """One table per family and name, in the listing's order.

    Where a node has both forms, JSON tells what a rule means, and the text its words and line. Raises DecodeError when
    two dumps of one form hold the same table, or when none tells whether a table is switched off.
    """
    seen: dict[tuple[str, str], NftTable] = {}
    for table in found:
        key = (table.family, table.name)
        other = seen.get(key)
        if other is None:
            seen[key] = table
        elif other.words == table.words:
            raise DecodeError(
                table.at.origin,
                table.at.line,
                f"a second nftables table {table.family} {table.name} for one node (the first is at {other.at}); give "
                "each node's dumps in a folder of its own, or leave one of them out",
            )
        else:
            seen[key] = _joined(*((table, other) if other.words else (other, table)))
    for table in seen.values():
        if table.dormant is None:
            raise DecodeError(
                table.at.origin,
                table.at.line,
                f"table {table.family} {table.name} has a flag, and nft up to 1.0.9 does not say in JSON whether it is dormant; "
                "give the output of `nft list ruleset` too, or in its place",
            )
    return tuple(sorted(seen.values(), key=lambda t: t.index))


def _joined(meaning: NftTable, words: NftTable) -> NftTable:
    """A table by its JSON, ``meaning``, with the words and lines of its text."""
    chains = _JoinedChains(meaning.chains, words.chains)
    sets = {name: _joined_set(s, words.sets.get(name)) for name, s in meaning.sets.items()}
    return replace(meaning, chains=chains, sets=sets, at=words.at, words=True, dormant=words.dormant)


class _JoinedChains(Mapping[str, NftChain]):
    """The chains of a table in both forms, joined when one is asked for."""

    __slots__ = ("_done", "_meaning", "_words")

    def __init__(self, meaning: Mapping[str, NftChain], words: Mapping[str, NftChain]) -> None:
        self._meaning, self._words = meaning, words
        self._done: dict[str, NftChain] = {}

    def __getitem__(self, name: str) -> NftChain:
        found = self._done.get(name)
        if found is None:
            found = self._done[name] = _joined_chain(self._meaning[name], self._words.get(name))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._meaning)

    def __len__(self) -> int:
        return len(self._meaning)


def _joined_chain(meaning: NftChain, words: NftChain | None) -> NftChain:
    if words is None:
        return meaning

    def load() -> list[NftRule]:
        if len(words.rules) != len(meaning.rules):
            return list(meaning.rules)
        return [_joined_rule(a, b) for a, b in zip(meaning.rules, words.rules, strict=True)]

    return replace(meaning, rules=Late(load), at=words.at)


def _joined_rule(meaning: NftRule, words: NftRule) -> NftRule:
    unknown = sum(s.kind in ("xt", "unknown") for s in meaning.statements)
    # JSON shows matches and targets of iptables by name only, and the text translates what it can.
    better = words if sum(s.kind in ("xt", "unknown") for s in words.statements) < unknown else meaning
    return replace(better, raw=words.raw, at=words.at, comment=meaning.comment or words.comment)


def _joined_set(meaning: NftSet, words: NftSet | None) -> NftSet:
    # nft 1.0.6 leaves the flag "dynamic" out of its JSON.
    return meaning if words is None else replace(meaning, dynamic=meaning.dynamic or words.dynamic, at=words.at)
