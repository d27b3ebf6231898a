"""The command line as a whole: help, versions, errors, speed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from netk8s import __version__
from netk8s.cli import run, trace
from netk8s.errors import CollectError, DecodeError, Netk8sError, NotFound, UsageError


@pytest.mark.parametrize(
    "argv", [["--help"], ["-h"], ["trace", "--help"], ["trace", "-h"], ["decode", "-h"], ["explain", "-h"]]
)
def test_help(netk8s: Callable, argv: list[str]) -> None:
    ran = netk8s(*argv)
    assert ran.status == 0
    assert ran.out.startswith("Usage: netk8s")
    assert ran.err == ""
    assert max(map(len, ran.out.splitlines())) <= 100


def test_version(netk8s: Callable) -> None:
    assert netk8s("--version").out == f"netk8s {__version__}\n"


def test_no_command_shows_the_help(netk8s: Callable) -> None:
    ran = netk8s()
    assert ran.status == 2
    assert "Commands:" in ran.out


@pytest.mark.parametrize(
    "argv",
    [
        "frobnicate", "trace", "trace x --nope", "trace x --protocol icmp", "trace x -o ps", "decode", "schema",
        "schema x",
    ],
)  # fmt: skip
def test_usage_errors(netk8s: Callable, argv: str) -> None:
    ran = netk8s(*argv.split())
    assert ran.status == 2
    assert ran.out == ""
    first, second = ran.err.splitlines()
    assert first.startswith("netk8s: ")
    assert second.startswith("see `netk8s")
    assert second.endswith("--help`")


def test_without_a_dump_the_cluster_could_not_be_asked(netk8s: Callable, tmp_path: Path) -> None:
    ran = netk8s("trace", "svc/nginx", "--kubeconfig", str(tmp_path / "none"))
    assert (ran.status, ran.out) == (5, "")
    assert "give a dump with --dump PATH" in ran.err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (DecodeError("a.txt", 3, "expected a rule"), 3, ["netk8s: a.txt:3: expected a rule"]),
        (
            NotFound("svc/x", ["svc/a/y", "svc/b/z"]),
            4,
            ["netk8s: svc/x was not found", "nearest:", "  svc/a/y", "  svc/b/z"],
        ),
        (NotFound("svc/x"), 4, ["netk8s: svc/x was not found"]),
        (NotFound("x", ["y"], "no such port"), 4, ["netk8s: no such port", "nearest:", "  y"]),
        (UsageError("which port", ["80", "443"]), 2, ["netk8s: which port", "choices:", "  80", "  443"]),
        (CollectError("no route"), 5, ["netk8s: no route"]),
        (DecodeError("a\x1b[2J\nb", 0, "\udcff"), 3, ["netk8s: a\\x1b[2J b: \\udcff"]),
    ],
)
def test_errors_are_short(
    netk8s: Callable, monkeypatch: pytest.MonkeyPatch, error: Netk8sError, status: int, message: list[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(trace, "answer", fail)
    ran = netk8s("trace", "x", "--dump", "y")
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.splitlines() == message


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), RecursionError("deep"), MemoryError(), AssertionError("x" * 9999)]
)
def test_a_bug_is_said_and_not_shown(netk8s: Callable, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(trace, "answer", fail)
    monkeypatch.delenv("NETK8S_DEBUG", raising=False)
    ran = netk8s("trace", "x", "--dump", "y")
    assert ran.status == 70
    assert "Traceback" not in ran.err
    assert len(ran.err) < 500
    assert ran.err.startswith(f"netk8s: internal error, please report it: {type(error).__name__}")
    monkeypatch.setenv("NETK8S_DEBUG", "1")
    assert "Traceback" in netk8s("trace", "x", "--dump", "y").err


def test_interrupted(netk8s: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trace, "answer", fail)
    ran = netk8s("trace", "x", "--dump", "y")
    assert (ran.status, ran.out, ran.err) == (130, "", "")


def test_a_closed_pipe_is_quiet() -> None:
    script = "import sys; from netk8s.cli import main; sys.argv = ['netk8s', 'schema', 'trace']; main()"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    said = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 141
    assert said == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
@pytest.mark.parametrize("argv", [["schema", "trace"], ["--version"]])
def test_a_full_disk_is_no_error_of_ours(argv: list[str]) -> None:
    script = f"import sys; from netk8s.cli import main; sys.argv = ['netk8s', *{argv!r}]; main()"
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    said = "netk8s: the output could not be written whole: No space left on device\n"
    assert (ran.returncode, ran.stderr) == (74, said)


@pytest.mark.parametrize("other", ["", "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start(); "])
def test_the_end_writes_everything_and_runs_what_others_registered(other: str) -> None:
    script = (
        "import atexit, sys, threading, time; from netk8s.cli import main; "
        f"atexit.register(lambda: print('registered')); {other}sys.argv = ['netk8s', 'explain', 'NK000']; main()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 4
    assert "NK000" in ran.stderr
    assert ran.stdout.split() == ["thread", "registered"] if other else ["registered"]


@pytest.mark.parametrize("kind", ["trace", "decode"])
def test_schema(netk8s: Callable, kind: str) -> None:
    ran = netk8s("schema", kind)
    assert ran.status == 0
    schema = json.loads(ran.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert f"netk8s.dev/{kind}/v1" in schema["title"]


def test_documents_are_utf8_whatever_the_terminal() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", write_through=True) as out:
        assert run(["schema", "trace"], out, io.StringIO()) == 0
        assert "…" in raw.getvalue().decode("utf-8")


def test_help_is_quick_and_loads_little() -> None:
    script = (
        "import sys; from netk8s.cli import run; status = run(['--help']); "
        "print([m for m in ('msgspec', 'yaml', 'tabulate', 'netk8s.model', 'iptc', 'pyroute2', 'kubernetes', 'scapy') "
        "if m in sys.modules], file=sys.stderr)"
    )
    took = []
    for _ in range(5):
        start = time.perf_counter()
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        took.append(time.perf_counter() - start)
        assert ran.stderr.strip() == "[]"
        if took[-1] < 0.15:
            break
    # On an idle core it is 0.05 s; a busy machine gets leave.
    assert min(took) < 1.0, took
