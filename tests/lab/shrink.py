"""Makes a ruleset small while something stays true of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self, TypeVar

Place = tuple[int, ...]
"""A rule of a ruleset, or something else that can be left out."""


class Shrinkable(Protocol):
    """What a ruleset has to tell of itself."""

    def places(self) -> list[Place]:
        """Everything that can be left out."""
        ...

    def only(self, kept: Sequence[Place]) -> Self:
        """The ruleset with nothing but these, and what they need."""
        ...

    def simpler(self) -> Iterator[Self]:
        """Rulesets with one part of one rule left out."""
        ...


R = TypeVar("R", bound=Shrinkable)


def shrink(rules: R, still_wrong: Callable[[R], bool], rounds: int = 150) -> R:
    """The smallest ruleset found of which ``still_wrong`` holds, after at most so many trials.

    First whole runs of rules go, halves before quarters (Zeller's ddmin), then the parts of those that are left.
    """
    left = rounds

    def wrong(candidate: R) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and still_wrong(candidate)

    kept = rules.places()
    size = max(1, len(kept) // 2)
    while left > 0:
        for at in range(0, len(kept), size):
            fewer = kept[:at] + kept[at + size :]
            if wrong(rules.only(fewer)):
                kept = fewer
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
    rules = rules.only(kept)
    progress = True
    while progress and left > 0:
        progress = False
        for candidate in rules.simpler():
            if wrong(candidate):
                rules, progress = candidate, True
                break
    return rules
