"""The line that says how far a long command is."""

from __future__ import annotations

import contextlib
import io

import pytest

from netk8s.cli import Streams, _progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def streams(stderr: io.StringIO) -> Streams:
    return Streams(None, io.StringIO(), stderr)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def test_nothing_within_a_second(clock: list[float]) -> None:
    stderr = Terminal()
    with _progress.progress(streams(stderr), "asked") as tick:
        clock[0] = 0.9
        tick(1, 10)
    assert stderr.getvalue() == ""


def test_a_line_that_is_wiped_at_the_end(clock: list[float]) -> None:
    stderr = Terminal()
    with _progress.progress(streams(stderr), "asked") as tick:
        clock[0] = 1.5
        tick(3, 10)
        tick(4, 10)  # within a tenth of a second: not shown
        clock[0] = 2.0
        tick(5, 10)
    assert stderr.getvalue() == "\rasked: 3 of 10\rasked: 5 of 10\r" + " " * 14 + "\r"


def test_nothing_where_nobody_looks(clock: list[float]) -> None:
    stderr = io.StringIO()
    with _progress.progress(streams(stderr), "asked") as tick:
        clock[0] = 5.0
        tick(1, 10)
    assert stderr.getvalue() == ""


def test_the_line_is_wiped_when_it_is_broken_off(clock: list[float]) -> None:
    stderr = Terminal()
    with contextlib.suppress(KeyboardInterrupt), _progress.progress(streams(stderr), "asked") as tick:
        clock[0] = 2.0
        tick(1, 10)
        raise KeyboardInterrupt
    assert stderr.getvalue().endswith("\r")
