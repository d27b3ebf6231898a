"""What a trace changed is taken back: when its owner ends, when its time is over, and not when it said it did so itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netk8s.collect import watchdog


def guard(seconds: float, mark: Path, setting: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(watchdog.__file__))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    words = {"seconds": seconds, "commands": [["false"], ["touch", str(mark)]], "settings": {str(setting): "before"}}
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(words).encode() + b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"ready\n"
    return process


def ended(process: subprocess.Popen[bytes], within: float = 5) -> float:
    start = time.monotonic()
    process.wait(within)
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    return time.monotonic() - start


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "setting").write_text("changed")
    return tmp_path / "undone", tmp_path / "setting"


def test_it_undoes_when_its_owner_is_gone(places: tuple[Path, Path]) -> None:
    process = guard(60, *places)
    assert process.stdin is not None
    process.stdin.close()
    ended(process)
    assert places[0].exists()
    assert places[1].read_text() == "before"


def test_it_undoes_when_the_time_is_over(places: tuple[Path, Path]) -> None:
    """As when its owner was stopped (SIGSTOP) and keeps the pipe open."""
    process = guard(0.3, *places)
    assert ended(process) > 0.2
    assert places[0].exists()
    assert places[1].read_text() == "before"


def test_it_does_nothing_when_all_is_undone(places: tuple[Path, Path]) -> None:
    process = guard(60, *places)
    assert process.stdin is not None
    process.stdin.write(watchdog.DONE)
    process.stdin.flush()
    ended(process)
    assert not places[0].exists()
    assert places[1].read_text() == "changed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_do_not_end_it(places: tuple[Path, Path], number: signal.Signals) -> None:
    process = guard(0.5, *places)
    process.send_signal(number)
    ended(process)
    assert places[0].exists()


def test_an_owner_that_ended_before_it_armed_anything() -> None:
    process = subprocess.run(
        [sys.executable, "-I", str(Path(watchdog.__file__))], input=b"", capture_output=True, check=True
    )
    assert process.stdout == b""


def test_it_imports_nothing_of_netk8s() -> None:
    assert "netk8s." not in Path(watchdog.__file__).read_text(encoding="utf-8").partition("from __future__")[2]


def test_a_setting_that_cannot_be_written_is_left() -> None:
    watchdog.undo([], {"/proc/no/such/setting": "1"})
