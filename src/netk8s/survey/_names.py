"""The names of a question that others like it have others for, and how one's answer is told in the names of another."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import overload

from msgspec import Struct
from msgspec.structs import replace

from netk8s.model import Addr, Finding
from netk8s.survey._answers import Answer, in_order

Place = tuple[str, int]
"""(origin, line) of a rule."""


class Places(Sequence[Place]):
    """Where rules stand. A large node has a million of them, so this is not a tuple for each."""

    __slots__ = ("_ends", "_first", "_origins", "_which")

    def __init__(self) -> None:
        self._origins: dict[str, int] = {}
        # Of each run of lines: its file, its first line, how many there are with it.
        self._which, self._first, self._ends = array("H"), array("L"), array("L")

    def add(self, origin: str, first: int, lines: int = 1) -> None:
        """Adds the rules in some lines of a file."""
        self._which.append(self._origins.setdefault(origin, len(self._origins)))
        self._first.append(first)
        self._ends.append(len(self) + lines)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> Place: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Place]: ...
    def __getitem__(self, place: int | slice) -> Place | Sequence[Place]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        run = bisect_right(self._ends, place)
        before = self._ends[run - 1] if run else 0
        return list(self._origins)[self._which[run]], self._first[run] + place - before


class Names(Struct, frozen=True, eq=False):
    """The names of one question, in an order that is the same for those like it, and where its rules stand."""

    words: tuple[str, ...]
    rules: Sequence[Place]

    def to(self, other: Names) -> Renaming:
        """From the names of this question to those of another that is like it."""
        return Renaming(self, other)

    def exchange(self, other: Names) -> bool:
        """Whether these names and those of another can change places: what both have stays what it is."""
        return _exchangeable(self, other)


@lru_cache(maxsize=64)
def _exchangeable(mine: Names, theirs: Names) -> bool:
    # Asked of the same two for each of a port's flows.
    if set(mine.words).isdisjoint(theirs.words):
        return len(mine.words) == len(theirs.words)
    there = dict(zip(mine.words, theirs.words, strict=False))
    back = dict(zip(theirs.words, mine.words, strict=False))
    return len(there) == len(back) == len(mine.words) == len(theirs.words) and all(
        back.get(word, new) == new for word, new in there.items()
    )


class Renaming:
    """Puts the names of one question in the place of another's."""

    def __init__(self, mine: Names, theirs: Names) -> None:
        self._pattern, self._places, self._lines = _found(mine)
        self._theirs = theirs

    def text(self, text: str) -> str:
        """A text with the other names."""
        return self._pattern.sub(self._one, text)

    def word(self, word: str) -> str:
        """A name by itself."""
        place = self._places.get(word)
        return word if place is None else self._theirs.words[place]

    def _one(self, found: re.Match[str]) -> str:
        line = self._lines.get(found[0])
        return self.word(found[0]) if line is None else "{}:{}".format(*self._theirs.rules[line])

    def finding(self, finding: Finding) -> Finding:
        """A finding with the other names."""
        return replace(
            finding, summary=self.text(finding.summary), remedy=self.text(finding.remedy),
            evidence=tuple(map(self.text, finding.evidence)),
        )  # fmt: skip

    def answer(self, answer: Answer) -> Answer:
        """An answer with the other names."""
        results = tuple(
            replace(
                each, ip=self._address(each.ip), source=self._address(each.source),
                port=each.port if each.port is None else int(self.word(str(each.port))),
                pod=each.pod and self.word(each.pod),
                node=each.node and self.word(each.node),
            )
            for each in answer.results
        )  # fmt: skip
        because = tuple(
            replace(each, text=self.text(each.text), rule=self.text(each.rule), at=self.text(each.at))
            for each in answer.because
        )
        return replace(answer, results=tuple(sorted(results, key=in_order)), because=because)

    def _address(self, ip: Addr | None) -> Addr | None:
        return None if ip is None else ip_address(self.word(str(ip)))


@lru_cache(maxsize=64)
def _found(names: Names) -> tuple[re.Pattern[str], dict[str, int], dict[str, int]]:
    """The pattern of a question's names, and of the places of its rules, with the places of both."""
    lines = {f"{origin}:{line}": place for place, (origin, line) in enumerate(names.rules)}
    origins = dict.fromkeys(origin for origin, _ in names.rules)
    some = [rf"(?<![\w./-]){re.escape(origin)}:\d+" for origin in sorted(origins, key=len, reverse=True)]
    some += [_bounded(word) for word in sorted(names.words, key=len, reverse=True)]
    return re.compile(rf"(?:{'|'.join(some)})(?![\w-]|\.\w)"), {word: i for i, word in enumerate(names.words)}, lines


def _bounded(text: str) -> str:
    """The pattern of a name that stands by itself."""
    if text.isdecimal():
        # A number behind a colon is a port behind an address, and behind a file's name it is a line.
        return rf"(?:(?<![\w.:/-])|(?<=\d:)|(?<=\]:)){text}"
    if text.count(":") > 1:
        return rf"(?<![\w.:/-]){re.escape(text)}(?!:[0-9a-f:])"
    return rf"(?<![\w./-]){re.escape(text)}"


class Numbering:
    """Names in the order they are met. ``fixed``: what is no name to rename, and stays what it is."""

    def __init__(self, fixed: Callable[[str], bool]) -> None:
        self._fixed = fixed
        self.places: dict[str, int] = {}

    def of(self, word: str) -> Hashable:
        """The number of a name that is known, else the word itself."""
        return self.places.get(word, word)

    def number(self, word: str) -> Hashable:
        """The number of a name, new if need be; a fixed word itself."""
        if self._fixed(word):
            return word
        return self.places.setdefault(word, len(self.places))

    def order(self, word: str) -> tuple[int, str]:
        """What known names are sorted by, and what is not known behind them."""
        place = self.places.get(word)
        return (len(self.places), word) if place is None else (place, "")
