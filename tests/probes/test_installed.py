"""Whether the probes can be tested here at all, and that they stay a program of their own."""

from __future__ import annotations

import ast
import os
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

PROBES = Path(__file__).resolve().parents[2] / "probes"
SOURCES = sorted((PROBES / "src").rglob("*.py"))


def test_the_probes_are_installed() -> None:
    if sys.platform != "linux":
        pytest.skip("the probes are for Linux")
    if find_spec("netk8s_probes") is None:
        why = "netk8s-probes is not installed: pip install -e ./probes"
        if os.environ.get("NETK8S_REQUIRE_LAB") == "1":
            pytest.fail(f"NETK8S_REQUIRE_LAB=1, but {why}")
        pytest.skip(why)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_of_netk8s_is_imported(path: Path) -> None:
    """Apache-2.0 and GPL-2.0-only cannot be one program: what goes between them is a file."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: GPL-2.0-only\n")
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names <= {*sys.stdlib_module_names, "netk8s_probes", "scapy"}


def test_the_licence_is_said() -> None:
    project = tomllib.loads((PROBES / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "GPL-2.0-only"
    assert "GNU GENERAL PUBLIC LICENSE" in (PROBES / "COPYING").read_text(encoding="utf-8")
    assert [name for name in project["dependencies"] if not name.startswith("scapy")] == []
