"""A question answered in a process of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from netk8s import snapshot
from netk8s.agent import beside
from netk8s.model import Snapshot

QUESTION = {"target": "svc/default/nginx", "port": 30000}


@pytest.fixture(scope="module")
def node(root: Path) -> tuple[bytes, bytes]:
    """(a node's packed snapshot, the cluster's objects)"""
    whole = snapshot.read([str(root / "examples/nginx-nodeport")])
    packed = snapshot.packed(Snapshot(tuple(d for d in whole.dumps if d.node == "k8s-node1")))
    return packed, beside.objects_packed(b"\n".join(bytes(d.data) for d in whole.dumps if d.node is None))


def ask(question: dict[str, object], node: tuple[bytes, bytes], seconds: float = 30.0) -> beside.Answered:
    return asyncio.run(beside.answer(beside.command("trace", "k8s-node1", question), *node, seconds))


def test_a_trace_beside_the_data(node: tuple[bytes, bytes]) -> None:
    found = ask(QUESTION, node)
    assert found.status == 200, found.why
    document = json.loads(found.document)
    assert document["question"]["entry_node"] == "k8s-node1"
    assert document["outcomes"][0]["endpoint"]["node"] == "k8s-node1"
    assert document["outcomes"][0]["endpoint"]["pod"].startswith("default/nginx-"), "the objects are known too"


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ({"target": "svc/default/ngnix", "port": 30000}, 404),
        ({"target": "what", "port": 80}, 400),
        ({"target": "--help"}, 400),
        ({"target": "svc/default/nginx", "protocol": "--help"}, 400),
    ],
)
def test_a_question_without_an_answer(question: dict[str, object], status: int, node: tuple[bytes, bytes]) -> None:
    found = ask(question, node)
    assert (found.status, found.document) == (status, b"")
    assert found.why.startswith("netk8s: ")


def test_damaged_objects(node: tuple[bytes, bytes]) -> None:
    damaged = beside.objects_packed(b'{"kind": "List", "apiVersion": "v1", "items": [{"kind": "Pod"}]}')
    assert ask(QUESTION, (node[0], damaged)).status == 422
    assert beside.objects_packed(b" \n") == b""


def test_what_takes_too_long_is_ended(node: tuple[bytes, bytes]) -> None:
    found = ask(QUESTION, node, seconds=0.01)
    assert found.status == 504


def test_a_check_beside_the_data(node: tuple[bytes, bytes]) -> None:
    words = beside.command("check", "k8s-node1", {"service": "default/nginx", "severity": "warning"})
    found = asyncio.run(beside.answer(words, *node))
    assert found.status == 200, found.why
    assert {finding["code"] for finding in json.loads(found.document)["findings"]} >= {"NK101"}
    with pytest.raises(ValueError, match="unknown in a question: target"):
        beside.command("check", "k8s-node1", {"target": "a"})


@pytest.mark.parametrize(
    "question",
    [
        {"target": "a", "dump": "/etc/passwd"},
        {"target": ["a"]},
        {"target": "a", "port": [1]},
        {"target": "a", "via": True},
        {},
    ],
)
def test_only_the_words_of_a_question_become_a_command(question: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown|expected"):
        beside.command("trace", "n1", question)


def test_the_words() -> None:
    words = beside.command("trace", "n1", {"target": "svc/a/b", "port": "http", "from": "pod/a/c"})
    assert words == ["trace", "-o", "json", "--port=http", "--from=pod/a/c", "--", "svc/a/b"]
    assert "--via=n1" in beside.command("trace", "n1", {"target": "svc/a/b"})


def test_a_part_of_a_check() -> None:
    words = beside.command("check", "n1", {"service": ["a/b", "c"], "severity": "error"}, "part")
    assert words == ["check", "-o", "part", "--service=a/b", "--service=c", "--severity=error"]
    with pytest.raises(ValueError, match="expected a word"):
        beside.command("check", "n1", {"severity": ["error", "info"]})
