"""A folder is a behaviour, its being there is the test: fixtures/<code>/fires-… and quiet-….

A folder has dumps in the layout of the recordings, cut down from real nodes, and a ``question.json``: ``target``,
``from``, ``via``, ``protocol`` as on the command line, ``expect`` (the codes of all findings), ``says`` (what a summary
of the folder's own code contains), and ``dumps`` where the dumps are another folder's. ``drift``: no packet is asked about. ``change`` is
what is done to those dumps: [file, what (a regular expression), by what], or [new file, file it is a copy of, what, by
what]; a file is left out where nothing is said but its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, findings, snapshot
from netk8s.drift import drift
from netk8s.model import Ask, Dump, Finding, Trace, World
from netk8s.trace import trace

FIXTURES = Path(__file__).with_name("fixtures")
QUESTION = "question.json"


@dataclass(frozen=True)
class Asked:
    """A fixture's question with its answer."""

    world: World
    trace: Trace | None
    findings: tuple[Finding, ...]
    question: dict[str, Any]

    name: str

    def of(self, code: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.code == code]

    def cited(self, finding: Finding) -> list[str]:
        """The lines of dumps that are the finding's evidence; evidence without a line is left out."""
        folder = FIXTURES / self.question.get("dumps", self.name)
        out = []
        for place in finding.evidence:
            origin, _, line = place.rpartition(":")
            if line.isdecimal() and (folder / origin).is_file():
                out.append((folder / origin).read_text(encoding="utf-8").splitlines()[int(line) - 1])
        return out


def behaviours(code: str = "") -> list[str]:
    """The folders of a code, or of all, as "NK101/fires-…"."""
    folders = (path for path in FIXTURES.glob("NK*/*") if path.is_dir())
    return sorted(str(f.relative_to(FIXTURES)) for f in folders if code in ("", f.parent.name))


def changed(dumps: tuple[Dump, ...], file: str, *how: Any) -> tuple[Dump, ...]:
    """The dumps with one of them changed, copied or left out; a change that changes nothing is a mistake of the fixture."""
    (old,) = [dump for dump in dumps if dump.origin == (how[0] if len(how) == 3 else file)]
    if how[0] is None:
        return tuple(dump for dump in dumps if dump is not old)
    text = bytes(old.data).decode()
    what, by = how[-2:]
    new = re.sub(what, by, text) if what else text
    assert new != text or not what, f"{file}: {what} is nowhere"
    if len(how) == 3:
        return (*dumps, replace(old, origin=file, data=new.encode()))
    return tuple(replace(old, data=new.encode()) if dump is old else dump for dump in dumps)


def ask(name: str) -> Asked:
    """The answer to a fixture's question."""
    question = json.loads((FIXTURES / name / QUESTION).read_text(encoding="utf-8"))
    taken = snapshot.read([str(FIXTURES / question.get("dumps", name))])
    # The question lies beside the dumps and is none.
    dumps = tuple(dump for dump in taken.dumps if dump.origin != QUESTION)
    for change in question.get("change", ()):
        dumps = changed(dumps, *change)
    world = dialects.complete(decode.decode(replace(taken, dumps=dumps)))
    if question.get("drift"):
        found = findings.drifted(drift(world, dialects.programmed(world)))
        return Asked(world, None, found, question, name)
    words = Ask(
        question["target"],
        port=question.get("port"),
        protocol=question.get("protocol"),
        source=question.get("from"),
        via=question.get("via"),
    )
    walked = dialects.label(world, trace(world, dialects.resolve(world, words)))
    return Asked(world, walked, findings.check(world, walked), question, name)


@pytest.fixture(scope="session")
def asked() -> Callable[[str], Asked]:
    """The answer to a fixture's question, by the folder's name; each is asked once."""
    known: dict[str, Asked] = {}

    def answer(name: str) -> Asked:
        if name not in known:
            known[name] = ask(name)
        return known[name]

    return answer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``behaviour``: every folder; in a finding's own test file those of its code."""
    if "behaviour" in metafunc.fixturenames:
        code = metafunc.module.__name__.rpartition(".")[2].removeprefix("test_")[:5].upper()
        metafunc.parametrize("behaviour", behaviours(code if code.startswith("NK") else ""))
