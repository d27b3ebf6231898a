"""A dump's bytes as iptables-save's decoder reads them: searched in pieces, lines numbered by offset."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterator

from netk8s.decode._iptables_shapes import Shapes
from netk8s.errors import DecodeError
from netk8s.model import At

WINDOW = 4 << 20
"""What is looked at in one piece."""
_BLOCK, _FINE = 256 << 10, 1 << 10
"""Line numbers are kept for offsets so far apart: of all blocks on the way, and within a block that somebody asks about."""


class Text:
    """A dump's bytes, read in pieces: a mapped file is slow to search where it lies, and its pages are let go behind."""

    def __init__(self, origin: str, data: bytes | mmap.mmap) -> None:
        self.origin, self.data, self.size = origin, data, len(data)
        self._lines = array("Q", [1])
        self._fine: dict[int, array[int]] = {}
        self.shapes = Shapes()

    def line(self, offset: int) -> int:
        """The number of the line that holds ``offset``, from 1."""
        block, within = divmod(offset, _BLOCK)
        fine = self._fine.get(block)
        if fine is None:
            fine = self._fine[block] = self._counted(block)
        at, counted = divmod(within, _FINE)
        return fine[at] + (self.data[offset - counted : offset].count(b"\n") if counted else 0)

    def _counted(self, block: int) -> array[int]:
        """The line numbers within a block."""
        lines = self._lines
        while len(lines) <= block:
            start = (len(lines) - 1) * _BLOCK
            piece = self.data[start : start + _BLOCK]
            # CPython 3.11 counts byte by byte, and takes a byte out by memchr and memcpy: half the time for such lines.
            lines.append(lines[-1] + len(piece) - len(piece.replace(b"\n", b"")))
            if (start + _BLOCK) % WINDOW == 0:
                self.forget(start + _BLOCK - WINDOW, start + _BLOCK)
        piece = self.data[block * _BLOCK : (block + 1) * _BLOCK]
        fine = array("Q", [lines[block]])
        for at in range(0, len(piece), _FINE):
            fine.append(fine[-1] + piece.count(b"\n", at, at + _FINE))
        return fine

    def at(self, offset: int) -> At:
        """The place of ``offset``."""
        return At(self.origin, self.line(offset))

    def error(self, offset: int, why: str) -> DecodeError:
        """The error of the line that holds ``offset``."""
        return DecodeError(self.origin, self.line(min(offset, self.size)), why)

    def find(self, needle: bytes, start: int, end: int) -> int:
        """The first offset of ``needle`` between two others, or -1."""
        return next(self.every(needle, start, end), -1)

    def every(self, needle: bytes, start: int, end: int) -> Iterator[int]:
        """Each offset of ``needle`` between two others; pages that were looked through are let go.

        In pieces: the ``find`` of a mapped file (CPython 3.11) compares at every byte and takes ten times as long.
        """
        while start < end:
            stop = min(start + WINDOW, end)
            piece = self.data[start : min(stop + len(needle) - 1, end)]
            found = piece.find(needle)
            while found >= 0:
                yield start + found
                found = piece.find(needle, found + 1)
            self.forget(start, stop)
            start = stop

    def line_end(self, offset: int) -> int:
        """Where the line that holds ``offset`` ends: its line feed, or the end."""
        end = self.data.find(b"\n", offset)
        return end if end >= 0 else self.size

    def find_line(self, prefix: bytes, start: int, end: int | None = None) -> int:
        """The offset of the first line from ``start`` (a line start) that begins with ``prefix``, or -1."""
        end = self.size if end is None else end
        if self.data[start : start + len(prefix)] == prefix and start + len(prefix) <= end:
            return start
        if len(prefix) == 1:
            # A single byte is found faster than two, and those that tables begin with are seldom elsewhere.
            start = self.find(prefix, start, end) - 1
            if start < 0:
                return -1
        found = self.find(b"\n" + prefix, start, end)
        return found + 1 if found >= 0 else -1

    def forget(self, start: int, end: int) -> None:
        """Let the kernel take back mapped pages that were scanned, so that a large file does not count as memory."""
        if isinstance(self.data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            page = mmap.PAGESIZE
            start = max(start - start % page, 0)
            if end - start >= page:
                self.data.madvise(mmap.MADV_DONTNEED, start, end - start)
