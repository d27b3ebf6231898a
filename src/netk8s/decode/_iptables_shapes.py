"""Rules that look like ones read before: parsed by the shape of their line, the same facts at a tenth of the cost.

A large ruleset has a million rules and a few dozen shapes: kube-proxy writes the same line with another chain, address,
port or probability. The plain parser (:mod:`._iptables_words`) asks a word only three things: whether it is an option
or a lone ``!``, and which module, protocol or target it names. So a line that differs from a parsed one only in other
words parses alike, with its own words in their places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from netk8s.decode import _iptables_words as words
from netk8s.model import Match, Option, Target

Parsed = tuple[tuple[Match, ...], Target | None, str | None]
"""Matches, target and comment of a rule."""

LONGEST = 300
"""Longer lines are left to the plain parser, which refuses numbers of more digits than that."""
SEEN = 8
"""A shape costs as much as some ten rules: it is learned when lines of its kind came this many times."""
_MOST_KINDS = 4096
_MOST_SHAPES = 8
"""Of lines with the same options."""
_MOST_KEPT = 1024
"""Matches kept per part of a shape: those of ports, probabilities, interfaces come again."""
_OF_ONE_RULE = frozenset({"-s", "-d", "--comment", "--name", "--to-destination"})
"""Options whose values seldom come again."""

_KIND = re.compile(r" (?:-[mp] [^ ]+|!|--?[a-z][a-z-]*+)")
_WORD = r"([#-,./-\[\]-~][!#-\[\]-~]*+)"
"""Printable ASCII without quotes and backslashes, beginning neither like an option nor like a negation."""
_ONE_HOST = r"([#-+./-\[\]-~][!#-+\--\[\]-~]*+)"
"""Without a comma: "-s a,b" stands for a rule each."""
_QUOTED = r'"([^"\\]*+)"'
_CHAIN = r"[#-,./-\[\]-~][!#-\[\]-~]*+"
_OTHER_TARGET = r"(?!(?:" + "|".join(map(re.escape, words.TARGETS)) + r")\Z)" + _WORD
_JUMPS = frozenset({"-j", "--jump", "-g", "--goto"})
_NAMING = frozenset({"-m", "--match", *(option for option, short in words.BUILTIN.items() if short == "-p")})
_HOSTS = frozenset(option for option, short in words.BUILTIN.items() if short in ("-s", "-d"))


class _Hole:
    """An option whose values differ from line to line: the words ``first`` up to ``last`` of those that do."""

    __slots__ = ("first", "last", "name", "negated", "position")

    def __init__(self, position: int, option: Option, first: int, last: int) -> None:
        self.position, self.name, self.negated, self.first, self.last = (
            position, option.name, option.negated, first, last,
        )  # fmt: skip


class _Part:
    """A match, or the target, that differs from line to line. ``names``: the target's name is such a word too."""

    __slots__ = ("after", "before", "first", "holes", "kept", "last", "model", "names", "position", "single")

    def __init__(
        self, position: int, model: Match | Target, holes: tuple[_Hole, ...], first: int, last: int, names: bool
    ) -> None:
        self.position, self.model, self.holes, self.names = position, model, holes, names
        self.first, self.last = first, last
        self.single = holes[0] if len(holes) == 1 else None
        at = holes[0].position if holes else len(model.options)
        self.before, self.after = model.options[:at], model.options[at + 1 :]
        again = not names and not any(hole.name in _OF_ONE_RULE for hole in holes)
        self.kept: dict[tuple[str, ...], Match] | None = {} if again else None

    def options_of(self, values: tuple[str, ...]) -> tuple[Option, ...]:
        """The options with a line's words in their places."""
        if not self.holes:
            return self.model.options
        hole = self.single
        if hole is not None:
            option = Option(hole.name, values[hole.first : hole.last], hole.negated)
            return (*self.before, option, *self.after)
        options = list(self.model.options)
        for hole in self.holes:
            options[hole.position] = Option(hole.name, values[hole.first : hole.last], hole.negated)
        return tuple(options)

    def match(self, values: tuple[str, ...]) -> Match:
        """The match of a line."""
        kept = self.kept
        if kept is not None:
            own = values[self.first : self.last]
            found = kept.get(own)
            if found is not None:
                return found
        match = Match(self.model.module, self.options_of(values))  # type: ignore[union-attr]
        if kept is not None:
            if len(kept) >= _MOST_KEPT:
                kept.clear()
            kept[own] = match
        return match

    def target(self, values: tuple[str, ...]) -> Target:
        """The target of a line."""
        name = values[self.first] if self.names else self.model.name  # type: ignore[union-attr]
        return Target(name, self.options_of(values), self.model.goto)  # type: ignore[union-attr]


class Shape:
    """How a line is read whose words but for some are known."""

    __slots__ = ("_comment", "_constant", "_matches", "_parts", "_target", "_to", "follower", "pattern")

    def __init__(
        self,
        pattern: re.Pattern[str],
        matches: tuple[Match, ...] = (),
        parts: tuple[_Part, ...] = (),
        target: Target | None = None,
        to: _Part | None = None,
        comment: str | int | None = None,
    ) -> None:
        self.pattern, self._matches, self._parts, self._target, self._to = pattern, matches, parts, target, to
        self._comment, self._constant = (comment, None) if isinstance(comment, int) else (-1, comment)
        self.follower: Shape = self

    def fill(self, values: tuple[str, ...]) -> Parsed:
        """The rule of a line with these words in the pattern's groups."""
        matches = self._matches
        if self._parts:
            filled = list(matches)
            for part in self._parts:
                filled[part.position] = part.match(values)
            matches = tuple(filled)
        return (
            matches,
            self._target if self._to is None else self._to.target(values),
            self._constant if self._comment < 0 else values[self._comment],
        )


