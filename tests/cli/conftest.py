"""Running a command line in this process."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from netk8s.cli import run


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def netk8s() -> Callable[..., Ran]:
    """``netk8s("trace", …)``: status, output, messages."""

    def call(*argv: str, stdin: bytes = b"") -> Ran:
        out, err = io.StringIO(), io.StringIO()
        status = run(list(argv), out, err, io.BytesIO(stdin))
        return Ran(status, out.getvalue(), err.getvalue())

    return call
