from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netk8s.cli import run
from netk8s.render.check import formats

STALE, HEADLINE = "broken-stale-node", "headline-nodeport-30000"


def test_errors_end_with_1_and_none_with_0(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("check", str(corpus / STALE), "--service", "nginx")
    assert (ran.status, ran.err) == (1, "")
    assert "NK206" in ran.out
    ran = netk8s("check", "--dump", str(corpus / HEADLINE), "--service", "nginx", "--severity", "error")
    assert (ran.status, ran.err) == (0, "")
    assert "Findings: none." in ran.out


def test_what_is_not_known_ends_with_6(netk8s: Callable, corpus: Path) -> None:
    """A lone dump of the rules does not tell which address the node sends from."""
    dump = corpus / HEADLINE / "nodes" / "k8s-node1" / "iptables-save.txt"
    ran = netk8s("check", str(dump), "--service", "nginx", "-o", "json")
    summary = json.loads(ran.out)["summary"]
    assert (ran.status, summary["errors"]) == (6, 0)
    assert summary["unknown"] > 0


def test_only_some_codes_and_only_what_is_new(netk8s: Callable, corpus: Path) -> None:
    folder = str(corpus / STALE)
    ran = netk8s("check", folder, "--service", "nginx", "--code", "nk405", "-o", "json")
    assert {finding["code"] for finding in json.loads(ran.out)["findings"]} == {"NK405"}
    ran = netk8s("check", folder, "--service", "nginx", "--since", folder)
    assert (ran.status, "Findings: none." in ran.out) == (0, True)
    ran = netk8s("check", folder, "--service", "nginx", "--since", str(corpus / HEADLINE), "-o", "json")
    assert "NK206" in {finding["code"] for finding in json.loads(ran.out)["findings"]}


def test_one_node(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("check", str(corpus / STALE), "--service", "nginx", "--node", "k8s-node2", "-o", "json")
    document = json.loads(ran.out)
    assert document["summary"]["nodes"] == ["k8s-node2"]
    assert {flow["entry_node"] for flow in document["flows"]} <= {"k8s-node2", None}
    ran = netk8s("check", str(corpus / STALE), "--node", "k8s-node9")
    assert ran.status == 4
    assert "k8s-node2" in ran.err


@pytest.mark.parametrize("name", formats())
def test_every_format_has_something_to_say(netk8s: Callable, corpus: Path, name: str) -> None:
    ran = netk8s("check", str(corpus / STALE), "--service", "web-local", "-o", name)
    assert ran.status in (0, 1)
    assert "web-local" in ran.out


def test_what_was_not_found_or_read(netk8s: Callable, corpus: Path, tmp_path: Path) -> None:
    assert netk8s("check", str(corpus / STALE), "--service", "ngnix").status == 4
    ran = netk8s("check", str(corpus / STALE), "--code", "NK2O6")
    assert ran.status == 4
    assert "NK206" in ran.err
    assert netk8s("check", str(tmp_path / "absent")).status == 3
    assert netk8s("check").status == 5


def test_a_terminal_is_told_how_far_it_is(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("netk8s.cli._progress.PATIENCE", 0.0)
    err = Terminal()
    run(["check", str(corpus / STALE), "--service", "nginx"], io.StringIO(), err)
    assert "flows asked: 0 of 43" in err.getvalue()
