"""Mismatches once found, kept as JSON files: a ruleset, a packet, and what the kernel did with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .differential import Bench, Pair
from .frames import Probe
from .generate_rules import RuleSet, Sending
from .observation import Observation
from .prediction import Difference, differences, predicted_ways, world_with_rules

FOLDER = Path(__file__).parent / "regressions"


@dataclass(frozen=True, slots=True)
class Regression:
    """One case. ``kernel`` is what is compared: verdict, answer, rule path, headers and device."""

    name: str
    why: str
    backend: str
    family: int
    rules: str
    sending: Sending
    kernel: dict[str, Any]


def summary(seen: Observation) -> dict[str, Any]:
    """An observation as JSON has it, without what differs from one run to the next."""
    return {
        "verdict": seen.verdict,
        "answer": seen.answer,
        "oif": seen.oif,
        "headers": asdict(seen.headers),
        "path": [[step.table, step.chain, step.rule] for step in seen.path],
    }


def save(name: str, why: str, pair: Pair, folder: Path = FOLDER) -> Path:
    folder.mkdir(exist_ok=True)
    case = {
        "why": why,
        "backend": pair.backend,
        "family": pair.rules.family,
        "rules": _without_empty(pair.rules).splitlines(),
        "iif": pair.sending.iif,
        "packet": asdict(pair.sending.probe),
        "kernel": summary(pair.observation),
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(case, indent=1) + "\n")
    return path


def _without_empty(rules: RuleSet) -> str:
    """The whole text: every table is named, so that replaying leaves nothing of an earlier case."""
    return rules.text()


def load(path: Path) -> Regression:
    case = json.loads(path.read_text())
    packet = {**case["packet"], "tcp_flags": tuple(case["packet"]["tcp_flags"])}
    return Regression(
        path.stem,
        case["why"],
        case["backend"],
        case["family"],
        "\n".join(case["rules"]) + "\n",
        Sending(case["iif"], Probe(**packet)),
        case["kernel"],
    )


def every() -> list[Regression]:
    return [load(path) for path in sorted(FOLDER.glob("*.json"))]


def replay(bench: Bench, case: Regression) -> tuple[Observation, tuple[Difference, ...]]:
    """What the kernel does with the case now, and in what netk8s differs."""
    saved = bench.node.load_text(case.family, case.rules)
    seen = bench.node.observe(case.sending)
    world = world_with_rules(bench.snapshot, case.family, saved)
    return seen, differences(seen, predicted_ways(world, case.sending))
