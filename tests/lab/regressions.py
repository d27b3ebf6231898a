"""Mismatches once found, kept as JSON files: a ruleset, a packet, and what the kernel did with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from .differential import Bench, Pair
from .frames import Probe
from .generate_rules import USUAL, Device, Layout, RuleSet, Sending
from .observation import Observation
from .prediction import Difference, differences, predicted, predicted_ways, source_differences, world_with_rules

FOLDER = Path(__file__).parent / "regressions"


@dataclass(frozen=True, slots=True)
class Regression:
    """One case. ``kernel`` is what is compared: verdict, answer, rule path, headers and device.

    A packet from no address (0.0.0.0, ::) is a socket that asks for one.
    """

    name: str
    why: str
    backend: str
    family: int
    rules: str
    sending: Sending
    kernel: dict[str, Any]
    layout: Layout = USUAL


def summary(seen: Observation) -> dict[str, Any]:
    """An observation as JSON has it, without what differs from one run to the next."""
    return {
        "verdict": seen.verdict,
        "answer": seen.answer,
        "oif": seen.oif,
        "headers": asdict(seen.headers),
        "path": [[step.table, step.chain, step.rule] for step in seen.path],
    }


def save(name: str, why: str, pair: Pair, layout: Layout = USUAL, folder: Path = FOLDER) -> Path:
    folder.mkdir(exist_ok=True)
    case: dict[str, Any] = {
        "why": why,
        "backend": pair.backend,
        "family": pair.rules.family,
        "rules": _without_empty(pair.rules).splitlines(),
        "iif": pair.sending.iif,
        "packet": asdict(pair.sending.probe),
        "kernel": summary(pair.observation),
    }
    if layout != USUAL:
        case["layout"] = asdict(layout)
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
        _layout(case["layout"]) if "layout" in case else USUAL,
    )


def _layout(case: dict[str, Any]) -> Layout:
    devices = tuple(Device(d["name"], tuple(d["addresses"]), tuple(d["routes"])) for d in case["devices"])
    texts = {name: tuple(case[name]) for name in ("local", "remote", "nets", "rules", "routes")}
    return Layout(devices, sysctls=tuple((name, value) for name, value in case["sysctls"]), **texts)


def every() -> list[Regression]:
    return [load(path) for path in sorted(FOLDER.glob("*.json"))]


def replay(bench: Bench, case: Regression) -> tuple[Observation, tuple[Difference, ...]]:
    """What the kernel does with the case now, and in what netk8s differs."""
    saved = bench.node.load_text(case.family, case.rules)
    world = world_with_rules(bench.snapshot, case.family, saved)
    probe = case.sending.probe
    if ip_address(probe.src).is_unspecified:
        seen = bench.node.ask_source(probe.dst, probe.dport, probe.mark)
        return seen, source_differences(seen, predicted(world, case.sending))
    seen = bench.node.observe(case.sending)
    return seen, differences(seen, predicted_ways(world, case.sending))
