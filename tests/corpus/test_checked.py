"""``netk8s check`` of the healthy cases held against the connections that were made there."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from netk8s import checkup, decode, dialects, snapshot
from netk8s.checkup import Asked, Checkup
from netk8s.survey._questions import ITSELF

HEALTHY = [
    "headline-nodeport-30000", "iptables-legacy-ipvlan-l3s-routed", "iptables-nft-flannel-vxlan", "iptables-nft-nodeport-addresses",
    "iptables-nft-matrix", "nftables-matrix-kp136", "ipvs-rr-matrix",
]  # fmt: skip
NOT_HELD = {
    "iptables-nft-nodeport-addresses/nginx--clusterip--client-routed-via-k8s-node1": "the recording's client has no route",
    "broken-firewall-mix/nginx--nodeport--far-to-k8s-node2": "a rule drops this one client: no check asks as him",
    "iptables-nft-dual-stack/empty-v6--": "the kernel keeps the ICMPv6 error from a socket inside connect() (docs/correctness.md)",
}
"""Flows, or beginnings of their names, and why the connections that were made are not those that are asked about."""
FITS = {
    "delivered": {"connected"}, "refused": {"refused"}, "dropped": {"timeout"}, "unreachable": {"unreachable", "timeout"},
}  # fmt: skip
"""What a client notes of a verdict. Nobody tells it of a next hop that does not answer on a network behind a router."""


@pytest.fixture(scope="module")
def compared() -> ModuleType:
    """Which question a recorded flow is."""
    spec = importlib.util.spec_from_file_location("compared", Path(__file__).with_name("test_compared.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def checked(corpus: Path, case: str) -> Checkup:
    return checkup.check(dialects.complete(decode.decode(snapshot.read([str(corpus / case)]))))


def recorded(compared: ModuleType, corpus: Path, case: str) -> Iterator[tuple[dict[str, Any], Asked]]:
    """Every recorded flow with the question that is it or stands for it."""
    cluster, found = compared.Cluster(corpus, case), checked(corpus, case)
    for flow in compared.recorded(corpus, case).values():
        for each in found.asked:
            if not cluster.fits(flow, each.question) or f"{case}/{flow['id']}".startswith(tuple(NOT_HELD)):
                continue
            # Of a Service's endpoints one is asked about, by one node: its way to itself is not that of another.
            ask = each.question.ask
            same = ask.source == flow["from"] and ask.target.rpartition(":")[0] == flow["dst_ip"]
            if each.question.client != ITSELF or same:
                yield flow, each


def results(flow: dict[str, Any]) -> set[str]:
    return {outcome["result"] for outcome in flow["outcomes"]}


def agree(had: set[str], verdicts: frozenset[str]) -> bool:
    """Whether each result is one of a verdict, and each verdict has a result."""
    return had <= set().union(*(FITS.get(v, set()) for v in verdicts)) and all(
        had & FITS.get(v, set()) for v in verdicts
    )


def cases() -> list[str]:
    """Every case with recorded connections where NETK8S_ALL_CASES is set: minutes. Else HEALTHY."""
    root = os.environ.get("NETK8S_CORPUS")
    folder = Path(root) if root else Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
    if not os.environ.get("NETK8S_ALL_CASES") or not folder.is_dir():
        return HEALTHY
    return sorted(p.parent.name for p in folder.glob("*/observed.jsonl") if p.stat().st_size)


@pytest.mark.parametrize("case", cases())
def test_errors_of_a_healthy_case_are_borne_out_by_connections(
    compared: ModuleType, corpus: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = checked(corpus, case)
    broken = {index for index, problem in enumerate(found.problems) if problem.finding.severity == "error"}
    seen: dict[int, list[set[str]]] = {index: [] for index in broken}
    wrong, failing, told, cells = [], 0, 0, 0
    for flow, each in recorded(compared, corpus, case):
        cells += 1
        had = results(flow)
        if not agree(had, each.walked.verdicts):
            wrong.append(f"{flow['id']}: recorded {sorted(had)}, told {sorted(each.walked.verdicts)}")
        if had != {"connected"}:
            failing += 1
            told += each.fate != "arrives"
        for index in broken & set(each.problems):
            seen[index].append(had)
    false = [
        found.problems[i].finding for i, flows in seen.items() if flows and all(had == {"connected"} for had in flows)
    ]
    held = sum(bool(flows) for flows in seen.values())
    with capsys.disabled():
        print(
            f"\n{case}: {cells} recorded flows; precision of errors {held - len(false)}/{held} "
            f"({len(broken) - held} of flows that were not recorded); recall {told}/{failing}"
        )
    assert not wrong, "\n".join(wrong[:12])
    assert not false, "\n".join(f"{finding.code} {finding.summary}" for finding in false)
    assert cells > 10
    assert told == failing


CAUSES = {
    "broken-firewall-mix": "NK402", "broken-kube-postrouting-flushed": "NK401", "broken-missing-route": "NK404",
    "broken-stale-node": "NK601", "both-backends-legacy-then-nft": "NK603", "both-backends-stale-nft-wins": "NK603",
}  # fmt: skip
"""What was done to these clusters, by the corpus' own account, in the words of a code."""


@pytest.mark.parametrize("case", CAUSES)
def test_the_cause_of_a_broken_case_comes_first(corpus: Path, case: str) -> None:
    first = checked(corpus, case).problems[0].finding
    assert first.code == CAUSES[case], first.summary
    assert first.severity == ("warning" if case == "both-backends-legacy-then-nft" else "error")


def test_what_is_recorded_is_read_from_the_recordings(compared: ModuleType, corpus: Path) -> None:
    line = json.loads((corpus / HEALTHY[0] / "observed.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert results(line) <= set().union(*FITS.values())
