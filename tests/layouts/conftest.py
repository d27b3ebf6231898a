"""Reports of other tools, built to their documented layouts out of the example's real texts."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from netk8s import decode, dialects, journey, snapshot
from netk8s.model import Ask, Snapshot, World

Files = Mapping[str, bytes]
NODE = "k8s-node1"


@pytest.fixture(scope="session")
def example(root: Path) -> Path:
    return root / "examples/nginx-nodeport"


@pytest.fixture(scope="session")
def objects(example: Path) -> dict[str, list[dict[str, Any]]]:
    """The example's objects by kind."""
    return {path.stem: json.loads(path.read_text())["items"] for path in sorted((example / "cluster").glob("*.json"))}


@pytest.fixture
def lay(tmp_path: Path) -> Callable[[Files], Path]:
    """Writes a folder."""

    def written(files: Files) -> Path:
        for name, data in files.items():
            (tmp_path / "laid" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "laid" / name).write_bytes(data)
        return tmp_path / "laid"

    return written


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Writes an archive, with a link and a device in it as real and hostile ones have."""

    def written(files: Files, name: str = "report.tar.xz") -> Path:
        with tarfile.open(tmp_path / name, f"w:{name.rpartition('.')[2]}") as archive:
            for kind, at in ((tarfile.SYMTYPE, "link"), (tarfile.CHRTYPE, "device"), (tarfile.LNKTYPE, "hard")):
                first = next(iter(files)).partition("/")[0]
                member = tarfile.TarInfo(f"{first}/{at}")
                member.type, member.linkname = kind, "/etc/passwd"
                archive.addfile(member)
            for path, data in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return tmp_path / name

    return written


def as_yaml(value: object) -> bytes:
    return b"---\n" + yaml.safe_dump(value).encode()


def listed(kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "items": items, "kind": kind}


def of_namespace(items: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    spaces: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        spaces.setdefault(item["metadata"]["namespace"], []).append(item)
    return spaces


def told(found: Snapshot) -> list[tuple[str, str | None, bool]]:
    return [(dump.origin, dump.node, dump.partial) for dump in found.dumps]


def world(*paths: Path) -> World:
    return dialects.complete(decode.decode(snapshot.read([str(path) for path in paths])))


def seen(of: World) -> set[tuple[str, str, str]]:
    """(verdict, pod, source that it sees) of each end of the example's NodePort, dialled at NODE."""
    report = journey.answer(of, Ask("svc/nginx", "30000", via=NODE))
    return {(o.verdict, (o.reached.pod if o.reached else None) or "", str(o.source)) for o in report.trace.outcomes}


def ends(of: World) -> set[tuple[str, str]]:
    """The same without the source."""
    return {(verdict, pod) for verdict, pod, _ in seen(of)}
