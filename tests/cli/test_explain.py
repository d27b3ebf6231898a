from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from netk8s.cli import explain


@pytest.fixture
def manuals(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = []
    for code in ("NK102", "NK101", "NK201"):
        module = ModuleType(code.lower())
        module.__doc__ = f"Title of {code}.\n\n    What it sees\n    ------------\n    Things.\n    "
        module.CODE, module.SEVERITY, module.SUMMARY = code, "warning", f"summary of {code}"  # type: ignore[attr-defined]
        modules.append(module)
    monkeypatch.setattr(explain, "_findings", lambda: modules)


@pytest.mark.usefixtures("manuals")
@pytest.mark.parametrize("word", ["NK101", "nk101"])
def test_the_manual_of_a_finding(netk8s: Callable, word: str) -> None:
    ran = netk8s("explain", word)
    assert ran.status == 0
    assert ran.out.startswith("NK101 (warning): summary of NK101\n\nTitle of NK101.\n\n")
    assert "\nWhat it sees\n------------\nThings.\n" in ran.out


@pytest.mark.usefixtures("manuals")
def test_the_list_of_all(netk8s: Callable) -> None:
    assert [line.split()[0] for line in netk8s("explain").out.splitlines()] == ["NK101", "NK102", "NK201"]


@pytest.mark.usefixtures("manuals")
@pytest.mark.parametrize("word", ["NK1O1", "101", "NK103", "nk10"])
def test_the_nearest_of_an_unknown_code(netk8s: Callable, word: str) -> None:
    ran = netk8s("explain", word)
    assert (ran.status, ran.out) == (4, "")
    assert ran.err.splitlines()[0] == f"netk8s: there is no finding {word}"
    assert "  NK101" in ran.err.splitlines()


def test_every_real_finding_has_a_manual(netk8s: Callable) -> None:
    ran = netk8s("explain")
    assert ran.status == 0
    for line in ran.out.splitlines():
        manual = netk8s("explain", line.split()[0])
        assert manual.status == 0
        for heading in ("What it sees", "Why it matters", "Example", "What to do"):
            assert heading in manual.out, line
