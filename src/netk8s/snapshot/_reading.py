"""Files, folders, archives and standard input as the dumps of a Snapshot."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from msgspec.structs import replace

from netk8s.errors import DecodeError
from netk8s.layouts import Reports, cluster_info
from netk8s.model import Dump, Snapshot
from netk8s.snapshot._bytes import (
    MAP_FROM,
    MOST_BYTES,
    WIDE,
    Budget,
    Stream,
    chunks_of,
    collect,
    mapped_bytes,
    printable,
    unreadable,
)
from netk8s.snapshot._compression import format_of, plain
from netk8s.snapshot._layout import Place, belonging, in_common, is_wanted, place_of_path, pod_of, snapshot_of
from netk8s.snapshot._tar import HEADER, is_tar, members

MOST_DUMPS = 100_000
"""How many files a folder or an archive may hold."""


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
    budget = Budget(MOST_BYTES)
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


def _read_one(path: str, node: str | None, stdin: BinaryIO | None, budget: Budget) -> Snapshot:
    if path == "-":
        stream = stdin if stdin is not None else sys.stdin.buffer
        return _of_stream(chunks_of(stream, "<stdin>"), "<stdin>", (node, None), budget)
    shown = printable(path)
    try:
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            return _of_folder(path, shown, node, budget)
        if stat.S_ISBLK(info.st_mode) or stat.S_ISSOCK(info.st_mode):
            raise DecodeError(shown, 0, "is a device or socket; give a file, a folder, or - for standard input")
        with open(path, "rb") as file:
            place = place_of_path(path, node)
            if stat.S_ISREG(info.st_mode) and info.st_size > MAP_FROM:
                start = file.read(HEADER)
                if format_of(start) is None and not is_tar(start) and not start.startswith(WIDE):
                    return Snapshot((Dump(shown, mapped_bytes(file, start), *place),))
                file.seek(0)
            return _of_stream(chunks_of(file, shown), shown, place, budget)
    except (OSError, ValueError) as error:
        raise unreadable(shown, error) from None


def _of_stream(chunks: Iterator[bytes], origin: str, place: Place, budget: Budget) -> Snapshot:
    stream = plain(chunks, origin)
    if is_tar(stream.peek(HEADER)):
        return _of_archive(stream, origin, place, budget)
    data = collect(stream.copy(), origin, budget)
    if not data:
        why = "is empty; take the dump again" if origin != "<stdin>" else "is empty; pipe a dump in, or name a file"
        raise DecodeError(origin, 0, why)
    return Snapshot((Dump(origin, data, *place),))


def _of_archive(stream: Stream, origin: str, place: Place, budget: Budget) -> Snapshot:
    held: dict[tuple[str, ...], bytes] = {}
    reports = Reports()
    for name, size, pieces in members(stream, origin):
        parts = tuple(printable(part) for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        reports.seen(parts)
        if not parts or not is_wanted(parts) or not reports.wants(parts):
            continue
        if size > budget.left:
            budget.spend(size, origin)
        if len(held) >= MOST_DUMPS:
            raise DecodeError(origin, 0, f"holds more than {MOST_DUMPS} files; give the folder of one cluster")
        inner = f"{origin}:{'/'.join(parts)}"
        # A later member of the same name replaces the earlier one, as tar itself has it.
        held[parts] = collect(plain(pieces, inner).copy(), inner, budget)
    if reports.roots:
        return _of_reports(held, reports, origin, place[0])
    root, chosen = belonging(held, origin)
    if root is None:
        # Without the layout, folders that all members have in common say nothing.
        root = in_common([pod_of(parts)[1][:-1] for parts in chosen])
    return snapshot_of(
        [(parts[len(root) :], "/".join(parts[len(root) :]), held[parts]) for parts in chosen], origin, place
    )


def _of_reports(texts: Mapping[tuple[str, ...], bytes], reports: Reports, origin: str, node: str | None) -> Snapshot:
    """Of other tools' reports in a folder or archive; what lies beside them is not read."""
    found, missing = reports.sorted_out(texts, origin, node)
    dumps = [
        Dump("/".join(map(printable, one.parts)), texts[one.parts], one.node, partial=one.partial) for one in found
    ]
    return Snapshot(tuple(dumps), tuple(missing))


def _of_folder(path: str, shown: str, node: str | None, budget: Budget) -> Snapshot:
    reports = Reports()
    names = list(_walk(path, shown, reports))
    if reports.roots:
        texts = {
            parts: _file(os.path.join(path, *parts), "/".join(map(printable, parts)), budget)
            for parts in names
            if is_wanted(parts) and reports.around(parts) and reports.wants(parts)
        }
        return _of_reports(texts, reports, shown, node)
    root, chosen = belonging(names, shown)
    own = place_of_path(os.path.join(path, "dump"), node)
    files = []
    for parts in chosen:
        inner = "/".join(map(printable, parts))
        data = _file(os.path.join(path, *parts), inner, budget)
        files.append((tuple(map(printable, parts[len(root or ()) :])), inner, data))
    return snapshot_of(files, shown, own)


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
            raise unreadable(printable(os.path.join(path, *parts)), error) from None


def _file(path: str, origin: str, budget: Budget) -> bytes:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > MAP_FROM:
                start = file.read(HEADER)
                if format_of(start) is None and not start.startswith(WIDE):
                    return mapped_bytes(file, start)
                file.seek(0)
            return collect(plain(chunks_of(file, origin), origin).copy(), origin, budget)
    except (OSError, ValueError) as error:
        raise unreadable(origin, error) from None
