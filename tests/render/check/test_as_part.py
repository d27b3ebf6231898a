"""A part travels as JSON and is the same afterwards; nothing of what arrives is spelled out in it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from netk8s import checkup, decode, dialects, parts, snapshot
from netk8s.checkup import Checkup
from netk8s.model import Snapshot
from netk8s.render import check as outputs


@pytest.fixture(scope="module")
def found(root: Path) -> Checkup:
    whole = snapshot.read([str(root / "examples/nginx-nodeport")])
    own = Snapshot(tuple(dump for dump in whole.dumps if dump.node in (None, "k8s-node1")))
    return checkup.check(dialects.complete(decode.decode(own)), alone=True)


def test_what_is_read_is_what_was_written(found: Checkup) -> None:
    text = outputs.render(found, "part")
    read = msgspec.json.decode(text, type=parts.Part)
    assert read == parts.part(found)
    assert text.count("\n") == 1
    assert read.node == "k8s-node1"
    assert sum(n.asked * (last - first + 1) for n in read.numbers for first, last in n.ports) == len(found.asked)


def test_findings_are_read_as_those_of_other_documents_are(found: Checkup) -> None:
    """The agent's metrics and Events take code, severity and summary from an answer, whatever it is."""
    told = msgspec.json.decode(outputs.render(found, "part"))["findings"]
    assert {each["code"] for each in told} == {problem.finding.code for problem in found.problems}
    assert all({"code", "severity", "summary"} <= set(each) for each in told)
