"""What was observed in recorded clusters: what failed is explained, what connected is not called broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netk8s import decode, dialects, findings, snapshot
from netk8s.findings import _reading
from netk8s.model import Ask, World
from netk8s.surroundings import Surroundings
from netk8s.trace import trace

CASES = [
    "broken-firewall-mix",
    "broken-kube-postrouting-flushed",
    "broken-missing-route",
    "broken-stale-node",
    "headline-nodeport-30000",
    "headline-nodeport-30000-kp123",
    "iptables-nft-bridge-nf-off",
    "iptables-nft-cni-ipmasq-forward-drop",
    "iptables-nft-dual-stack",
    "iptables-nft-hairpin-off",
    "iptables-nft-localhost-nodeports-off",
    "iptables-nft-matrix",
    "iptables-nft-matrix-kp123",
    "iptables-nft-portmap-hostport",
    "ipvs-rr-matrix",
    "nftables-dual-stack-kp136",
]

NO_REASON = {"NK101", "NK301", "NK504"}
"""Findings that explain no failure by themselves."""


def flows(folder: Path) -> Iterator[dict[str, Any]]:
    for line in (folder / "observed.jsonl").read_text(encoding="utf-8").splitlines():
        flow = json.loads(line)
        if not flow.get("kind", "").startswith("healthcheck"):
            yield flow


def words(flow: dict[str, Any], family: int) -> Ask:
    sender = flow["from"]
    source = flow["src_ip"] if sender.startswith("client") else sender if "/" in sender else f"node/{sender}"
    host = f"[{flow['dst_ip']}]" if family == 6 else flow["dst_ip"]
    return Ask(
        f"{host}:{flow['dst_port']}",
        protocol=flow["proto"].lower(),
        source=source,
        via=flow.get("via_node") if sender.startswith("client") else None,
    )


@pytest.fixture(scope="module", params=CASES)
def recorded(request: pytest.FixtureRequest, corpus: Path) -> tuple[Path, World]:
    folder = corpus / request.param
    return folder, dialects.complete(decode.decode(snapshot.read([str(folder)])))


def test_findings_agree_with_what_was_observed(recorded: tuple[Path, World]) -> None:
    folder, world = recorded
    wrong = []
    seen = 0
    around: Surroundings | None = None
    for flow in flows(folder):
        asked = dialects.resolve(world, words(flow, 6 if ":" in flow["dst_ip"] else 4))
        around = around.of(asked) if around is not None else Surroundings(world, asked)
        walked = dialects.label(world, trace(world, asked, around))
        found = findings.check(world, walked)
        told = [f"{f.code} {f.severity}" for f in found]
        results = {outcome["result"] for outcome in flow["outcomes"]}
        seen += 1
        if results == {"connected"} and any(f.severity == "error" for f in found):
            wrong.append(f"{flow['id']} connected: {told}")
        if "connected" not in results and not any(f.severity != "info" and f.code not in NO_REASON for f in found):
            wrong.append(f"{flow['id']} {sorted(results)} is not explained: {told}")
        # The words of a walk's end that findings know it by.
        wrong += [f"{flow['id']}: {s.why}" for s in _reading.stops(walked) if s.kind == _reading.OTHER]
    assert seen
    assert not wrong, "\n".join(wrong)
