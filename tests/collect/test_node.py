"""The node's own texts, and what is said of those that could not be taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s import decode
from netk8s.collect import node

TAKE = (
    "import json\nfrom netk8s import decode\nfrom netk8s.collect import node\n"
    "taken = node.take('n1')\nworld = decode.decode(taken)\nn = world.nodes['n1']\n"
    "print(json.dumps({'tables': [[t.backend, t.family, t.name] for t in n.tables], 'covered': sorted(n.covered),\n"
    " 'addresses': [str(a.ip) for a in n.addresses], 'forward': n.sysctls['net.ipv4.ip_forward'].value,\n"
    " 'origins': [d.origin for d in taken.dumps], 'unread': world.unread, 'missing': [m.what for m in taken.missing]}))"
)


@pytest.mark.lab
def test_a_node_is_read_as_it_is(spaces: Callable[[], Any]) -> None:
    space = spaces()
    space.run("ip", "addr", "add", "10.99.0.1/24", "dev", "lo")
    space.run("iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
    found = json.loads(space.python(TAKE))
    assert found["tables"] == [["nft", 4, "filter"]]
    assert "10.99.0.1" in found["addresses"]
    assert found["forward"] in ("0", "1")
    assert set(found["covered"]) >= {"rules4", "addr", "route4", "sysctl", "link"}
    assert "nodes/n1/iptables-legacy-save.txt" not in found["origins"]
    assert found["unread"] == []
    # Reading registered no legacy table.
    assert space.run("cat", "/proc/thread-self/net/ip_tables_names") == ""


@pytest.mark.lab
def test_both_backends_are_read_where_both_are(spaces: Callable[[], Any]) -> None:
    space = spaces()
    space.run("iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
    space.run("iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-j", "ACCEPT")
    found = json.loads(space.python(TAKE))
    assert sorted(found["tables"]) == [["legacy", 4, "nat"], ["nft", 4, "filter"]]


def test_what_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    taken = node.take("n1")
    assert [dump.origin for dump in taken.dumps] == ["nodes/n1/sysctl.txt"]
    assert any("iptables-save.txt (iptables-save: not installed)" in gap.what for gap in taken.missing)
    assert {gap.needed_for for gap in taken.missing} >= {"the rules the packet meets", "devices and bridges"}


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
    monkeypatch.setattr(node.shutil, "which", lambda name: str(program) if name == "iptables-save" else None)
    assert bool(node._binary("iptables", "nft")) is nft
    assert bool(node._binary("iptables", "legacy")) is legacy


def test_settings_are_as_sysctl_prints_them() -> None:
    assert "net.ipv4.ip_forward = " in node.settings()
    assert decode.recognise(decode.Dump("sysctl.txt", node.settings().encode(), "n")).NAME == "sysctl"  # type: ignore[attr-defined, union-attr]
