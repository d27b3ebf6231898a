"""``netk8s verify``: the words of its command line, and the comparison with an observation file. Live: tests/lab."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).resolve().parents[1] / "findings" / "fixtures"
WORDS = ("verify", "svc/default/self", "--port", "80", "--from", "node/k8s-node1")


def dumps(name: str, tmp_path: Path) -> list[str]:
    made = tmp_path / "dumps"
    for part in ("nodes", "cluster"):
        shutil.copytree(FIXTURES / name / part, made / part)
    return ["--dump", str(made), "--observation", str(FIXTURES / name / "observation.json")]


def test_as_predicted(netk8s: Callable[..., Any], tmp_path: Path) -> None:
    ran = netk8s(*WORDS, *dumps("NK510/quiet-as-predicted", tmp_path))
    assert ran.status == 0, ran.err
    assert "as predicted" in ran.out
    assert "Rule by rule" in ran.out


def test_where_the_paths_part(netk8s: Callable[..., Any], tmp_path: Path) -> None:
    ran = netk8s(*WORDS, *dumps("NK511/fires-rule-inserted", tmp_path), "-o", "json")
    assert ran.status == 1
    found = json.loads(ran.out)
    assert [d["about"] for d in found["differences"]] == ["path"]
    assert {rule["basis"] for rule in found["rules"]} >= {"observed", "predicted"}


def test_an_observation_of_another_packet(netk8s: Callable[..., Any], tmp_path: Path) -> None:
    words = ("verify", "svc/default/dns", "--port", "53", "--from", "node/k8s-node1")
    ran = netk8s(*words, *dumps("NK510/quiet-as-predicted", tmp_path))
    assert ran.status == 4
    assert "the observation is of another packet" in ran.err


def test_no_observation_in_the_file(netk8s: Callable[..., Any], tmp_path: Path) -> None:
    words = dumps("NK510/quiet-as-predicted", tmp_path)[:2]
    ran = netk8s(
        *WORDS, *words, "--observation", str(FIXTURES / "NK510/quiet-as-predicted/nodes/k8s-node1/ip-rule.json")
    )
    assert ran.status != 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--observation", "x"), "--observation needs the dumps"),
        (("--observation", "x", "--dump", "y", "--wait"), "sends nothing, so --wait has no meaning"),
        (("--namespace-path", "/nowhere/at/all"), "no network namespace at /nowhere/at/all"),
        (("--from-namespace", "/nowhere/at/all"), "no network namespace at /nowhere/at/all"),
        (("--timeout", "0"), "timeout"),
    ],
)
def test_usage(netk8s: Callable[..., Any], words: tuple[str, ...], why: str) -> None:
    ran = netk8s(*WORDS, *words)
    assert ran.status == 2
    assert why in ran.err


def live(tmp_path: Path) -> list[str]:
    """A prediction from dumps, of a node that this is not: nothing is ever sent from here."""
    return [*dumps("NK510/quiet-as-predicted", tmp_path)[:2], "--node", "k8s-node1"]


def test_who_sends_has_to_be_here(netk8s: Callable[..., Any], tmp_path: Path) -> None:
    ran = netk8s("verify", "svc/default/self", "--port", "30001", "--from", "client", *live(tmp_path))
    assert ran.status == 2
    assert "client is not on this node" in ran.err
    assert "--wait" in ran.err


def test_waiting_needs_to_know_the_packet(netk8s: Callable[..., Any], tmp_path: Path) -> None:
    ran = netk8s("verify", "svc/default/self", "--port", "30001", "--from", "192.0.2.9", "--wait", *live(tmp_path))
    assert ran.status == 2
    assert "--wait needs to know the packet" in ran.err


def test_a_dry_run_says_what_it_would_do_and_does_not(netk8s: Callable[..., Any], tmp_path: Path) -> None:
    words = ("--from", "192.0.2.9", "--sport", "41000", "--wait", "--dry-run")
    ran = netk8s("verify", "svc/default/self", "--port", "30001", *words, *live(tmp_path))
    assert ran.status == 0, ran.err
    assert "waits 0.9 s for tcp 192.0.2.9:41000 to 192.168.52.201:30001; sends nothing" in ran.err
    assert "nothing was armed and nothing sent" in ran.err
    assert "tcp sport 41000 tcp dport 30001" in ran.out
