"""What is compressed, recognised by its first bytes, in order and within bounds."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator

from netk8s.errors import DecodeError
from netk8s.snapshot._bytes import CHUNK, Stream
from netk8s.snapshot._tar import HEADER

BOMB_BYTES, BOMB_RATIO = 256 * 1024 * 1024, 300
"""From this size on, input that decompresses by more than this ratio is refused: rulesets come to 20 or 40."""
_LAYERS = 3


class _Gzip:
    """zlib's object with the interface of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail


class _Zstandard:
    """zstandard's object with the interface of those of bz2 and lzma; it has no bound of its own on its output."""

    # 3 bytes of zstd can stand for 128 KiB; so one step gives some 20 MiB at most.
    STEP = 512

    def __init__(self) -> None:
        import zstandard  # only when an input is: importing it costs more than reading most dumps

        # A window of 128 MiB is what the zstd command line takes without being asked for more.
        self._object = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        self._ahead, self._at, self._error = b"", 0, zstandard.ZstdError

    def decompress(self, data: bytes, max_length: int) -> bytes:
        del max_length
        if data:
            self._ahead, self._at = self._ahead[self._at :] + data, 0
        step = self._ahead[self._at : self._at + self.STEP]
        self._at += len(step)
        try:
            return self._object.decompress(step)
        except self._error as error:
            raise ValueError(str(error)) from None

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data + self._ahead[self._at :]

    @property
    def needs_input(self) -> bool:
        return self._at >= len(self._ahead)


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 * 1024 * 1024)


_Opened = _Gzip | _Zstandard | bz2.BZ2Decompressor | lzma.LZMADecompressor
_FORMATS: tuple[tuple[str, bytes, Callable[[], _Opened]], ...] = (
    ("gzip", b"\x1f\x8b\x08", _Gzip),
    ("zstd", b"\x28\xb5\x2f\xfd", _Zstandard),
    ("xz", b"\xfd7zXZ\x00", _xz),
    ("bzip2", b"BZh", bz2.BZ2Decompressor),
)


def format_of(start: bytes) -> tuple[str, bytes, Callable[[], _Opened]] | None:
    for name, magic, opened in _FORMATS:
        # "BZh" alone could begin a text; the level and the magic of a block (or of the end) follow.
        if start.startswith(magic) and (name != "bzip2" or start[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")):
            return name, magic, opened
    return None


def _decompressed(stream: Stream, origin: str) -> Iterator[bytes]:
    """The bytes that a compressed stream stands for, member after member."""
    found = format_of(stream.peek(HEADER))
    if found is None:
        return
    name, magic, opened = found
    damaged = f"the {name} data is damaged or cut off; copy the file again, in binary mode"
    taken = given = 0
    decompressor = opened()
    try:
        for chunk in stream.copy():
            taken += len(chunk)
            while True:
                if decompressor.eof:
                    chunk = (decompressor.unused_data + chunk).lstrip(b"\0")
                    if not chunk:
                        break
                    # The end of a member can fall so that its successor's magic is not complete yet.
                    while len(chunk) < len(magic) and (more := stream.take(64)):
                        taken, chunk = taken + len(more), (chunk + more).lstrip(b"\0")
                    if not chunk:
                        break
                    if not chunk.startswith(magic):
                        raise DecodeError(origin, 0, damaged)
                    decompressor = opened()
                piece = decompressor.decompress(chunk, CHUNK)
                chunk = b""
                given += len(piece)
                if given > BOMB_BYTES and given > BOMB_RATIO * taken:
                    why = (
                        f"decompresses to more than {BOMB_RATIO} times its size, as no dump does; decompress it by hand"
                    )
                    raise DecodeError(origin, 0, why)
                if piece:
                    yield piece
                if decompressor.eof and decompressor.unused_data:
                    continue
                if decompressor.eof or decompressor.needs_input:
                    break
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DecodeError(origin, 0, f"{damaged} ({error})") from None
    if not decompressor.eof:
        raise DecodeError(origin, 0, damaged)


def plain(chunks: Iterator[bytes], origin: str) -> Stream:
    """The stream without its compression; at most three layers of it."""
    stream = Stream(chunks)
    for _ in range(_LAYERS):
        if format_of(stream.peek(HEADER)) is None:
            return stream
        stream = Stream(_decompressed(stream, origin))
    if format_of(stream.peek(HEADER)) is not None:
        raise DecodeError(origin, 0, f"is compressed more than {_LAYERS} times over; decompress it by hand")
    return stream
