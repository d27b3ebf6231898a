"""``netk8s collect``."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from netk8s import snapshot
from netk8s.cli import run
from netk8s.collect import node
from netk8s.model import Dump, Missing, Snapshot

TAKEN = Snapshot(
    (Dump("nodes/n1/ip-addr.json", b"[]\n", "n1", source="ip -j addr", taken="2026-01-01T00:00:00+00:00"),),
    (
        Missing("nodes/n1/listening.txt (ss: not installed)", "whether a process answers"),
        Missing("x", "y", absent=True),
    ),
)


def ran(*argv: str) -> tuple[int, str]:
    err = io.StringIO()
    return run(["collect", *argv], stdout=io.StringIO(), stderr=err), err.getvalue()


@pytest.fixture
def taking(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    asked: list[object] = []

    def take(name: str, path: str | None = None) -> Snapshot:
        asked.append((name, path))
        return TAKEN

    monkeypatch.setattr(node, "take", take)
    return asked


def test_a_node_becomes_a_bundle(tmp_path: Path, taking: list[object]) -> None:
    path = tmp_path / "n1.tgz"
    status, said = ran("--node-only", "--node", "n1", "-o", str(path))
    assert (status, taking) == (0, [("n1", None)])
    assert "1 texts" in said
    assert "missing: nodes/n1/listening.txt (ss: not installed): needed for whether a process answers" in said
    assert "needed for y" not in said
    again = snapshot.read([str(path)])
    assert again.missing == TAKEN.missing
    assert [(d.origin, d.node, d.source, d.taken) for d in again.dumps] == [
        ("nodes/n1/ip-addr.json", "n1", "ip -j addr", "2026-01-01T00:00:00+00:00")
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["n1.tgz"]


def test_a_node_becomes_a_folder(tmp_path: Path, taking: list[object]) -> None:
    assert ran("--node-only", "--node", "n1", "-o", str(tmp_path / "out"))[0] == 0
    index = json.loads((tmp_path / "out/snapshot.json").read_text())
    assert index["written_by"].startswith("netk8s ")
    assert index["texts"] == [
        {"path": "nodes/n1/ip-addr.json", "from": "ip -j addr", "taken": "2026-01-01T00:00:00+00:00"}
    ]
    status, said = ran("--node-only", "-o", str(tmp_path / "out"))
    assert status == 2
    assert "is there already" in said
    assert len(taking) == 1


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    assert ran("-o", str(tmp_path / "x"), "--node", "n1")[0] == 2
    assert ran("-o", str(tmp_path / "x.tgz"), "--resume")[0] == 2
    assert ran("-o", str(tmp_path / "x"), "--node-only", "--resume")[0] == 2
    assert ran("-o", str(tmp_path / "x"), "--kubeconfig", str(tmp_path / "none"))[0] == 5
    status, said = ran("--node-only", "-o", str(tmp_path / "x"), "--namespace-path", str(tmp_path / "none"))
    assert status == 2
    assert "there is no network namespace" in said


def test_nothing_could_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "take", lambda name, path=None: Snapshot((), (Missing("nodes/n1 (gone)", "all"),)))
    status, said = ran("--node-only", "-o", str(tmp_path / "x"))
    assert (status, said) == (5, "netk8s: nodes/n1 (gone)\n")
    assert list(tmp_path.iterdir()) == []
