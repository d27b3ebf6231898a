"""Takes back what was changed for a trace, whatever becomes of the process that changed it.

It runs as a process of its own, in a session of its own: ``python -I watchdog.py``, with a JSON line on standard input
that says what to undo. Then the same pipe is waited on: it ends when the other process ends, by kill -9 too. What is to
be undone is undone then, or when the time is over, whichever is first. Imports nothing of netk8s: it starts quickly.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

DONE = b"done\n"
"""Everything has been undone already; there is nothing left to do."""


def undo(commands: Sequence[Sequence[str]], settings: Mapping[str, str]) -> None:
    """Runs commands and writes kernel settings; what fails was undone before."""
    for argv in commands:
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 (netk8s' own words)
    for path, value in settings.items():
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(value)
        except OSError:
            continue


def watch(seconds: float, commands: Sequence[Sequence[str]], settings: Mapping[str, str], pipe: int) -> None:
    """Waits until the pipe ends or the time is over, and undoes."""
    end = time.monotonic() + seconds
    told = b""
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([pipe], [], [], left)
        data = os.read(pipe, 4096) if ready else b""
        told += data
        if told.endswith(DONE):
            return
        if ready and not data:
            break
    undo(commands, settings)


def main() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return  # nothing was armed yet
        line += byte
    words = json.loads(line)
    os.write(1, b"ready\n")
    watch(words["seconds"], words["commands"], words["settings"], 0)


if __name__ == "__main__":
    main()
