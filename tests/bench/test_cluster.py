"""The simulated cluster: what its agents find, folded, is what a check of all its nodes together finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("kubernetes")

SIZE = (6, 3, 4)
"""Nodes, Services, endpoints of each."""


@pytest.fixture(scope="module")
def cluster(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A kubeconfig that leads to the edge of a simulated cluster, all of whose agents are real ones."""
    words = [sys.executable, str(root / "bench/edge.py"), *map(str, SIZE), "--real", str(SIZE[0])]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the simulated cluster did not start"
        path = tmp_path_factory.mktemp("cluster") / "kubeconfig"
        path.write_text(
            json.dumps({
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            })
        )  # fmt: skip
        yield str(path)
        process.stdin.close()


def netk8s(cluster: str, *words: str) -> dict[str, Any]:
    argv = [sys.executable, "-c", "from netk8s.cli import main; main()", *words, "-o", "json", "--kubeconfig", cluster]
    run = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "NO_PROXY": "*"})
    assert run.returncode in (0, 1), run.stderr
    assert run.stderr == ""
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def errors(found: dict[str, Any], *codes: str) -> set[tuple[str, str]]:
    wrong = [f for f in found["findings"] if f["severity"] == "error" and (not codes or f["code"] in codes)]
    return {(f["code"], node) for f in wrong for node in f["nodes"]}


def test_agents_find_what_a_check_of_all_nodes_together_finds(cluster: str) -> None:
    beside, here = (netk8s(cluster, "check", where) for where in ("--beside", "--here"))
    causes = ("NK404", "NK605", "NK601")
    assert errors(beside, *causes) == errors(here, *causes)
    assert errors(beside, "NK404", "NK605") == {
        ("NK404", "node-00001"), ("NK404", "node-00002"), ("NK605", "node-00003"),
    }  # fmt: skip
    assert {code for code, _ in errors(beside)} <= {code for code, _ in errors(here)}
    failing = [{s["service"] for s in each["services"] if s["arrive"] < s["flows"]} for each in (beside, here)]
    assert failing[0] == failing[1]
    assert beside["summary"]["nodes"] == here["summary"]["nodes"]
    assert beside["flows"] == [], "flows do not travel"


def test_one_service_and_one_node(cluster: str) -> None:
    found = netk8s(cluster, "check", "--beside", "--service", "team-01/app-00001", "--node", "node-00002")
    assert found["summary"]["nodes"] == ["node-00002"]
    assert [service["service"] for service in found["services"]] == ["team-01/app-00001"]
    assert {node for _, node in errors(found)} <= {"node-00002"}
