"""Mismatches once found under native nftables rules, kept as JSON files: what is loaded, a packet, what the kernel did."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .frames import Probe
from .generate_rules import Sending
from .nft_differential import Loading, NftBench, NftPair
from .observation import Observation
from .prediction import Difference
from .regressions import summary

FOLDER = Path(__file__).parent / "regressions" / "nft"


@dataclass(frozen=True, slots=True)
class NftRegression:
    """One case. ``kernel`` is what is compared: verdict, answer, rule path, headers and device."""

    name: str
    why: str
    loading: Loading
    sending: Sending
    kernel: dict[str, Any]


def save(name: str, why: str, pair: NftPair, folder: Path = FOLDER) -> Path:
    folder.mkdir(exist_ok=True)
    loading = pair.loaded.loading
    case: dict[str, Any] = {
        "why": why,
        "nft": loading.nft.splitlines(),
        "iptables": [[backend, family, text.splitlines()] for backend, family, text in loading.iptables],
        "refill": loading.refill.splitlines(),
        "iif": pair.sending.iif,
        "packet": asdict(pair.sending.probe),
        "kernel": _summary(pair.observation),
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(case, indent=1) + "\n")
    return path


def load(path: Path) -> NftRegression:
    case = json.loads(path.read_text())
    packet = {**case["packet"], "tcp_flags": tuple(case["packet"]["tcp_flags"])}
    loading = Loading(
        _text(case["nft"]), tuple((b, f, _text(lines)) for b, f, lines in case["iptables"]), _text(case["refill"])
    )
    return NftRegression(path.stem, case["why"], loading, Sending(case["iif"], Probe(**packet)), case["kernel"])


def _text(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def every() -> list[NftRegression]:
    return [load(path) for path in sorted(FOLDER.glob("*.json"))]


def replay(bench: NftBench, case: NftRegression) -> tuple[dict[str, Any], tuple[Difference, ...]]:
    """What the kernel does with the case now, and in what netk8s differs."""
    loaded = bench.load(case.loading)
    (pair,) = bench.judge(loaded, [case.sending])
    return _summary(pair.observation), pair.differences


def _summary(seen: Observation) -> dict[str, Any]:
    """As of any observation; a port that a rule has chosen by chance is None."""
    told = summary(seen)
    if any(re.search(r"(snat|masquerade).* (fully-)?random", step.rule) for step in seen.path):
        told["headers"]["sport"] = None
    return told
