"""Texts in, texts out: files, folders, archives and standard input become the dumps of a Snapshot.

Nothing is written to disk and no name in an archive is ever opened: a member is its bytes and its name.
"""

from __future__ import annotations

import bz2
import codecs
import io
import json
import lzma
import mmap
import os
import shutil
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from msgspec import Struct
from msgspec.structs import replace

from netk8s import __version__
from netk8s.errors import DecodeError, UsageError
from netk8s.layouts import Reports, cluster_info
from netk8s.model import Dump, Missing, Snapshot

if TYPE_CHECKING:
    import tarfile

MAP_FROM = 4 * 1024 * 1024
"""Plain files larger than this many bytes are mapped into memory instead of read."""
MOST_BYTES = 4 * 1024**3
"""How many bytes all that is not mapped may come to, decompressed."""
MOST_DUMPS = 100_000
"""How many files a folder or an archive may hold."""
BOMB_BYTES, BOMB_RATIO = 256 * 1024 * 1024, 300
"""From this size on, input that decompresses by more than this ratio is refused: rulesets come to 20 or 40."""

_CHUNK = 1 << 20
_LAYERS = 3
_NEVER = frozenset({"case.json", "observed.jsonl"})
_INDEX = "snapshot.json"
_INDEX_SCHEMA = "netk8s.dev/snapshot/v1"
_COMPRESSED = (".gz", ".zst", ".xz", ".bz2")


def read(paths: Sequence[str], *, node: str | None = None, stdin: BinaryIO | None = None) -> Snapshot:
    """The texts at ``paths``: files, folders, archives, and ``-`` for ``stdin`` (default: the process's own).

    A folder or archive has the layout ``cluster/*``, ``nodes/<node>/*``, or is a folder of one node's dumps; what was
    taken inside a pod's network namespace is in ``nodes/<node>/pods/<namespace>_<name>/*``. Compression and tar are
    recognised by content; so are, by their folders, the reports of other tools that :mod:`netk8s.layouts` knows.
    ``node`` names the node of dumps whose place does not.
    Origins are paths as the user knows them: within a folder or archive the path in it, else the path as
    given. Plain files above MAP_FROM bytes are mapped, all others are bytes. Raises DecodeError for whatever
    cannot be read, is damaged, or is larger than MOST_BYTES decompressed.
    """
    budget = _Budget(MOST_BYTES)
    inputs: list[tuple[str, Snapshot]] = []
    seen: set[str] = set()
    for path in paths:
        key = path if path == "-" else _real(path)
        if key in seen:
            continue
        seen.add(key)
        inputs.append((path, _read_one(path, node, stdin, budget)))
    counts: dict[str, int] = {}
    for _, part in inputs:
        for origin in {dump.origin for dump in part.dumps}:
            counts[origin] = counts.get(origin, 0) + 1
    dumps: list[Dump] = []
    for path, part in inputs:
        if any(counts[dump.origin] > 1 for dump in part.dumps):
            prefix = path.rstrip("/") or path
            dumps += (replace(dump, origin=f"{prefix}/{dump.origin}") for dump in part.dumps)
        else:
            dumps += part.dumps
    dumps = [cluster_info.printed(dump) for dump in dumps]
    return Snapshot(tuple(dumps), tuple(missing for _, part in inputs for missing in part.missing))


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


def _read_one(path: str, node: str | None, stdin: BinaryIO | None, budget: _Budget) -> Snapshot:
    if path == "-":
        stream = stdin if stdin is not None else sys.stdin.buffer
        return _of_stream(_chunks(stream, "<stdin>"), "<stdin>", (node, None), budget)
    shown = printable(path)
    try:
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            return _of_folder(path, shown, node, budget)
        if stat.S_ISBLK(info.st_mode) or stat.S_ISSOCK(info.st_mode):
            raise DecodeError(shown, 0, "is a device or socket; give a file, a folder, or - for standard input")
        with open(path, "rb") as file:
            place = _place_of_path(path, node)
            if stat.S_ISREG(info.st_mode) and info.st_size > MAP_FROM:
                start = file.read(_HEADER)
                if _compression(start) is None and not _is_tar(start) and not start.startswith(_WIDE):
                    return Snapshot((Dump(shown, _map(file, start), *place),))
                file.seek(0)
            return _of_stream(_chunks(file, shown), shown, place, budget)
    except (OSError, ValueError) as error:
        raise _unreadable(shown, error) from None


