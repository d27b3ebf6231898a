"""The rules of both backends, without making tables where there are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s.collect import iptables
from netk8s.errors import CollectError

CODE = (
    "from netk8s.collect import iptables\n"
    "for family in (4, 6):\n"
    "    for text in iptables.saved(family): print(text.name, getattr(text, 'source', '') or text.why, sep='|')"
)


def told(space: Any) -> dict[str, str]:
    return dict(line.split("|", 1) for line in space.python(CODE).splitlines())


@pytest.mark.lab
def test_no_table_is_made_by_reading(spaces: Callable[[], Any]) -> None:
    space = spaces()
    space.run("iptables-legacy", "-t", "mangle", "-N", "KUBE-KUBELET-CANARY")
    found = told(space)
    assert found["iptables-legacy-save.txt"].endswith("iptables-legacy-save (has kubelet's chains)")
    assert "ip6tables-legacy-save.txt" not in found
    assert space.run("cat", "/proc/thread-self/net/ip_tables_names").split() == ["mangle"]
    assert space.run("cat", "/proc/thread-self/net/ip6_tables_names").split() == []
    assert space.run("nft", "list", "tables") == ""


@pytest.mark.lab
def test_whose_chains_a_backend_has(spaces: Callable[[], Any]) -> None:
    space = spaces()
    for words in (
        "-t mangle -N KUBE-IPTABLES-HINT",
        "-t nat -N KUBE-SERVICES",
        "-t nat -A KUBE-SERVICES -j RETURN",
    ):
        space.run("iptables-nft", *words.split())
    space.run("iptables-legacy", "-t", "nat", "-N", "KUBE-SERVICES")
    found = told(space)
    assert found["iptables-save.txt"].endswith("iptables-nft-save (has kubelet and kube-proxy's chains)")
    # A chain that is left over and empty makes nobody its owner.
    assert found["iptables-legacy-save.txt"].endswith("iptables-legacy-save")


@pytest.mark.parametrize(
    ("version", "nft", "legacy"),
    [("v1.8.9 (nf_tables)", True, False), ("v1.8.9 (legacy)", False, True), ("v1.6.2", False, True)],
)
def test_the_backend_of_a_plain_iptables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, nft: bool, legacy: bool
) -> None:
    program = tmp_path / "iptables-save"
    program.write_text(f"#!/bin/sh\necho 'iptables-save {version}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(iptables.shutil, "which", lambda name: str(program) if name == "iptables-save" else None)
    assert bool(iptables.program("iptables", "nft")) is nft
    assert bool(iptables.program("iptables", "legacy")) is legacy


def test_a_list_of_tables_that_may_not_be_read_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(iptables.shutil, "which", lambda name: None)
    with pytest.raises(CollectError, match="Permission denied; that needs root"):
        iptables.legacy_tables(4)
    names = {gap.name for gap in iptables.saved(4)}
    assert names == {"iptables-legacy-save.txt", "iptables-save.txt"}


@pytest.mark.usefixtures("bare")
def test_no_program_of_either_backend_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables, "legacy_tables", lambda family: ())
    gaps = list(iptables.texts())
    assert [gap.name for gap in gaps] == ["iptables-save.txt", "ip6tables-save.txt"]
    assert all("not installed" in gap.why for gap in gaps)
