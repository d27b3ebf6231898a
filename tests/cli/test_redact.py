"""``netk8s redact`` and ``netk8s collect --redact``."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from netk8s import snapshot
from netk8s.collect import node as collector
from netk8s.model import Dump, Snapshot
from tests.cli.conftest import Ran

RULES = b"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.20.30.40/32 -m comment --comment acme -j DROP\nCOMMIT\n"


def test_a_bundle_and_its_map(netk8s: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_bytes(RULES)
    out, table = tmp_path / "out.tgz", tmp_path / "map.json"
    ran = netk8s("redact", str(tmp_path / "rules.txt"), "--node", "web1", "-o", str(out), "--map", str(table))
    assert ran.status == 0
    assert "look through it" in ran.err
    (dump,) = snapshot.read([str(out)]).dumps
    changed = json.loads(table.read_text())
    assert dump.node == changed["names"]["web1"]
    assert f"-s {changed['addresses']['10.20.30.40']}/32".encode() in dump.data
    assert b"acme" not in dump.data
    assert stat.S_IMODE(table.stat().st_mode) == 0o600


def test_a_map_is_never_put_into_what_is_shared(netk8s: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_bytes(RULES)
    out = tmp_path / "out"
    ran = netk8s("redact", str(tmp_path / "rules.txt"), "-o", str(out), "--map", str(out / "map.json"))
    assert ran.status == 2
    assert "elsewhere" in ran.err
    assert not out.exists()


def test_a_file_that_is_there_is_no_map(netk8s: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_bytes(RULES)
    table = tmp_path / "kept"
    table.write_text("kept")
    ran = netk8s("redact", str(tmp_path / "rules.txt"), "-o", str(tmp_path / "out.tgz"), "--map", str(table))
    assert ran.status == 2
    assert table.read_text() == "kept"
    assert not (tmp_path / "out.tgz").exists()


def test_collect_takes_the_same_way(
    netk8s: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "take", lambda name, where: Snapshot((Dump("iptables-save.txt", RULES, name),)))
    out = tmp_path / "out.tgz"
    ran = netk8s("collect", "--node-only", "--node", "web1", "--redact", "-o", str(out))
    assert ran.status == 0
    (dump,) = snapshot.read([str(out)]).dumps
    assert dump.node not in (None, "web1")
    assert b"10.20.30.40" not in dump.data


@pytest.mark.parametrize(
    ("words", "said"), [(("--map", "m"), "--map is for --redact"), (("--redact", "--resume"), "--resume cannot")]
)
def test_words_that_do_not_go_together(
    netk8s: Callable[..., Ran], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    ran = netk8s("collect", "-o", str(tmp_path / "out.tgz"), *words)
    assert ran.status == 2
    assert said in ran.err
