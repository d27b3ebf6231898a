"""Bytes in order, and how many of them may be kept."""

from __future__ import annotations

import codecs
import mmap
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from msgspec import Struct

from netk8s.errors import DecodeError

MAP_FROM = 4 * 1024 * 1024
"""Plain files larger than this many bytes are mapped into memory instead of read."""
MOST_BYTES = 4 * 1024**3
"""How many bytes all that is not mapped may come to, decompressed."""
CHUNK = 1 << 20


class Budget(Struct):
    """How many bytes may still be kept; one for all inputs of a read."""

    left: int

    def spend(self, count: int, origin: str) -> None:
        self.left -= count
        if self.left < 0:
            why = f"comes to more than {MOST_BYTES // 1024**3} GiB decompressed; give fewer dumps at a time"
            raise DecodeError(origin, 0, why)


class Stream:
    """Chunks of bytes with look-ahead."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._ahead, self._at = chunks, b"", 0

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer at the end, without taking them; only for small counts."""
        while len(self._ahead) - self._at < count:
            more = next(self._chunks, b"")
            if not more:
                break
            self._ahead, self._at = self._ahead[self._at :] + more, 0
        return self._ahead[self._at : self._at + count]

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer at the end; only for small counts, see :meth:`copy`."""
        found = self.peek(count)
        self._at += len(found)
        return found

    def copy(self, count: int | None = None) -> Iterator[bytes]:
        """The next ``count`` bytes (None: all that is left) in chunks."""
        left = count
        while left is None or left > 0:
            if self._at >= len(self._ahead):
                self._ahead, self._at = next(self._chunks, b""), 0
                if not self._ahead:
                    return
            piece = self._ahead[self._at :] if left is None else self._ahead[self._at : self._at + left]
            self._at += len(piece)
            if left is not None:
                left -= len(piece)
            yield piece


def chunks_of(file: BinaryIO, origin: str) -> Iterator[bytes]:
    try:
        while chunk := file.read(CHUNK):
            yield chunk
    except (OSError, ValueError) as error:
        raise unreadable(origin, error) from None


def collect(chunks: Iterable[bytes], origin: str, budget: Budget) -> bytes:
    found = []
    for chunk in chunks:
        budget.spend(len(chunk), origin)
        found.append(chunk)
    return _utf8(found[0] if len(found) == 1 else b"".join(found))


WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _utf8(data: bytes) -> bytes:
    """Without a byte order mark; UTF-16 with one, which PowerShell's ``>`` writes, as UTF-8."""
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :]
    if data.startswith(WIDE):
        return data.decode("utf-16", "replace").encode("utf-8", "replace")
    return data


def mapped_bytes(file: BinaryIO, start: bytes) -> bytes:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if start.startswith(codecs.BOM_UTF8):
        data = mapped[len(codecs.BOM_UTF8) :]
        mapped.close()
        return data
    # Dump.data asks for find, slicing and a length, which a mapping has as bytes do.
    return cast("bytes", mapped)


def printable(text: str) -> str:
    """A name out of an archive or folder, safe to print: escapes for what is no printable character."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def unreadable(origin: str, error: Exception) -> DecodeError:
    if isinstance(error, FileNotFoundError):
        why = "no such file or folder; give the path of a dump, of a folder of dumps, or - for standard input"
    elif isinstance(error, PermissionError):
        why = "this user may not read it; change its mode, or pipe it in with `sudo cat FILE | netk8s … --dump -`"
    else:
        why = f"cannot be read ({getattr(error, 'strerror', None) or error}); check the path"
    return DecodeError(origin, 0, why)
