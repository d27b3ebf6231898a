"""The layering of the project and what may stand in its source, checked on the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "netk8s"
TESTS = Path(__file__).resolve().parent
FILES = sorted(SRC.rglob("*.py"))

EVERYTHING = None

# What a part may import of the project itself, besides its own modules. `plugins` finds a part's modules
# and knows nothing else, so every part that is made of plugins may use it.
OURS: dict[str, frozenset[str] | None] = {
    "": frozenset(),
    "model": frozenset(),
    "errors": frozenset(),
    "plugins": frozenset(),
    "layouts": frozenset({"model", "errors", "plugins"}),
    "snapshot": frozenset({"model", "errors", "layouts"}),
    "collect": frozenset({"model", "errors", "plugins"}),
    "decode": frozenset({"model", "errors", "plugins"}),
    "kernel": frozenset({"model", "plugins"}),
    "objects": frozenset({"model"}),
    "findings": frozenset({"model", "plugins", "objects", "policies", "verification", "drift"}),
    "render": frozenset(
        {"model", "plugins", "verification", "survey", "comparison", "checkup", "problems", "parts", "changes", "news"}
    ),
    "dialects": frozenset({"model", "errors", "plugins", "objects"}),
    "outcomes": frozenset({"model"}),
    "policies": frozenset({"model"}),
    "verification": frozenset({"model"}),
    "surroundings": frozenset({"model", "kernel", "objects"}),
    "journey": frozenset({"model", "dialects", "findings", "trace"}),
    "trace": frozenset({"model", "kernel", "outcomes", "surroundings", "objects"}),
    "survey": frozenset({"model", "errors", "dialects", "surroundings", "trace", "objects"}),
    "comparison": frozenset({"model", "survey"}),
    "changes": frozenset({"model"}),
    "news": frozenset({"model", "survey", "comparison", "checkup", "problems"}),
    "whatif": frozenset({"model", "errors", "decode", "dialects", "intent"}),
    "live": frozenset({"model", "errors", "snapshot", "decode", "dialects", "journey"}),
    "problems": frozenset({"model", "findings", "survey"}),
    "checkup": frozenset({"model", "findings", "survey", "drift", "problems"}),
    "parts": frozenset({"model", "findings", "survey", "drift", "problems", "checkup"}),
    "elsewhere": frozenset({"model", "policies", "survey"}),
    "intent": frozenset({"model"}),
    "entries": frozenset({"model"}),
    "drift": frozenset({"model", "intent", "dialects", "entries"}),
    "manifests": frozenset(),
    "redact": frozenset({"model", "decode", "dialects", "live"}),
    "cli": EVERYTHING,
    "agent": EVERYTHING,
}
ONLY_FOR: dict[str, frozenset[str]] = {"cli": frozenset(), "agent": frozenset({"cli"})}
"""Who may import these: the command line starts the agent."""

# What a part may import from outside the standard library.
THIRD_PARTY: dict[str, frozenset[str]] = {
    "snapshot": frozenset({"zstandard"}),
    "decode": frozenset({"yaml"}),
    "render": frozenset({"tabulate", "yaml"}),
    "cli": frozenset({"click", "tabulate", "yaml"}),
    "collect": frozenset({"iptc", "kubernetes", "pyroute2"}),
    "live": frozenset({"kubernetes", "urllib3"}),
    "agent": frozenset({"aiohttp", "cryptography", "prometheus_client"}),
}
EVERYWHERE = frozenset({"msgspec"})
"""What values are made of."""

# Imported where they are used, never while the command line starts.
HEAVY = ("aiohttp", "cryptography", "iptc", "kubernetes", "prometheus_client", "pyroute2", "scapy", "urllib3")


def part(path: Path) -> str:
    """``decode`` for decode/iptables.py, ``trace`` for trace.py, "" for the package's own __init__."""
    first = path.relative_to(SRC).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def relative(path: Path) -> str:
    return str(path.relative_to(SRC))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import of a file, wherever in the file it stands."""
    package = ["netk8s", *path.relative_to(SRC).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            # `from netk8s import trace` imports a module, `from netk8s.model import Rule` a name of one.
            if base == "netk8s":
                yield from ((node.lineno, f"netk8s.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def names(path: Path) -> Iterator[tuple[int, str]]:
    yield 1, path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name


def words(name: str) -> set[str]:
    return {word.lower().rstrip("s") for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_follow_the_layers(path: Path) -> None:
    here = part(path)
    assert here in OURS, f"{relative(path)} belongs to no known part; say in this test what it may import"
    wrong = []
    for line, name in imports(path):
        top, _, rest = name.partition(".")
        if top == "netk8s":
            there = rest.split(".")[0]
            if there in ("", "__version__", here):
                continue
            allowed = OURS[here]
            if here not in ONLY_FOR.get(there, {here}) or (allowed is not EVERYTHING and there not in allowed):
                wrong.append(f"{path}:{line}: {here or 'netk8s'} imports netk8s.{there}")
        elif top not in sys.stdlib_module_names | EVERYWHERE | THIRD_PARTY.get(here, frozenset()):
            wrong.append(f"{path}:{line}: {here or 'netk8s'} imports {top}")
    assert not wrong, "\n".join(wrong)


def test_starting_the_command_line_loads_nothing_heavy() -> None:
    script = f"import sys, netk8s.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def internal(path: Path) -> bool:
    """A module, or a package of modules, with a leading underscore is internal and tested through its package."""
    return any(name.startswith("_") for name in path.relative_to(SRC).with_suffix("").parts)


@pytest.mark.parametrize("path", [path for path in FILES if not internal(path)], ids=relative)
def test_every_source_file_has_a_test_file(path: Path) -> None:
    mirror = TESTS / path.relative_to(SRC).parent / f"test_{path.name}"
    assert mirror.is_file(), f"{relative(path)} has no tests/{mirror.relative_to(TESTS)}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_names_say_what_a_thing_is(path: Path) -> None:
    empty = {"manager", "helper", "util"}
    wrong = [f"{path}:{line}: {name}" for line, name in names(path) if words(name) & empty]
    assert not wrong, "\n".join(wrong)


# netk8s.snapshot names these files in order to leave them out.
@pytest.mark.parametrize("path", [path for path in FILES if part(path) != "snapshot"], ids=relative)
def test_recordings_are_never_read(path: Path) -> None:
    """What was observed in a recorded cluster is for judging an answer, not for giving it."""
    text = path.read_text(encoding="utf-8")
    found = [word for word in ("case.json", "observed.jsonl", "kernel-trace") if word in text]
    assert not found


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_recorded_cluster_is_named(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = [word for word in ("k8s-node1", "k8s-node2", "k8s-master", "192.168.52.") if word in text]
    assert not found


def test_no_corpus_case_is_named(corpus: Path) -> None:
    cases = sorted(case.name for case in corpus.iterdir() if case.is_dir())
    assert cases
    found = [f"{relative(path)}: {case}" for path in FILES for case in cases if case in path.read_text("utf-8")]
    assert not found
