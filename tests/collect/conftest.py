"""A network namespace of its own for a test: a forked process that ends with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# What is collected here is Linux's: netlink, /proc, network namespaces.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]

SRC = Path(__file__).resolve().parents[2] / "src"


class Space:
    """A namespace by the process that keeps it."""

    def __init__(self) -> None:
        self.keeper = subprocess.Popen(["unshare", "--net", "sleep", "300"])
        own = os.stat("/proc/self/ns/net").st_ino
        while os.stat(self.path).st_ino == own:
            assert self.keeper.poll() is None

    @property
    def path(self) -> str:
        return f"/proc/{self.keeper.pid}/ns/net"

    def run(self, *argv: str) -> str:
        done = subprocess.run(["nsenter", f"--net={self.path}", *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, code: str, *before: str) -> str:
        """Runs Python in the namespace, with netk8s to import; ``before``: a command that runs it."""
        environment = {**os.environ, "PYTHONPATH": str(SRC)}
        argv = ["nsenter", f"--net={self.path}", *before, sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        self.keeper.kill()
        self.keeper.wait()


@pytest.fixture
def spaces() -> Iterator[Callable[[], Space]]:
    """Makes namespaces, with lo up."""
    made: list[Space] = []

    def make() -> Space:
        made.append(Space())
        made[-1].run("ip", "link", "set", "lo", "up")
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with no program on it and without pyroute2, whatever of it other tests have imported."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyroute2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyroute2", None)
