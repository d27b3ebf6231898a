"""``netk8s probe``: whom it would send to, and what it says where netk8s-probes is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from netk8s.cli import probe

FIXTURE = Path(__file__).resolve().parents[1] / "findings" / "fixtures" / "NK510" / "quiet-as-predicted"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that netk8s-probes would have got."""
    found: list[list[str]] = []
    monkeypatch.setattr(probe, "find_spec", lambda name: object())
    monkeypatch.setattr(probe, "_started", lambda streams, words: found.append(words) or 0)
    return found


def test_without_it_it_says_how_to_get_it(netk8s: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "find_spec", lambda name: None)
    ran = netk8s("probe", "192.0.2.1:80")
    assert ran.status == 2
    assert ran.out == ""
    assert "pip install netk8s-probes" in ran.err


def test_an_address_goes_to_it_as_it_is(netk8s: Callable[..., Any], started: list[list[str]]) -> None:
    assert netk8s("probe", "192.0.2.1:80", "--dry-run").status == 0
    assert netk8s("probe", "[fd00::1]:80", "--kind", "syn", "--sniff", "n1=cni0", "--end", "eth0").status == 0
    assert netk8s("probe", "192.0.2.1:53", "--protocol", "udp", "--count", "2", "--interval", "1").status == 0
    assert netk8s("probe", "192.0.2.1", "--kind", "echo").status == 0
    assert started == [
        ["192.0.2.1:80", "--kind", "connect", "--dry-run"],
        ["[fd00::1]:80", "--kind", "syn", "--sniff=n1=cni0", "--end=eth0"],
        ["192.0.2.1:53", "--kind", "udp", "--count=2", "--interval=1.0"],
        ["192.0.2.1", "--kind", "echo"],
    ]


def test_a_service_is_looked_up(netk8s: Callable[..., Any], started: list[list[str]]) -> None:
    words = ("--port", "30001", "--via", "k8s-node1", "--dump", str(FIXTURE))
    ran = netk8s("probe", "svc/default/self", *words, "--kind", "syn", "--from", "client")
    assert ran.status == 0, ran.err
    ran = netk8s("probe", "svc/default/dns", "--port", "53", "--dump", str(FIXTURE))
    assert ran.status == 0, ran.err
    assert started[0] == ["192.168.52.201:30001", "--kind", "syn", "--source=client"]
    assert started[1] == ["10.96.53.53:53", "--kind", "udp"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("svc/default/self", "--port", "80"), "is looked up in dumps"),
        (("svc/default/self", "--port", "80", "--dump", str(FIXTURE), "--kind", "udp"), "--kind udp does not fit"),
        (("nowhere",), "nowhere is no target"),
    ],
)
def test_usage(netk8s: Callable[..., Any], started: list[list[str]], words: tuple[str, ...], why: str) -> None:
    ran = netk8s("probe", *words)
    assert ran.status == 2
    assert why in ran.err
    assert started == []


def test_a_stand_in_is_sent_nothing(netk8s: Callable[..., Any], started: list[list[str]], tmp_path: Path) -> None:
    rules = tmp_path / "iptables-save.txt"
    rules.write_bytes((FIXTURE / "nodes" / "k8s-node1" / "iptables-save.txt").read_bytes())
    ran = netk8s("probe", "svc/default/self", "--port", "30001", "--dump", str(rules))
    assert ran.status == 2
    assert "no dump tells the address" in ran.err
    assert started == []


@pytest.mark.skipif(
    find_spec("netk8s_probes") is None, reason="netk8s-probes is not installed: pip install -e ./probes"
)
def test_the_program_is_started_and_its_messages_passed_on(netk8s: Callable[..., Any]) -> None:
    ran = netk8s("probe", "127.0.0.1:9", "--dry-run", "--kind", "syn")
    assert ran.status == 0, ran.err
    assert "sends one TCP SYN, and a RST when it is answered, 127.0.0.1:" in ran.err
    assert "nothing was sent" in ran.err
    assert netk8s("probe", "224.0.0.1:9", "--dry-run").status == 2


def test_the_command_line_does_not_load_it() -> None:
    script = "import sys, netk8s.cli.probe; print([m for m in sys.modules if m.startswith(('scapy', 'netk8s_probes'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
