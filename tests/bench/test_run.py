"""What the benchmark says of its measurements."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def run(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_run", root / "bench" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "bench"))
        patch.setitem(sys.modules, "bench_run", module)
        spec.loader.exec_module(module)
    return module


def test_a_line_is_fitted_as_it_is(run: ModuleType) -> None:
    start, each, off = run.fit([1000, 2000, 4000, 8000], [0.2 + 7e-6 * n for n in (1000, 2000, 4000, 8000)])
    assert start == pytest.approx(0.2)
    assert each == pytest.approx(7e-6)
    assert off == pytest.approx(0, abs=1e-9)


def test_a_cost_that_grows_with_the_square_is_far_off_the_line(run: ModuleType) -> None:
    _, _, off = run.fit([1, 2, 4, 8], [1, 4, 16, 64])
    assert off > 0.5
