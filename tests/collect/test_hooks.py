"""The list of hooks as nft prints it, and why there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s.collect import hooks
from netk8s.collect._text import Gap, Text
from netk8s.errors import CollectError


def nft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> Text | Gap:
    """What is taken where nft is this script."""
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(hooks, "supported", lambda: True)
    (found,) = hooks.texts()
    return found


def test_a_list_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = nft(monkeypatch, tmp_path, "[ \"$*\" = 'list hooks' ] && echo 'family ip {'")
    assert isinstance(found, Text)
    assert (found.name, found.data, found.source) == ("nft-hooks.txt", b"family ip {\n", "nft list hooks")


def test_nothing_to_list_is_a_reason_and_no_empty_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = nft(monkeypatch, tmp_path, "exit 0")
    assert isinstance(found, Gap)
    assert (found.absent, "no function is registered" in found.why) == (True, True)


@pytest.mark.parametrize(("answer", "asked"), [("Invalid argument", False), ("Operation not permitted", True)])
def test_a_kernel_without_the_list_is_not_asked_through_nft(
    monkeypatch: pytest.MonkeyPatch, answer: str, asked: bool
) -> None:
    def refused(*_: object) -> None:
        raise CollectError(answer)

    monkeypatch.setattr(hooks._wire, "asked", refused)
    monkeypatch.setattr(hooks, "first_of", lambda *_: Gap("nft-hooks.txt", "nft was run"))
    (found,) = hooks.texts()
    assert isinstance(found, Gap)
    assert (found.why == "nft was run") is asked


def test_an_older_nft_does_not_know_the_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = nft(monkeypatch, tmp_path, "echo 'Error: syntax error, unexpected string' >&2; exit 1")
    assert isinstance(found, Gap)
    assert (found.absent, "does not know" in found.why) == (True, True)


@pytest.mark.lab
def test_a_change_of_rules_changes_the_signature(spaces: Callable[[], Any]) -> None:
    space = spaces()
    code = "from netk8s.collect import hooks; print(hooks.signature().hex())"
    before = space.python(code)
    assert space.python(code) == before
    space.run("nft", "add", "table", "ip", "t")
    assert space.python(code) != before
    before = space.python(code)
    space.run("iptables-legacy", "-t", "mangle", "-L")  # registers the table
    assert space.python(code) != before
