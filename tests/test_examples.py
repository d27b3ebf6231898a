"""What `make demo` shows, asked in the process."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import pytest

from netk8s.cli import run


@pytest.fixture
def words(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The demo's question as the Makefile has it, asked from the project's folder."""
    monkeypatch.chdir(root)
    found = re.search(r"^DEMO := (.*)$", (root / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    assert found
    return ["trace", *shlex.split(found[1])]


def ask(words: list[str]) -> str:
    """What is printed; the demo's cluster is healthy, so everything has to be delivered."""
    out, err = io.StringIO(), io.StringIO()
    status = run(words, out, err)
    assert (status, err.getvalue()) == (0, "")
    return out.getvalue()


def test_the_demo_answers(words: list[str]) -> None:
    text = ask(words)
    for seen in ("10.244.1.5", "10.244.1.6", "10.244.2.5", "10.244.1.1", "192.168.52.201", "33"):
        assert seen in text


def test_the_demo_tells_three_endpoints_and_the_source_each_of_them_sees(words: list[str]) -> None:
    answer = json.loads(ask([*words, "-o", "json"]))
    got = {
        (outcome["verdict"], outcome["odds_exact"], outcome["endpoint"]["ip"], outcome["source_seen"]["ip"])
        for outcome in answer["outcomes"]
    }
    assert got == {
        ("delivered", "1/3", "10.244.1.5", "10.244.1.1"),
        ("delivered", "1/3", "10.244.1.6", "10.244.1.1"),
        ("delivered", "1/3", "10.244.2.5", "192.168.52.201"),
    }
    assert {finding["code"] for finding in answer["findings"]} >= {"NK101"}


def test_the_readme_asks_the_same(root: Path, words: list[str]) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert readme.count("<!-- demo -->") == 2
    assert shlex.join(words).replace("examples/nginx-nodeport", "FOLDER").split(" --dump")[0] in readme
