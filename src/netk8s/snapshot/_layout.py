"""The layout of a snapshot's folder: which files belong to it, whose they are, what its index tells of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from msgspec.structs import replace

from netk8s.errors import DecodeError
from netk8s.model import Dump, Missing, Snapshot
from netk8s.snapshot._bytes import printable
from netk8s.snapshot._tar import HEADER, is_tar

_NEVER = frozenset({"case.json", "observed.jsonl"})
INDEX = "snapshot.json"
_COMPRESSED = (".gz", ".zst", ".xz", ".bz2")


Place = tuple[str | None, str | None]
"""The node of a dump, and the pod (namespace/name) in whose network namespace it was taken."""


def place_of_path(path: str, node: str | None) -> Place:
    """The place of a file given by itself out of a folder in the layout: …/nodes/<node>/file."""
    pod, parts = pod_of(PurePosixPath(os.path.abspath(path)).parts)
    found = printable(parts[-2]) if len(parts) >= 3 and parts[-3] == "nodes" else None
    return node or found, pod


def pod_of(parts: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """(namespace/name, the path without it) of a file in ``pods/<namespace>_<name>/``; (None, the path) of any other.

    No name of Kubernetes has an underscore. kubelet's folders have the pod's uid behind another one.
    """
    if len(parts) < 3 or parts[-3] != "pods":
        return None, parts
    namespace, _, rest = printable(parts[-2]).partition("_")
    name = rest.partition("_")[0]
    return (f"{namespace}/{name}", (*parts[:-3], parts[-1])) if namespace and name else (None, parts)


def in_common(folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if not folders:
        return ()
    low, high = min(folders), max(folders)
    same = 0
    while same < min(len(low), len(high)) and low[same] == high[same]:
        same += 1
    return low[:same]


def is_wanted(parts: tuple[str, ...]) -> bool:
    """Whether a file is read at all: neither hidden nor outside, and nothing that only the corpus has."""
    if any(part.startswith(".") for part in parts):
        return False
    name = parts[-1].lower()
    return parts[-1] not in _NEVER and "kernel-trace" not in parts[:-1] and not name.startswith("readme")


def belonging(names: Iterable[tuple[str, ...]], origin: str) -> tuple[tuple[str, ...] | None, list[tuple[str, ...]]]:
    """(where ``cluster/`` and ``nodes/<node>/`` begin, the files to read in order); None: there is no such layout."""
    found = sorted(parts for parts in names if is_wanted(parts))
    nodes = [parts for _, parts in map(pod_of, found)]
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
    _, parts = pod_of(path)
    return len(parts) == 1 or parts[:-1] == ("cluster",) or (len(parts) == 3 and parts[0] == "nodes")


def _place_of(path: tuple[str, ...], own: Place) -> Place:
    """The place of a file: nodes/<node>/file, or <node>/file where there is no such layout. ``own``: of the folder."""
    pod, parts = pod_of(path)
    if len(parts) == 1:
        return own[0], pod or own[1]
    return None if parts[-2] == "cluster" else parts[-2], pod


def _bare(name: str) -> str:
    """A name without the suffix of its compression."""
    for suffix in _COMPRESSED:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def snapshot_of(files: Iterable[tuple[tuple[str, ...], str, bytes]], origin: str, own: Place) -> Snapshot:
    """Of (place within the snapshot, origin, bytes) of each file."""
    missing: list[Missing] = []
    dumps: list[Dump] = []
    places: dict[str, int] = {}
    sources: dict[str, tuple[str, str]] = {}
    partial: set[str] = set()
    for parts, inner, data in files:
        if _bare(parts[-1]) == INDEX:
            index = _index(data, inner)
            missing += _missing(index)
            sources.update(_sources(index))
            partial.update(str(item.get("path")) for item in _items(index, "texts") if item.get("partial") is True)
        elif is_tar(data[:HEADER]):
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
