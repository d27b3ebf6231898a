"""JSON of unknown origin: its shape at a glance, its values, and typed access that says where a type is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from socket import AF_INET, inet_pton
from typing import NoReturn, TypeVar

import msgspec

from netk8s.errors import DecodeError
from netk8s.model import Addr, At, Dump, Net

S = TypeVar("S")
F = TypeVar("F")

HEAD = 16 * 1024
"""How much of a dump a sniff looks at, in bytes."""

# The quantifiers are possessive and the closing quote may be missing: linear on every input, cut off or hostile.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[][{}:]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\r\n]*")
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")


def head(dump: Dump) -> bytes:
    """The first :data:`HEAD` bytes of a dump, as bytes also when the dump is mapped."""
    return dump.data[:HEAD]


def outer_keys(dump: Dump, opening: str) -> frozenset[str]:
    """The keys that the beginning of a JSON dump shows, without decoding it; empty when it is no such JSON.

    ``opening`` "[" asks for the keys of the objects in an outer array, "{" for those of an outer object.
    """
    return _keys(bytes(head(dump)), opening)


@lru_cache(maxsize=8)  # every format asks for the keys of the same dump
def _keys(raw: bytes, opening: str) -> frozenset[str]:
    text = raw.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text.startswith(opening):
        return frozenset()
    wanted = "[{" if opening == "[" else "{"
    nesting, keys, last = "", set(), ""
    for token in _TOKEN.finditer(text):
        word = token.group()
        if word in "[{":
            nesting += word
        elif word in "]}":
            nesting = nesting[:-1]
        elif word == ":":
            if nesting == wanted:
                keys.add(last)
        else:
            last = word.strip('"')
    return frozenset(keys)


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


_LARGE = 256 << 10
"""From this size on it pays to load the faster reader."""

# strict=False: device aliases and annotations may hold raw control characters, which do not make a dump unreadable.
_DECODER = json.JSONDecoder(parse_constant=_no_constant, strict=False)


def documents(dump: Dump, command: str, schema: str, verb: str = "writes") -> Iterator[JsonObject]:
    """The objects of a dump that netk8s itself made: of this schema, each. ``command`` is what ``verb`` such a dump.

    Raises DecodeError for another value, or another version.
    """
    for at, value in values(dump, command):
        if not isinstance(value, dict):
            raise DecodeError(at.origin, at.line, f"expected an object as `{command}` {verb} it, found {kind(value)}")
        document = JsonObject(value, at)
        if document.text("schema") != schema:
            raise document.wrong("schema", f"{schema!r}; a newer netk8s may read it")
        yield document


def values(dump: Dump, command: str) -> Iterator[tuple[At, object]]:
    """The JSON values of a dump, one after the other: the output of two commands in one file is two values.

    The place has a line where a value stands on one line, else line 0. ``command`` is what prints such a
    dump, for the message. Raises DecodeError for anything but JSON.
    """
    raw = dump.data[:]
    if len(raw) > _LARGE:
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # several values, raw control characters, or no JSON: the slower reader below knows which and where
        else:
            line = 0 if b"\n" in raw.strip() else 1
            yield At(dump.origin, line), value
            return
    text = raw.decode("utf-8", "replace")
    start, end = 0, len(text)
    again = f"take the dump again with `{command}`"
    while True:
        space = _SPACE.match(text, start)
        start = space.end() if space else start
        if start >= end:
            return
        try:
            value, stop = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
            why = "the JSON ends too early" if cut else f"not JSON ({error.msg}, column {error.colno})"
            raise DecodeError(dump.origin, error.lineno, f"{why}; {again}") from None
        except RecursionError:
            raise DecodeError(dump.origin, 0, f"the JSON is nested too deeply; {again}") from None
        except ValueError as error:
            # A number of thousands of digits, NaN, Infinity.
            raise DecodeError(dump.origin, 0, f"a number cannot be read ({error}); {again}") from None
        line = 0 if text.find("\n", start, stop) >= 0 else text.count("\n", 0, start) + 1
        if _SURROGATE.search(text, start, stop):
            value = _cleaned(value)
        yield At(dump.origin, line), value
        start = stop


def spelled(dump: Dump, key: str) -> tuple[At, dict[str, object], list[msgspec.Raw]] | None:
    """The items of the array ``key`` of a large dump that is one object, each as it is spelled: see :func:`member`.

    Before them its place, and its other members. None when the dump is small or anything else: then :func:`values`
    reads it, or says what is wrong. Passing over text takes a tenth of the time of making values of it.
    """
    raw = dump.data[:]
    if len(raw) <= _LARGE:
        return None
    try:
        outer = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        items = msgspec.json.decode(outer.pop(key), type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return None
    place = At(dump.origin, 0 if b"\n" in raw.strip() else 1)
    return place, {name: member(value) for name, value in outer.items()}, items


def member(spelling: msgspec.Raw) -> object:
    """The value of an item of :func:`spelled`."""
    try:
        return msgspec.json.decode(spelling)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Bytes that are no UTF-8 were passed over.
        return _cleaned(_DECODER.decode(bytes(spelling).decode("utf-8", "replace")))


def shaped(
    text: msgspec.Raw, begins: re.Pattern[bytes], shape: msgspec.json.Decoder[S], made: Callable[[S], Iterable[F]]
) -> list[F] | None:
    """What is made of an item of :func:`spelled` that is read into its shape at once; None where another reading is needed.

    ``begins``: how an object of this kind is spelled. ``made`` raises ValueError for what it cannot use.
    """
    if not begins.match(text):
        return None
    try:
        return list(made(shape.decode(text)))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return None


def arrays(dump: Dump, command: str) -> Iterator[tuple[At, list[JsonObject]]]:
    """The outer arrays of a dump with their objects, as the iproute2 tools print them.

    Empty objects are left out: iproute2 prints ``{}`` for each device that a selection on the command line
    left out. Raises DecodeError for anything but arrays of objects.
    """
    for at, value in values(dump, command):
        if not isinstance(value, list):
            raise DecodeError(
                at.origin, at.line, f"expected a JSON array as `{command}` prints it, found {kind(value)}"
            )
        items = []
        for number, item in enumerate(value):
            if not isinstance(item, dict):
                why = f"[{number}]: expected an object as `{command}` prints it, found {kind(item)}"
                raise DecodeError(at.origin, at.line, why)
            if item:
                items.append(JsonObject(item, at, None, (number,)))
        yield at, items


def _cleaned(value: object) -> object:
    """A JSON value with all of its keys and strings cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(item) for key, item in value.items()}
    return value