class Shapes:
    """The shapes of one dump, learned while it is read."""

    __slots__ = ("_known", "_last", "_seen")

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[Shape, ...]] = {}
        self._seen: dict[tuple[str, ...], list[str]] = {}
        self._last = Shape(re.compile(r"(?!)"))

    def parse(self, line: str) -> Parsed | None:
        """What the plain parser makes of a line, None where that has to be asked: a new shape, odd spacing, an error."""
        # The same shapes follow each other in chain after chain.
        shape = self._last.follower
        found = shape.pattern.fullmatch(line)
        if found is None or len(line) > LONGEST:
            looked_up = self._look_up(line)
            if looked_up is None:
                return None
            shape, found = looked_up
            self._last.follower = shape
        self._last = shape
        return shape.fill(found.groups())

    def _look_up(self, line: str) -> tuple[Shape, re.Match[str]] | None:
        if len(line) > LONGEST:
            return None
        kind = tuple(_KIND.findall(line))
        known = self._known.get(kind, ())
        for shape in known:
            found = shape.pattern.fullmatch(line)
            if found is not None:
                return shape, found
        if len(known) >= _MOST_SHAPES or len(self._seen) >= _MOST_KINDS:
            return None
        seen = self._seen.setdefault(kind, [])
        if len(seen) < SEEN:
            seen.append(line)
            if len(seen) == SEEN:
                # Words that were the same in all of them are taken for fixed; if that was wrong, no word is.
                learned = learn(seen if not known else [line])
                if learned is not None:
                    self._known[kind] = (*known, learned)
                    seen.clear()
        return None


def learn(lines: Sequence[str]) -> Shape | None:
    """The shape of the last of some lines, None where the plain parser refuses it or iptables-save spaces it otherwise.

    Words that are the same in all of the lines are part of the shape; of one line, only those that have to be.
    """
    line = lines[-1]
    if "\0" in line or len(line) > LONGEST:
        return None
    try:
        streams = [words.words(other) for other in lines]
        _, matches, target, comment, counters = words.parse(line)
    except words.Malformed:
        return None
    stream = streams[-1]
    if counters is not None or any(
        option.name in ("-s", "-d") and "," in option.values[0] for m in matches for option in m.options
    ):
        return None
    alike = [other for other in streams if len(other) == len(stream)] if len(lines) > 1 else []
    pattern, holed, count, option = ["-A", _CHAIN], stream[:2], 0, ""
    for i, (word, quoted) in enumerate(stream[2:], 2):
        if words.is_option(word, quoted):
            option = word
        if (
            words.is_option(word, quoted)
            or (word == "!" and not quoted)
            or option in _NAMING
            or (quoted and option in _HOSTS)
            or (option in _JUMPS and (quoted or word in words.TARGETS or i + 1 < len(stream)))
            or (len(alike) > 1 and all(other[i] == (word, quoted) for other in alike))
        ):
            pattern.append(re.escape(f'"{word}"' if quoted else word))
            holed.append((word, quoted))
            continue
        if quoted:
            pattern.append(_QUOTED)
        else:
            pattern.append(_OTHER_TARGET if option in _JUMPS else _ONE_HOST if option in _HOSTS else _WORD)
        holed.append((f"\0{count}", quoted))
        count += 1
    shape = _shape(" ".join(pattern), holed, count)
    found = shape.pattern.fullmatch(line) if shape is not None else None
    if shape is None or found is None or shape.fill(found.groups()) != (matches, target, comment):
        return None
    return shape


def _shape(pattern: str, holed: list[tuple[str, bool]], count: int) -> Shape | None:
    """The shape of a rule in which some words are replaced by numbers, by where the plain parser puts them."""
    try:
        _, matches, target, comment, _ = words.parse_words(holed)
    except words.Malformed:
        return None
    parts = [part for part in (_part(i, match, None) for i, match in enumerate(matches)) if part is not None]
    to = _part(0, target, _number(target.name)) if target is not None else None
    used: list[int] = []
    for part in [*parts, *([to] if to is not None else [])]:
        used += range(part.first, part.last)
        if any(hole.name == "-p" for hole in part.holes):
            return None
    # Each word is a value of one option, or the target: not a module's name, not lost.
    if sorted(used) != list(range(count)):
        return None
    number = _number(comment) if comment is not None else None
    return Shape(re.compile(pattern), matches, tuple(parts), target, to, comment if number is None else number)


def _number(word: str) -> int | None:
    return int(word[1:]) if word[:1] == "\0" else None


def _part(position: int, model: Match | Target, named: int | None) -> _Part | None:
    """The part of a shape that a match or target is, None for one that is the same in each line."""
    holes = []
    used = [] if named is None else [named]
    for i, option in enumerate(model.options):
        numbers = [number for number in map(_number, option.values) if number is not None]
        if numbers:
            holes.append(_Hole(i, option, numbers[0], numbers[-1] + 1))
            used += numbers
    return _Part(position, model, tuple(holes), min(used), max(used) + 1, named is not None) if used else None
