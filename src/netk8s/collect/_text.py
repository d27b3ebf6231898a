"""What every reader of a node's state shares: a text with where it came from, or a gap with the reason."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

from msgspec import Struct

from netk8s.errors import CollectError

PATIENCE = 60
"""Seconds for one command: iptables-save of a million rules takes some."""


class Text(Struct, frozen=True):
    """A text that was taken. ``source``: the command, or the kernel interface, that gave it."""

    name: str
    data: bytes
    source: str


class Gap(Struct, frozen=True):
    """A text that could not be taken, and why. ``absent``: the node has nothing that it would say."""

    name: str
    why: str
    absent: bool = False


class Source(Struct, frozen=True):
    """One way to a text. ``read`` raises CollectError with the reason when it is none here."""

    name: str
    read: Callable[[], bytes]


def command(*argv: str) -> Source:
    """A program's standard output."""
    return Source(" ".join(argv), lambda: output(argv))


def first_of(name: str, *sources: Source) -> Text | Gap:
    """The text by the first way that leads there, a Gap with every reason when none does."""
    reasons = []
    for source in sources:
        try:
            return Text(name, source.read(), source.name)
        except CollectError as error:
            reasons.append(f"{source.name}: {error}")
    return Gap(name, "; ".join(reasons))


def output(argv: Sequence[str]) -> bytes:
    """What a command prints. Raises CollectError in one line."""
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=PATIENCE)  # noqa: S603 (the readers' own words)
    except FileNotFoundError:
        raise CollectError("not installed") from None
    except subprocess.TimeoutExpired:
        raise CollectError(f"no answer within {PATIENCE} s") from None
    except OSError as error:
        raise CollectError(error.strerror or str(error)) from None
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[:200]
        raise CollectError(said or f"ended with status {done.returncode}")
    return done.stdout
