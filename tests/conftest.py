"""What all tests share: where the recordings are, what the lab needs, how hypothesis looks for examples."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from msgspec import Struct
from msgspec.structs import replace

from netk8s import decode
from netk8s.model import At, Dump

ROOT = Path(__file__).resolve().parent.parent
STRICT = os.environ.get("NETK8S_REQUIRE_LAB") == "1"
"""Set where everything has to run: what would be skipped on a laptop fails."""

# deadline: one example of a decoder may be slow on a busy machine without anything being wrong.
settings.register_profile("laptop", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if STRICT or os.environ.get("CI") else "laptop")


def skip_or_fail(reason: str) -> None:
    if STRICT:
        pytest.fail(f"NETK8S_REQUIRE_LAB=1, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of recorded clusters: NETK8S_CORPUS, or ../shared/corpus beside the project."""
    path = Path(os.environ.get("NETK8S_CORPUS") or ROOT / "../shared/corpus").resolve()
    if not path.is_dir():
        skip_or_fail(f"the recorded clusters are not at {path}; NETK8S_CORPUS names another folder")
    return path


@pytest.fixture(scope="session")
def why_no_lab() -> str:
    """Why tests marked ``lab`` cannot run here; empty when they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [tool for tool in ("ip", "iptables", "iptables-save", "nft", "unshare") if not shutil.which(tool)]
    if absent:
        return f"not installed: {', '.join(absent)}"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return "" if made.returncode == 0 else f"no network namespace can be made: {made.stderr.strip()}"


@pytest.fixture(autouse=True)
def _lab(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("lab"):
        why = request.getfixturevalue("why_no_lab")
        if why:
            skip_or_fail(why)


# ---------------------------------------------------------------- two readers of one kernel


def _placeless(fact: Any) -> Any:
    """A fact without its places in a text."""
    if not isinstance(fact, Struct):
        return fact
    changes: dict[str, Any] = {}
    for name in fact.__struct_fields__:
        value = getattr(fact, name)
        if isinstance(value, At):
            changes[name] = At("")
        elif isinstance(value, tuple):
            changes[name] = tuple(_placeless(item) for item in value)
    return replace(fact, **changes)


def _facts(text: bytes) -> list[Any]:
    dump = Dump("dump", text, "n1")
    decoder = decode.recognise(dump)
    return [] if decoder is None else [_placeless(fact) for fact in decoder.decode(dump)]


@pytest.fixture(scope="session")
def differences() -> Callable[..., tuple[list[str], list[str]]]:
    """What only one of two texts says: (facts of the first alone, facts of the second alone), whatever their order.

    ``key`` turns a fact into what is compared of it, None for nothing.
    """

    def compared(
        one: bytes, other: bytes, key: Callable[[Any], Any] = lambda fact: fact
    ) -> tuple[list[str], list[str]]:
        mine, theirs = (Counter(repr(key(fact)) for fact in _facts(text)) for text in (one, other))
        return sorted((mine - theirs).elements()), sorted((theirs - mine).elements())

    return compared