def _unreadable(origin: str, error: Exception) -> DecodeError:
    if isinstance(error, FileNotFoundError):
        why = "no such file or folder; give the path of a dump, of a folder of dumps, or - for standard input"
    elif isinstance(error, PermissionError):
        why = "this user may not read it; change its mode, or pipe it in with `sudo cat FILE | netk8s … --dump -`"
    else:
        why = f"cannot be read ({getattr(error, 'strerror', None) or error}); check the path"
    return DecodeError(origin, 0, why)


_Place = tuple[str | None, str | None]
"""The node of a dump, and the pod (namespace/name) in whose network namespace it was taken."""


def _place_of_path(path: str, node: str | None) -> _Place:
    """The place of a file given by itself out of a folder in the layout: …/nodes/<node>/file."""
    pod, parts = _pod_of(PurePosixPath(os.path.abspath(path)).parts)
    found = printable(parts[-2]) if len(parts) >= 3 and parts[-3] == "nodes" else None
    return node or found, pod


def _pod_of(parts: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """(namespace/name, the path without it) of a file in ``pods/<namespace>_<name>/``; (None, the path) of any other.

    No name of Kubernetes has an underscore. kubelet's folders have the pod's uid behind another one.
    """
    if len(parts) < 3 or parts[-3] != "pods":
        return None, parts
    namespace, _, rest = printable(parts[-2]).partition("_")
    name = rest.partition("_")[0]
    return (f"{namespace}/{name}", (*parts[:-3], parts[-1])) if namespace and name else (None, parts)


def _map(file: BinaryIO, start: bytes) -> bytes:
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


# ---------------------------------------------------------------- bytes in order


class _Budget(Struct):
    """How many bytes may still be kept; one for all inputs of a read."""

    left: int

    def spend(self, count: int, origin: str) -> None:
        self.left -= count
        if self.left < 0:
            why = f"comes to more than {MOST_BYTES // 1024**3} GiB decompressed; give fewer dumps at a time"
            raise DecodeError(origin, 0, why)


class _Stream:
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


def _chunks(file: BinaryIO, origin: str) -> Iterator[bytes]:
    try:
        while chunk := file.read(_CHUNK):
            yield chunk
    except (OSError, ValueError) as error:
        raise _unreadable(origin, error) from None


def _collect(chunks: Iterable[bytes], origin: str, budget: _Budget) -> bytes:
    found = []
    for chunk in chunks:
        budget.spend(len(chunk), origin)
        found.append(chunk)
    return _utf8(found[0] if len(found) == 1 else b"".join(found))


_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _utf8(data: bytes) -> bytes:
    """Without a byte order mark; UTF-16 with one, which PowerShell's ``>`` writes, as UTF-8."""
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :]
    if data.startswith(_WIDE):
        return data.decode("utf-16", "replace").encode("utf-8", "replace")
    return data


# ---------------------------------------------------------------- compression


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


