"""The members of a tar archive, in order: no name in it is ever opened."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.errors import DecodeError
from netk8s.snapshot._bytes import Stream

HEADER = 512
_MOST_NAME = 1 << 20


def is_tar(block: bytes) -> bool:
    """A tar header by its checksum, which also the old formats without the magic "ustar" have."""
    if len(block) < HEADER or not block[0]:
        return False
    kept = _octal(block[148:156])
    return kept is not None and kept == sum(block[:148]) + 8 * 0x20 + sum(block[156:HEADER])


def _octal(field: bytes) -> int | None:
    """A number of a tar header: octal text, or binary where the first bit is set (GNU). None: neither."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & (1 << (8 * len(field) - 1)) - 1
        # The second bit is the sign; nothing has a negative size.
        return None if field[0] & 0x40 else value
    text = field.split(b"\0", 1)[0].strip()
    return int(text, 8) if text and all(c in b"01234567" for c in text) else 0 if not text else None


def members(stream: Stream, origin: str) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """(name, size, bytes) of each regular file of a tar archive in any of its formats (v7, ustar, pax, GNU).

    Links, devices and folders are passed over, as are sparse files, whose bytes are not in one piece.
    """
    cut = "the tar archive is cut off or damaged; copy it again, in binary mode"
    name, size = "", None
    while True:
        block = stream.take(HEADER)
        if block == b"\0" * HEADER:
            return
        if len(block) < HEADER or not is_tar(block):
            raise DecodeError(origin, 0, cut)
        length, kind = _octal(block[124:136]), block[156:157]
        if length is None:
            raise DecodeError(origin, 0, cut)
        if kind in (b"L", b"K", b"x", b"g", b"X"):
            data = _small(stream, length, origin)
            if kind == b"L":
                name = _text(data.split(b"\0", 1)[0])
            elif kind in (b"x", b"X"):
                records = _pax(data)
                if "size" in records and records["size"].isdigit() and len(records["size"]) < 20:
                    size = int(records["size"])
                name = records.get("path", name)
                if any(key.startswith("GNU.sparse.") for key in records):
                    size = -1
            continue
        own = _text(block[:100].split(b"\0", 1)[0])
        if block[257:263] == b"ustar\0" and block[345] and not name:
            own = f"{_text(block[345:500].split(bytes(1), 1)[0])}/{own}"
        whole = length if size is None or size < 0 else size
        # A link or folder may carry the size of what it stands for, without any bytes after it.
        stored = 0 if kind in (b"1", b"2", b"3", b"4", b"5", b"6") else whole
        rest = _counted(stream, stored, origin, cut)
        if kind in (b"0", b"\0", b"7") and size != -1 and not own.endswith("/"):
            yield name or own, stored, rest
        for _ in rest:
            pass
        padding = -stored % HEADER
        if len(stream.take(padding)) < padding:
            raise DecodeError(origin, 0, cut)
        name, size = "", None


def _counted(stream: Stream, count: int, origin: str, cut: str) -> Iterator[bytes]:
    for piece in stream.copy(count):
        count -= len(piece)
        yield piece
    if count:
        raise DecodeError(origin, 0, cut)


def _small(stream: Stream, length: int, origin: str) -> bytes:
    """The bytes of a header that goes on in the member after it: a long name, pax records."""
    if length > _MOST_NAME:
        raise DecodeError(origin, 0, "a header in the tar archive is too long; pack it again")
    data = stream.take(length)
    padding = -length % HEADER
    if len(data) < length or len(stream.take(padding)) < padding:
        raise DecodeError(origin, 0, "the tar archive is cut off within a header; copy it again")
    return data


def _pax(data: bytes) -> dict[str, str]:
    """The records "LENGTH KEY=VALUE\\n" of a pax header; what is no record ends them."""
    records: dict[str, str] = {}
    while data:
        digits, _, _ = data[:24].partition(b" ")
        if not digits.isdigit() or len(digits) > 8 or not len(digits) + 1 < int(digits) <= len(data):
            break
        record, data = data[len(digits) + 1 : int(digits)], data[int(digits) :]
        key, _, value = record.rstrip(b"\n").partition(b"=")
        records[_text(key)] = _text(value)
    return records


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