def clean(text: str) -> str:
    """Without lone surrogates, which JSON can spell and no output can print."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def kind(value: object) -> str:
    """What a JSON value is, in the words of JSON, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if -(10**20) < value < 10**20 else "a huge number"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(clean(value if len(value) <= 40 else value[:40] + "…"), ensure_ascii=False)
    return "an array" if isinstance(value, list) else "an object" if isinstance(value, Mapping) else repr(value)[:40]


class JsonObject:
    """A JSON (or YAML) object with its place: ``path`` is the way to it within the value at ``at``.

    A key that is absent and a key that is null are the same: None. A value of the wrong type raises DecodeError.
    Large clusters have 100,000 of these: the path is spelled out only when somebody asks for it.
    """

    __slots__ = ("_above", "_step", "at", "members")

    def __init__(
        self, members: Mapping[str, object], at: At, above: JsonObject | None = None, step: tuple[str | int, ...] = ()
    ) -> None:
        self.members, self.at, self._above, self._step = members, at, above, step

    @property
    def path(self) -> str:
        """The way to this object as it would be typed: ``items[3].spec``."""
        text = self._above.path if self._above is not None else ""
        for part in self._step:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text

    def moved(self, at: At) -> JsonObject:
        """The same object, at a place that is known better."""
        return JsonObject(self.members, at, self._above, self._step)

    def empty(self, key: str) -> JsonObject:
        """An object without members in place of one that is not there."""
        return JsonObject({}, self.at, self, (key,))

    def wrong(self, key: str, expected: str) -> DecodeError:
        """The error that says what was expected in place of this member."""
        where = clean(f"{self.path}.{key}" if self.path else key)
        found = kind(self.members[key]) if key in self.members else "nothing"
        return DecodeError(self.at.origin, self.at.line, f"{where}: expected {expected}, found {found}")

    def present(self, key: str) -> bool:
        """A flag as iproute2 prints it: the key is there (its value null or true) and not false."""
        return key in self.members and self.members[key] is not False

    def text(self, key: str) -> str | None:
        """A string, cleaned of lone surrogates."""
        value = self.members.get(key)
        if isinstance(value, str):
            return value if value.isascii() else clean(value)
        if value is None:
            return None
        raise self.wrong(key, "a string")

    def need(self, key: str) -> str:
        """A string that must be there and not be empty."""
        value = self.text(key)
        if not value:
            raise self.wrong(key, "a string")
        return value

    def word(self, key: str) -> str | None:
        """A name or a number, as text: iproute2 prints table 100 as "100" and the main table as "main"."""
        value = self.members.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64:
            return str(value)
        return self.text(key)

    def number(self, key: str, low: int = 0, high: int = 0xFFFFFFFF) -> int | None:
        """A whole number of ``low`` to ``high``; also as text, decimal or 0x and hexadecimal."""
        value = self.members.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            value = whole(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, f"a whole number of {low} to {high}")
        return value

    def flag(self, key: str) -> bool | None:
        """True or false; iproute2 has also printed "on" and "off"."""
        value = self.members.get(key)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str) and value in ("on", "off"):
            return value == "on"
        raise self.wrong(key, "true or false")

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of strings; () when absent."""
        value = self.members.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "an array of strings")
        return tuple(map(clean, value))

    def child(self, key: str) -> JsonObject | None:
        """An object."""
        value = self.members.get(key)
        if isinstance(value, dict):
            return JsonObject(value, self.at, self, (key,))
        if value is None:
            return None
        raise self.wrong(key, "an object")

    def children(self, key: str) -> Iterator[JsonObject]:
        """An array of objects; nothing when absent."""
        value = self.members.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            raise self.wrong(key, "an array of objects")
        for number, item in enumerate(value):
            yield self.item(key, number, item)

    def item(self, key: str, number: int, value: object) -> JsonObject:
        """An object that is an item of the array ``key``."""
        if isinstance(value, dict):
            return JsonObject(value, self.at, self, (key, number))
        path = JsonObject({}, self.at, self, (key, number)).path
        raise DecodeError(self.at.origin, self.at.line, f"{path}: expected an object, found {kind(value)}")

    def addr(self, key: str) -> Addr | None:
        """An IP address; the zone of a link-local one ("%eth0") is kept. Empty text counts as absent."""
        value = self.text(key)
        if not value:
            return None
        try:
            return address(value)
        except ValueError:
            raise self.wrong(key, "an IP address") from None

    def addrs(self, key: str) -> tuple[Addr, ...]:
        """An array of IP addresses; () when absent."""
        try:
            return tuple(map(address, self.texts(key)))
        except ValueError:
            raise self.wrong(key, "an array of IP addresses") from None

    def nets(self, key: str) -> tuple[Net, ...]:
        """An array of networks in CIDR form; () when absent."""
        try:
            return tuple(ip_network(value, strict=False) for value in self.texts(key))
        except ValueError:
            raise self.wrong(key, "an array of networks such as 10.0.0.0/24") from None


def address(text: str) -> Addr:
    """An IP address. Raises ValueError for any other text.

    inet_pton takes the usual dotted form in a fifth of ip_address's time, and refuses leading zeros as it does.
    """
    try:
        return IPv4Address(inet_pton(AF_INET, text))
    except (OSError, ValueError):
        return ip_address(text)


def whole(text: str) -> int | None:
    """A decimal or 0x number of at most 20 characters, None for any other text."""
    if not text.isascii() or len(text) > 20:
        return None
    try:
        return int(text, 16) if text[:2].lower() == "0x" else int(text) if text.isdigit() else None
    except ValueError:
        return None