def _compression(start: bytes) -> tuple[str, bytes, Callable[[], _Opened]] | None:
    for name, magic, opened in _FORMATS:
        # "BZh" alone could begin a text; the level and the magic of a block (or of the end) follow.
        if start.startswith(magic) and (name != "bzip2" or start[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")):
            return name, magic, opened
    return None


def _decompressed(stream: _Stream, origin: str) -> Iterator[bytes]:
    """The bytes that a compressed stream stands for, member after member."""
    found = _compression(stream.peek(_HEADER))
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
                piece = decompressor.decompress(chunk, _CHUNK)
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


def _plain(chunks: Iterator[bytes], origin: str) -> _Stream:
    """The stream without its compression; at most three layers of it."""
    stream = _Stream(chunks)
    for _ in range(_LAYERS):
        if _compression(stream.peek(_HEADER)) is None:
            return stream
        stream = _Stream(_decompressed(stream, origin))
    if _compression(stream.peek(_HEADER)) is not None:
        raise DecodeError(origin, 0, f"is compressed more than {_LAYERS} times over; decompress it by hand")
    return stream


def _of_stream(chunks: Iterator[bytes], origin: str, place: _Place, budget: _Budget) -> Snapshot:
    stream = _plain(chunks, origin)
    if _is_tar(stream.peek(_HEADER)):
        return _of_archive(stream, origin, place, budget)
    data = _collect(stream.copy(), origin, budget)
    if not data:
        why = "is empty; take the dump again" if origin != "<stdin>" else "is empty; pipe a dump in, or name a file"
        raise DecodeError(origin, 0, why)
    return Snapshot((Dump(origin, data, *place),))


# ---------------------------------------------------------------- tar

_HEADER = 512
_MOST_NAME = 1 << 20


def _is_tar(block: bytes) -> bool:
    """A tar header by its checksum, which also the old formats without the magic "ustar" have."""
    if len(block) < _HEADER or not block[0]:
        return False
    kept = _octal(block[148:156])
    return kept is not None and kept == sum(block[:148]) + 8 * 0x20 + sum(block[156:_HEADER])


def _octal(field: bytes) -> int | None:
    """A number of a tar header: octal text, or binary where the first bit is set (GNU). None: neither."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & (1 << (8 * len(field) - 1)) - 1
        # The second bit is the sign; nothing has a negative size.
        return None if field[0] & 0x40 else value
    text = field.split(b"\0", 1)[0].strip()
    return int(text, 8) if text and all(c in b"01234567" for c in text) else 0 if not text else None


def _members(stream: _Stream, origin: str) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """(name, size, bytes) of each regular file of a tar archive in any of its formats (v7, ustar, pax, GNU).

    Links, devices and folders are passed over, as are sparse files, whose bytes are not in one piece.
    """
    cut = "the tar archive is cut off or damaged; copy it again, in binary mode"
    name, size = "", None
    while True:
        block = stream.take(_HEADER)
        if block == b"\0" * _HEADER:
            return
        if len(block) < _HEADER or not _is_tar(block):
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
        padding = -stored % _HEADER
        if len(stream.take(padding)) < padding:
            raise DecodeError(origin, 0, cut)
        name, size = "", None


def _counted(stream: _Stream, count: int, origin: str, cut: str) -> Iterator[bytes]:
    for piece in stream.copy(count):
        count -= len(piece)
        yield piece
    if count:
        raise DecodeError(origin, 0, cut)


def _small(stream: _Stream, length: int, origin: str) -> bytes:
    """The bytes of a header that goes on in the member after it: a long name, pax records."""
    if length > _MOST_NAME:
        raise DecodeError(origin, 0, "a header in the tar archive is too long; pack it again")
    data = stream.take(length)
    padding = -length % _HEADER
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


def _of_archive(stream: _Stream, origin: str, place: _Place, budget: _Budget) -> Snapshot:
    held: dict[tuple[str, ...], bytes] = {}
    reports = Reports()
    for name, size, pieces in _members(stream, origin):
        parts = tuple(printable(part) for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        reports.seen(parts)
        if not parts or not _wanted(parts) or not reports.wants(parts):
            continue
        if size > budget.left:
            budget.spend(size, origin)
        if len(held) >= MOST_DUMPS:
            raise DecodeError(origin, 0, f"holds more than {MOST_DUMPS} files; give the folder of one cluster")
        inner = f"{origin}:{'/'.join(parts)}"
        # A later member of the same name replaces the earlier one, as tar itself has it.
        held[parts] = _collect(_plain(pieces, inner).copy(), inner, budget)
    if reports.roots:
        return _of_reports(held, reports, origin, place[0])
    root, chosen = _chosen(held, origin)
    if root is None:
        # Without the layout, folders that all members have in common say nothing.
        root = _common([_pod_of(parts)[1][:-1] for parts in chosen])
    return _snapshot(
        [(parts[len(root) :], "/".join(parts[len(root) :]), held[parts]) for parts in chosen], origin, place
    )


def _common(folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if not folders:
        return ()
    low, high = min(folders), max(folders)
    same = 0
    while same < min(len(low), len(high)) and low[same] == high[same]:
        same += 1
    return low[:same]


# ---------------------------------------------------------------- the layout of a folder


def _wanted(parts: tuple[str, ...]) -> bool:
    """Whether a file is read at all: neither hidden nor outside, and nothing that only the corpus has."""
    if any(part.startswith(".") for part in parts):
        return False
    name = parts[-1].lower()
    return parts[-1] not in _NEVER and "kernel-trace" not in parts[:-1] and not name.startswith("readme")


def _chosen(names: Iterable[tuple[str, ...]], origin: str) -> tuple[tuple[str, ...] | None, list[tuple[str, ...]]]:
    """(where ``cluster/`` and ``nodes/<node>/`` begin, the files to read in order); None: there is no such layout."""
    found = sorted(parts for parts in names if _wanted(parts))
    nodes = [parts for _, parts in map(_pod_of, found)]
    roots = {parts[:-3] for parts in nodes if len(parts) >= 3 and parts[-3] == "nodes"}
    roots |= {parts[:-2] for parts in nodes if len(parts) >= 2 and parts[-2] == "cluster" and "nodes" not in parts}
    if len(roots) > 1:
        some = ", ".join(sorted("/".join(root) or "." for root in roots)[:5])
        raise DecodeError(origin, 0, f"holds {len(roots)} snapshots ({some}, …); give one of them")
    root = roots.pop() if roots else None
    if root is not None:
        found = [parts for parts in found if parts[: len(root)] == root and _placed(parts[len(root) :])]
    bare = {(*parts[:-1], _bare(parts[-1])) for parts in found}
    return root, [
        parts
        for parts in found
        # The rules as they are, without counters, are the same rules.
        if _bare(parts[-1]) != "iptables-save-counters.txt" or (*parts[:-1], "iptables-save.txt") not in bare
    ]


def _placed(path: tuple[str, ...]) -> bool:
    _, parts = _pod_of(path)
    return len(parts) == 1 or parts[:-1] == ("cluster",) or (len(parts) == 3 and parts[0] == "nodes")


def _place_of(path: tuple[str, ...], own: _Place) -> _Place:
    """The place of a file: nodes/<node>/file, or <node>/file where there is no such layout. ``own``: of the folder."""
    pod, parts = _pod_of(path)
    if len(parts) == 1:
        return own[0], pod or own[1]
    return None if parts[-2] == "cluster" else parts[-2], pod


def _bare(name: str) -> str:
    """A name without the suffix of its compression."""
    for suffix in _COMPRESSED:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _snapshot(files: Iterable[tuple[tuple[str, ...], str, bytes]], origin: str, own: _Place) -> Snapshot:
    """Of (place within the snapshot, origin, bytes) of each file."""
    missing: list[Missing] = []
    dumps: list[Dump] = []
    places: dict[str, int] = {}
    sources: dict[str, tuple[str, str]] = {}
    partial: set[str] = set()
    for parts, inner, data in files:
        if _bare(parts[-1]) == _INDEX:
            index = _index(data, inner)
            missing += _missing(index)
            sources.update(_sources(index))
            partial.update(str(item.get("path")) for item in _items(index, "texts") if item.get("partial") is True)
        elif _is_tar(data[:_HEADER]):
            missing.append(Missing(f"the archive {inner}", "the dumps in it; give it by itself, with --dump"))
        else:
            places["/".join(parts)] = len(dumps)
            dumps.append(Dump(inner, data, *_place_of(parts, own)))
    for place, (source, taken) in sources.items():
        if place in places:
            dumps[places[place]] = replace(dumps[places[place]], source=source, taken=taken)
    for place in partial & places.keys():
        dumps[places[place]] = replace(dumps[places[place]], partial=True)
    if not dumps:
        why = "holds no dumps; expected cluster/*.json and nodes/<node>/*, or the dumps of one node"
        raise DecodeError(origin, 0, why)
    return Snapshot(tuple(dumps), tuple(missing))


def _index(data: bytes, origin: str) -> dict[str, object]:
    """``snapshot.json``: where and when the texts were taken, and what could not be."""
    try:
        index = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise DecodeError(origin, 0, "is not JSON; delete it, the dumps can be read without it") from None
    return index if isinstance(index, dict) else {}


def _items(index: dict[str, object], key: str) -> Iterator[dict[str, object]]:
    found = index.get(key)
    yield from (item for item in (found if isinstance(found, list) else ()) if isinstance(item, dict))


def _missing(index: dict[str, object]) -> Iterator[Missing]:
    for item in _items(index, "missing"):
        what, needed = item.get("what"), item.get("needed_for")
        if isinstance(what, str):
            yield Missing(what, needed if isinstance(needed, str) else "", item.get("absent") is True)


def _sources(index: dict[str, object]) -> Iterator[tuple[str, tuple[str, str]]]:
    """(place, (source, time)) of each text."""
    for item in _items(index, "texts"):
        place, source, taken = item.get("path"), item.get("from"), item.get("taken")
        if isinstance(place, str) and isinstance(source, str) and isinstance(taken, str):
            yield place, (source, taken)


def _of_reports(texts: Mapping[tuple[str, ...], bytes], reports: Reports, origin: str, node: str | None) -> Snapshot:
    """Of other tools' reports in a folder or archive; what lies beside them is not read."""
    found, missing = reports.sorted_out(texts, origin, node)
    dumps = [
        Dump("/".join(map(printable, one.parts)), texts[one.parts], one.node, partial=one.partial) for one in found
    ]
    return Snapshot(tuple(dumps), tuple(missing))


def _of_folder(path: str, shown: str, node: str | None, budget: _Budget) -> Snapshot:
    reports = Reports()
    names = list(_walk(path, shown, reports))
    if reports.roots:
        texts = {
            parts: _file(os.path.join(path, *parts), "/".join(map(printable, parts)), budget)
            for parts in names
            if _wanted(parts) and reports.around(parts) and reports.wants(parts)
        }
        return _of_reports(texts, reports, shown, node)
    root, chosen = _chosen(names, shown)
    own = _place_of_path(os.path.join(path, "dump"), node)
    files = []
    for parts in chosen:
        inner = "/".join(map(printable, parts))
        data = _file(os.path.join(path, *parts), inner, budget)
        files.append((tuple(map(printable, parts[len(root or ()) :])), inner, data))
    return _snapshot(files, shown, own)


def _walk(path: str, shown: str, reports: Reports) -> Iterator[tuple[str, ...]]:
    """The files of a folder, six folders deep: a snapshot in its own folder, with its pods' dumps, and no more.

    ``reports`` is told of each path, and says which folders of a report to leave out. A link to a file is followed if it
    stays in the folder, a link to a folder never.
    """
    top = os.path.realpath(path)
    waiting: list[tuple[str, ...]] = [()]
    count = 0
    while waiting:
        parts = waiting.pop()
        try:
            with os.scandir(os.path.join(path, *parts)) as scanned:
                entries = list(scanned)
                for entry in entries:
                    reports.seen((*parts, entry.name))
                for entry in entries:
                    count += 1
                    if count > MOST_DUMPS:
                        raise DecodeError(
                            shown, 0, f"holds more than {MOST_DUMPS} files; give the folder of one cluster"
                        )
                    if entry.is_dir(follow_symlinks=False):
                        inner = (*parts, entry.name)
                        hidden = entry.name.startswith(".") or entry.name == "kernel-trace"
                        if len(parts) < 6 and not hidden and reports.enters(inner):
                            waiting.append(inner)
                    elif entry.is_file() and (
                        not entry.is_symlink() or os.path.realpath(entry.path).startswith(os.path.join(top, ""))
                    ):
                        yield (*parts, entry.name)
        except OSError as error:
            raise _unreadable(printable(os.path.join(path, *parts)), error) from None


def _file(path: str, origin: str, budget: _Budget) -> bytes:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > MAP_FROM:
                start = file.read(_HEADER)
                if _compression(start) is None and not start.startswith(_WIDE):
                    return _map(file, start)
                file.seek(0)
            return _collect(_plain(_chunks(file, origin), origin).copy(), origin, budget)
    except (OSError, ValueError) as error:
        raise _unreadable(origin, error) from None


# ---------------------------------------------------------------- writing


def save(snapshot: Snapshot, path: str) -> None:
    """Writes a snapshot in the layout that :func:`read` knows.

    It becomes a bundle if ``path`` ends in .tgz or .tar.gz, else a folder.
    What is at ``path`` is complete or not there at all: the bytes go to a temporary name beside it, which is
    renamed at the end. An existing bundle is replaced, an existing folder is not. Raises UsageError when it
    cannot be written. The same snapshot gives the same bytes.
    """
    place = os.path.abspath(path)
    beside = os.path.join(os.path.dirname(place), f".{os.path.basename(place)}.{os.getpid()}.part")
    try:
        if path.endswith((".tgz", ".tar.gz")):
            try:
                with open(beside, "wb") as file:
                    _pack(_laid_out(snapshot), file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(beside, place)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(beside)
            return
        if os.path.lexists(place):
            raise UsageError(f"{printable(path)} is there already; name a folder that is not, or a .tgz file")
        try:
            for parts, data in _laid_out(snapshot):
                target = os.path.join(beside, *parts)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as file:
                    file.write(data)
            os.rename(beside, place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {printable(path)}: {why}") from None


def packed(snapshot: Snapshot) -> bytes:
    """A snapshot as the bytes of a bundle, which :func:`read` knows.

    Packed quickly rather than tightly: rules shrink to a tenth in a seventh of the time that the last hundredth takes.
    """
    file = io.BytesIO()
    _pack(_laid_out(snapshot), file, level=1)
    return file.getvalue()


def beginning(dumps: Iterable[Dump]) -> bytes:
    """The first part of a bundle: what is :func:`packed` after it is in it too. So what many share is packed once.

    The cluster's objects only: a bundle has each of them at one place.
    """
    import gzip
    from tarfile import PAX_FORMAT, TarFile

    file = io.BytesIO()
    # The two empty blocks that end an archive are left to what comes after.
    archive = TarFile(fileobj=file, mode="w", format=PAX_FORMAT)
    for dump in dumps:
        _put(archive, ("cluster", _file_name(dump.origin)), dump.data)
    return gzip.compress(file.getvalue()[: archive.offset], compresslevel=6, mtime=0)


def _laid_out(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], bytes]]:
    taken: set[tuple[str, ...]] = set()
    texts: list[dict[str, object]] = []
    for dump in snapshot.dumps:
        name = _file_name(dump.origin)
        folder = ("cluster",) if dump.node is None else ("nodes", _file_name(dump.node))
        if dump.node is not None and dump.pod is not None:
            folder = (*folder, "pods", "_".join(map(_file_name, dump.pod.split("/", 1))))
        parts, number = (*folder, name), 1
        while parts in taken:
            number += 1
            parts = (*folder, f"{number}-{name}")
        taken.add(parts)
        source = {"from": dump.source or dump.origin, "taken": dump.taken}
        known = {key: value for key, value in source.items() if value}
        texts.append({"path": "/".join(parts), **known, **({"partial": True} if dump.partial else {})})
        yield parts, dump.data
    missing = [
        {"what": gap.what, "needed_for": gap.needed_for, **({"absent": True} if gap.absent else {})}
        for gap in snapshot.missing
    ]
    index = {"schema": _INDEX_SCHEMA, "written_by": f"netk8s {__version__}", "texts": texts, "missing": missing}
    yield (_INDEX,), (json.dumps(index, indent=1) + "\n").encode()


def _file_name(text: str) -> str:
    """The last part of an origin, or a node's name, as the name of a file that is neither hidden nor special."""
    name = text.rstrip("/").rpartition("/")[2].lstrip(".").strip("<>")
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:200] or "dump"


def _pack(files: Iterable[tuple[tuple[str, ...], bytes]], file: BinaryIO, level: int = 9) -> None:
    import gzip  # these two only when something is written: reading does without them
    from tarfile import PAX_FORMAT, TarFile

    # No times, owners or file name: the same snapshot gives the same bundle.
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=file, mtime=0) as packed,
        TarFile(fileobj=packed, mode="w", format=PAX_FORMAT) as archive,
    ):
        for parts, data in files:
            _put(archive, parts, data)


def _put(archive: tarfile.TarFile, parts: tuple[str, ...], data: bytes) -> None:
    from tarfile import TarInfo

    member = TarInfo("/".join(parts))
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))
