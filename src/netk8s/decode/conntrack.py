"""``conntrack -L``: tracked connections, one a line (libnetfilter_conntrack's snprintf_default.c).

``-o extended`` and /proc/net/nf_conntrack begin a line with the family; ``-o id``, zones, accounting and labels add
words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_address

from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import Addr, At, ConntrackEntry, ConntrackTable, ConntrackTuple, Coverage, Dump, Fact

NAME = "conntrack"

_HEAD = re.compile(
    r"(?:(?:ipv4|ipv6)\s+(?:2|10)\s+)?[a-z][a-z0-9-]*\s+\d{1,3}\s+(?:\d+\s+)?(?:[A-Z][A-Z0-9_]*\s+)?src=\S+ dst=\S+"
)
_SUMMARY = re.compile(r"conntrack v\S+ \(conntrack-tools\)")
_OF_TUPLE = frozenset({"src", "dst", "sport", "dport", "type", "code", "id", "srckey", "dstkey", "key"})


def sniff(dump: Dump) -> bool:
    """The first line is an entry."""
    found = [line for line in first_lines(dump) if not _SUMMARY.match(line)]
    return bool(found) and _HEAD.match(found[0]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """Coverage "conntrack" and the table. Its entries are decoded, and raise DecodeError, when they are asked for."""
    yield Coverage("conntrack", At(dump.origin))
    yield ConntrackTable(Listed(dump), At(dump.origin))


class Listed:
    """The connections of a listing. A busy node tracks hundreds of thousands, and a trace asks for a few."""

    def __init__(self, dump: Dump) -> None:
        self._dump = dump

    def __iter__(self) -> Iterator[ConntrackEntry]:
        """Every entry. Raises DecodeError."""
        for number, line in lines(self._dump):
            # The closing count goes to standard error and is often redirected into the file.
            if line.strip() and not _SUMMARY.match(line):
                yield _entry(line, At(self._dump.origin, number))

    def having(self, ends: ConntrackTuple) -> Iterator[ConntrackEntry]:
        """The entries with these ends in one of their directions. Raises DecodeError for a line that has the words."""
        for src, dst in zip(_spellings(ends.src), _spellings(ends.dst), strict=True):
            words = b"src=%s dst=%s sport=%d dport=%d " % (src, dst, ends.sport or 0, ends.dport or 0)
            for entry in self._found(re.compile(re.escape(words))):
                if _ends(ends) in (_ends(entry.original), _ends(entry.reply)):
                    yield entry

    def elsewhere(self, dst: Addr, dport: int, known: Iterable[Addr]) -> Iterator[ConntrackEntry]:
        """The entries to ``dst`` and ``dport`` that lead to none of the ``known`` addresses. Raises DecodeError."""
        known = frozenset(known)
        others = b"|".join(re.escape(text) for ip in known for text in _spellings(ip))
        for text in _spellings(dst):
            words = rb"dst=%s sport=\d+ dport=%d (?:[^s\n]\S* |s(?!rc=)\S* )*src=(?!(?:%s) )" % (
                re.escape(text), dport, others,
            )  # fmt: skip
            for entry in self._found(re.compile(words)):
                if (entry.original.dst, entry.original.dport) == (dst, dport) and entry.reply.src not in known:
                    yield entry

    def _found(self, words: re.Pattern[bytes]) -> Iterator[ConntrackEntry]:
        data = self._dump.data
        number, counted, done = 1, 0, -1
        for match in words.finditer(data):
            start = data.rfind(b"\n", 0, match.start()) + 1
            if start <= done:
                continue
            number += data[counted:start].count(b"\n")
            counted = done = start
            end = data.find(b"\n", match.end())
            line = data[start : len(data) if end < 0 else end].decode("utf-8", "replace").rstrip("\r")
            yield _entry(line, At(self._dump.origin, number))


def _ends(one: ConntrackTuple) -> tuple[object, ...]:
    return one.src, one.dst, one.sport, one.dport


def _spellings(ip: Addr) -> tuple[bytes, ...]:
    """As `conntrack -L` writes an address, and as /proc/net/nf_conntrack does (%pI6: no zeros left out)."""
    return (str(ip).encode(),) if ip.version == 4 else (str(ip).encode(), ip.exploded.encode())


def _entry(line: str, at: At) -> ConntrackEntry:
    words = line.split()
    if words[0] in ("ipv4", "ipv6") and len(words) > 1:
        del words[:2]
    if len(words) < 2 or not (words[1].isascii() and words[1].isdigit() and int(words[1][:4]) < 256):
        raise DecodeError(at.origin, at.line, "expected a protocol and its number, as `conntrack -L` prints them")
    protocol = int(words[1])
    state, timeout = "", None
    tuples: list[dict[str, str]] = []
    extra: list[tuple[str, str]] = []
    flags: list[str] = []
    mark: int | None = None
    zone = 0
    for word in words[2:]:
        key, equals, value = word.partition("=")
        if not equals:
            if word.startswith("["):
                flags.append(word.strip("[]"))
            elif word.isascii() and word.isdigit() and timeout is None and not tuples:
                timeout = int(word[:18])
            elif not tuples:
                state = word
            else:
                raise DecodeError(at.origin, at.line, f"word {word[:60]!r} is not known in an entry of `conntrack -L`")
        elif key == "src":
            tuples.append({"src": value})
        # "id" is the tuple's for ICMP and the entry's with -o id, where it is the last word.
        elif key in _OF_TUPLE and tuples and key not in tuples[-1] and not (key == "id" and "type" not in tuples[-1]):
            tuples[-1][key] = value
        elif key == "mark":
            mark = _number(value, key, at)
        elif key == "zone":
            zone = _number(value, key, at)
        else:
            extra.append((key, value))
    if len(tuples) != 2:
        raise DecodeError(at.origin, at.line, f"expected two src= words, one for each direction, found {len(tuples)}")
    original, reply = (_tuple(each, at) for each in tuples)
    return ConntrackEntry(protocol, original, reply, state, timeout, mark, zone, tuple(flags), tuple(extra), at)


def _tuple(words: dict[str, str], at: At) -> ConntrackTuple:
    src, dst = _address(words.get("src", "")), _address(words.get("dst", ""))
    if src is None or dst is None or src.version != dst.version:
        raise DecodeError(at.origin, at.line, "expected src= and dst= with addresses of one family")
    ports = [_number(words[key], key, at) if key in words else None for key in ("sport", "dport")]
    if any(port is not None and port > 65535 for port in ports):
        raise DecodeError(at.origin, at.line, "a port is not above 65535")
    rest = tuple((k, v) for k, v in words.items() if k not in ("src", "dst", "sport", "dport"))
    return ConntrackTuple(src, dst, ports[0], ports[1], rest)


@lru_cache(maxsize=65536)
def _address(text: str) -> Addr | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _number(text: str, key: str, at: At) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise DecodeError(at.origin, at.line, f"expected {key}= with a number, found {text[:60]!r}")
    return int(text)
