"""Every finding has a manual, a code of its own and fixtures; findings are merged and sorted."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from netk8s import findings
from netk8s.model import Finding

HEADINGS = ["What it sees", "Why it matters", "Example", "What to do"]
MODULES = findings.modules()
FIXTURES = Path(__file__).with_name("fixtures")


def name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def test_codes_are_unique() -> None:
    codes = [module.CODE for module in MODULES]
    assert codes == sorted(set(codes))


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_finding_is_a_module_with_the_agreed_names(module: ModuleType) -> None:
    assert re.fullmatch(r"nk\d{3}(_[a-z]+)+", name(module))
    assert name(module)[:5].upper() == module.CODE
    assert module.SEVERITY in findings.SEVERITIES
    assert "\n" not in module.SUMMARY
    assert module.SUMMARY.endswith(".")
    # A packet's finding or one of whole nodes.
    assert callable(getattr(module, "check", None)) != callable(getattr(module, "drift", None))
    assert getattr(module, "WANTED", "info") in findings.SEVERITIES


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_the_docstring_is_a_manual_with_exactly_these_headings(module: ModuleType) -> None:
    manual = inspect.cleandoc(module.__doc__ or "")
    title, rest = manual.split("\n", 1)
    assert title.endswith(".")
    underlined = re.findall(r"^(\S.*)\n(-+)$", rest, flags=re.M)
    assert [heading for heading, _ in underlined] == HEADINGS
    assert all(len(heading) == len(line) for heading, line in underlined)
    sections = re.split(r"^\S.*\n-+$", rest, flags=re.M)
    assert all(section.strip() for section in sections[1:])
    assert max(len(line) for line in manual.split("\n")) <= 100
    assert module.CODE in sections[3]


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_finding_has_fixtures_that_fire_and_that_stay_quiet(module: ModuleType) -> None:
    kinds = {path.name.partition("-")[0] for path in (FIXTURES / module.CODE).iterdir()}
    assert kinds == {"fires", "quiet"}


def test_every_fixture_is_of_a_finding_that_exists() -> None:
    known = {module.CODE for module in MODULES}
    assert {path.name for path in FIXTURES.iterdir()} == known
    for question in FIXTURES.glob("*/*/question.json"):
        assert set(json.loads(question.read_text(encoding="utf-8"))["expect"]) <= known


def test_a_fixture_fires_what_it_says(behaviour: str, asked: Callable[[str], Any]) -> None:
    answer = asked(behaviour)
    code, _, kind = behaviour.partition("/")
    told = "\n".join(f"{f.code} {f.severity}: {f.summary}" for f in answer.findings)
    assert sorted({f.code for f in answer.findings}) == answer.question["expect"], told
    assert bool(answer.of(code)) == kind.startswith("fires-"), told
    says = answer.question.get("says", "")
    if says:
        assert any(says in finding.summary for finding in answer.of(code)), told


def test_a_finding_is_one_sentence_with_evidence_and_a_remedy(behaviour: str, asked: Callable[[str], Any]) -> None:
    for finding in asked(behaviour).findings:
        assert finding.severity in findings.SEVERITIES
        assert "\n" not in finding.summary
        assert not finding.summary.endswith(".")
        assert finding.remedy.endswith(".")
        assert len(finding.evidence) == len(set(finding.evidence)) <= findings.MOST_EVIDENCE


def test_an_error_means_that_some_packet_is_not_delivered(behaviour: str, asked: Callable[[str], Any]) -> None:
    answer = asked(behaviour)
    if answer.trace is None:
        return
    failed = any(outcome.verdict not in ("delivered", "unknown") for outcome in answer.trace.outcomes)
    seen_to_fail = any(seen.result != "connected" for seen in answer.world.observations)
    if any(finding.severity == "error" for finding in answer.findings):
        assert failed or seen_to_fail
    # and the other way round: what fails is explained by more than a lost source address
    if failed:
        assert any(f.severity != "info" and f.code not in ("NK101", "NK301", "NK504") for f in answer.findings)


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Findings made up for one test in place of the modules."""

    def become(*items: Finding) -> None:
        def check(world: object, trace: object) -> Iterator[Finding]:
            yield from items

        monkeypatch.setattr(findings, "modules", lambda: [SimpleNamespace(check=check)])

    return become


def test_the_worst_comes_first_then_the_lowest_code(invented: Callable[..., None], asked: Callable[[str], Any]) -> None:
    invented(
        Finding("NK902", "info", "a", (), ""),
        Finding("NK903", "error", "b", (), ""),
        Finding("NK901", "error", "d", (), ""),
        Finding("NK901", "warning", "c", (), ""),
    )
    answer = asked("NK101/fires-policy-cluster")
    found = findings.check(answer.world, answer.trace)
    assert [f.summary for f in found] == ["d", "b", "c", "a"]


def test_the_same_said_twice_is_one_finding(invented: Callable[..., None], asked: Callable[[str], Any]) -> None:
    invented(
        Finding("NK901", "info", "same", ("a:1", "b:2"), "", proven=False),
        Finding("NK901", "error", "same", ("b:2", "c:3"), "", proven=True),
        Finding("NK901", "error", "other", (), ""),
    )
    answer = asked("NK101/fires-policy-cluster")
    found = findings.check(answer.world, answer.trace)
    assert [f.summary for f in found] == ["other", "same"]
    assert found[1].evidence == ("a:1", "b:2", "c:3")
    assert found[1].severity == "error"
    assert found[1].proven
