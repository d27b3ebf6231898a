"""How far a long command is, on a terminal and only when it takes longer than a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from netk8s.cli import Streams

PATIENCE = 1.0
"""Seconds before anything is shown."""


class Tick(Protocol):
    """Told how many of how many are done."""

    def __call__(self, done: int, total: int, /) -> None: ...


@contextmanager
def progress(streams: Streams, what: str) -> Iterator[Tick]:
    """A line on standard error that is written over and wiped at the end; nothing where that is no terminal."""
    begun = time.monotonic()
    shown = 0.0
    widest = 0

    def tick(done: int, total: int) -> None:
        nonlocal shown, widest
        now = time.monotonic()
        if not streams.stderr.isatty() or now - begun < PATIENCE or now - shown < 0.1:
            return
        shown = now
        text = f"{what}: {done} of {total}"
        widest = max(widest, len(text))
        streams.stderr.write(f"\r{text:<{widest}}")
        streams.stderr.flush()

    try:
        yield tick
    finally:
        if widest:
            streams.stderr.write("\r" + " " * widest + "\r")
            streams.stderr.flush()
