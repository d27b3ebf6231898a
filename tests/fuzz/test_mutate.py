"""A fixed slice of the damaged clusters; ``mutate.py`` by hand goes through thousands."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

CASES = ("headline-nodeport-30000", "headline-nodeport-30000-kp123")
"""The smallest ones: a damaged cluster takes some 30 ms."""


@pytest.fixture(scope="module")
def mutate() -> ModuleType:
    path = Path(__file__).with_name("mutate.py")
    spec = importlib.util.spec_from_file_location("netk8s_mutate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recorded(mutate: ModuleType, corpus: Path) -> list[object]:
    found = [case for name in CASES if (case := mutate._case(corpus / name)) is not None]
    assert len(found) == len(CASES)
    return found


def test_damaged_clusters_end_in_an_answer_or_an_error(mutate: ModuleType, recorded: list[object]) -> None:
    assert list(mutate.rounds(recorded, 300)) == []


def test_undamaged_clusters_answer_every_question(mutate: ModuleType, recorded: list[object]) -> None:
    """The slice would find nothing if its questions led nowhere."""
    rng = random.Random(1)  # noqa: S311 - chance that can be repeated, no secret
    for case in recorded:
        assert len(case.asks) > 10  # type: ignore[attr-defined]
        for ask in rng.sample(case.asks, 3):  # type: ignore[attr-defined]
            mutate.answer(case.files, ask, False, rng)  # type: ignore[attr-defined]


def test_a_traceback_is_a_defect(mutate: ModuleType, recorded: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(mutate, "trace", broken)
    found = list(mutate.rounds(recorded[:1], 40))
    assert {d.what for d in found} == {"IndexError"}
    assert all("broken" in d.where for d in found)


def test_a_damage_changes_something_and_is_repeated_by_its_seed(mutate: ModuleType, recorded: list[object]) -> None:
    case = recorded[0]
    differing = 0
    for seed in range(20):
        one, two = (mutate.damaged(case, random.Random(seed)) for _ in range(2))  # noqa: S311 - as above
        assert one == two
        differing += one != case.files  # type: ignore[attr-defined]
    assert differing > 15
