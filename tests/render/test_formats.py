"""The formats as plugins."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from netk8s.model import Report
from netk8s.render import formats, render


def test_the_contract_s_formats() -> None:
    assert formats()[:6] == ("text", "wide", "json", "yaml", "dot", "mermaid")


@pytest.mark.parametrize("name", formats())
def test_a_format_is_a_module_of_its_name(name: str, report: Report) -> None:
    module = import_module(f"netk8s.render.as_{name}")
    assert name == module.NAME
    assert module.__doc__
    text = render(report, name)
    assert text == module.render(report)
    assert text.endswith("\n")


def test_an_unknown_format(report: Report) -> None:
    with pytest.raises(KeyError):
        render(report, "ps")


def test_listing_and_text_load_no_document() -> None:
    script = (
        "import sys, netk8s.render.as_text; "
        "print([m for m in ('netk8s.render.document', 'yaml', 'tabulate') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
