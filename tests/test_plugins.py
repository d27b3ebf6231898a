"""A module in a package is a plugin by being there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netk8s import plugins


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "some_plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for name in ("zebra", "ant", "_shared"):
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n")
    (folder / "notes.txt").write_text("no module")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._modules.cache_clear()
    yield folder
    plugins._modules.cache_clear()
    for name in [name for name in sys.modules if name.startswith("some_plugins")]:
        del sys.modules[name]


def test_modules_come_by_name_without_the_packages_own(package: Path) -> None:
    assert [module.NAME for module in plugins.modules("some_plugins")] == ["ant", "zebra"]


def test_the_answer_is_kept_and_is_the_callers_own(package: Path) -> None:
    first = plugins.modules("some_plugins")
    first.clear()
    assert len(plugins.modules("some_plugins")) == 2


def test_a_broken_plugin_is_not_left_out(package: Path) -> None:
    (package / "broken.py").write_text("import no_such_module_at_all\n")
    with pytest.raises(ImportError, match="no_such_module_at_all"):
        plugins.modules("some_plugins")


def test_every_decoder_is_found() -> None:
    found = {module.__name__.rpartition(".")[2] for module in plugins.modules("netk8s.decode")}
    assert {"ip_route", "kubectl", "sysctl"} <= found
    assert not any(name.startswith("_") for name in found)
