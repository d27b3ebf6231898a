"""Answers held against recorded connections and the kernel's own rule-by-rule traces, in one process.

The judging is that of the recordings' own judge, loaded by path; only the starting of a process per
question is left out.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from netk8s import decode, dialects, findings, snapshot
from netk8s.errors import Netk8sError
from netk8s.model import Ask, Report, World
from netk8s.render.document import document
from netk8s.trace import trace

# The whole set: every flow and every kernel path of these has to be right.
RIGHT = [
    "both-backends-legacy-then-nft",
    "both-backends-stale-nft-wins",
    "headline-nodeport-30000",
    "headline-nodeport-30000-kp123",
    "iptables-legacy-ipvlan-l2",
    "iptables-legacy-ipvlan-l3",
    "iptables-legacy-ipvlan-l3-routed",
    "iptables-legacy-ipvlan-l3s",
    "iptables-legacy-ipvlan-l3s-routed",
    "iptables-legacy-matrix",
    "iptables-nft-detect-local-bridge",
    "iptables-nft-localhost-nodeports-off",
    "iptables-nft-macvlan-bridge",
    "iptables-nft-masquerade-all",
    "iptables-nft-matrix",
    "iptables-nft-matrix-kp123",
    "iptables-nft-matrix-kp136",
    "iptables-nft-no-cluster-cidr",
    "iptables-nft-nodeport-addresses",
    "ipvs-rr-matrix",
    "nftables-dual-stack-kp136",
    "nftables-matrix",
    "nftables-matrix-kp136",
]

# Flows whose recording cannot be right, and why. They are asked all the same and must not come out right:
# when the recording is mended, this table has to lose its line.
RECORDING_AT_FAULT = {
    ("iptables-nft-nodeport-addresses", "nginx--clusterip--client-routed-via-k8s-node1"): (
        "the client has no route to the service range in this case (client_and_router_routes of its case.json has none,"
        " that of every other case with this flow has one), so no packet came to k8s-node1: its rule for what is not a"
        " pod counts 60 connections, 60 less than in iptables-nft-detect-local-bridge, and some attempts were"
        " answered by the router"
    ),
}

# Flows that fail in two ways: half of the connections for ever in silence (the answer bypasses the node that translated),
# the other half unreachable, which the node says when ARP has failed for three seconds (net.ipv4.neigh: three probes,
# one second apart). The recording waited 0.85 s, so both halves are timeouts in it, and the judge counts all of
# them for the half it asks for first. Told as one kind of silence they have to come out right, and not otherwise.
SILENT_SO_FAR = {
    (case, flow)
    for case in ("iptables-legacy-ipvlan-l2", "iptables-nft-macvlan-bridge")
    for flow in (
        "web--clusterip--client-routed-via-k8s-node1",
        "web-local--nodeport--client-to-k8s-node1",
        "web-local--nodeport--client-to-k8s-node2",
        "web-local--nodeport--toolbox-1-to-k8s-node2",
        "web-local--nodeport--toolbox-2-to-k8s-node1",
        "web-local--clusterip--client-routed-via-k8s-node1",
    )
}

# Kernel paths that the judge reads wrongly, with the words of what it then misses. They must not come out right either.
TRACE_MISREAD = {
    ("ipvs-rr-matrix", "lb-ranges--lb-192.168.52.242--far"): (
        # The TRACE target calls a rule without matches and with a standard verdict "return" (ip_tables.c
        # get_chainname_rulenum): KUBE-SOURCE-RANGES-FIREWALL:return:3 is that chain's third and last rule, its DROP,
        # and the end of the chain would be number 4. The judge reads only lines that say "rule".
        "kernel next [], predicted next [('filter', 'KUBE-SOURCE-RANGES-FIREWALL', '-A KUBE-SOURCE-RANGES-FIREWALL -j DROP')]"
    ),
}

# The others must not get worse. `NETK8S_RATCHET=update` writes the table again.
RATCHET = Path(__file__).with_name("ratchet.json")
UPDATE = os.environ.get("NETK8S_RATCHET") == "update"
TABLE: dict[str, dict[str, int]] = json.loads(RATCHET.read_text(encoding="utf-8")) if RATCHET.exists() else {}

SHOWN = 12


@dataclass
class Score:
    """How the flows of one case came out, and a line for each that is not right."""

    flows: int = 0
    right: int = 0
    wrong: int = 0
    unknown: int = 0
    error: int = 0
    paths: int = 0
    path_right: int = 0
    misses: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        return {
            "right": self.right,
            "wrong": self.wrong,
            "unknown": self.unknown,
            "error": self.error,
            "path_right": self.path_right,
        }

    def told(self, title: str) -> str:
        more = len(self.misses) - SHOWN
        return "\n".join([title, *self.misses[:SHOWN], *([f"and {more} more"] if more > 0 else [])])


@functools.cache
def judge(corpus: Path) -> ModuleType:
    path = corpus.parent / "tools" / "judge.py"
    spec = importlib.util.spec_from_file_location("judge", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(world: World, argv: list[str]) -> dict[str, Any]:
    """What ``netk8s trace`` with these words prints as JSON, for a world that is decoded already."""
    target, *rest = argv[2:]
    given = dict(zip(rest[::2], rest[1::2], strict=True))
    ask = Ask(target, protocol=given["--protocol"], source=given["--from"], via=given.get("--via"))
    walked = trace(world, dialects.resolve(world, ask))
    named = dialects.label(world, walked)
    report = Report(named, findings.check(world, named))
    return msgspec.json.decode(msgspec.json.encode(document(report)))


def silent(got: dict[str, Any]) -> dict[str, Any]:
    """An answer as it is seen by one who waits shorter than a node waits for ARP."""
    kinds = {outcome["verdict"] for outcome in got["outcomes"]}
    assert {"dropped", "unreachable"} <= kinds, kinds
    odds = sum(outcome["odds"] for outcome in got["outcomes"] if outcome["verdict"] in ("dropped", "unreachable"))
    kept = [outcome for outcome in got["outcomes"] if outcome["verdict"] not in ("dropped", "unreachable")]
    return {**got, "outcomes": [*kept, {"verdict": "dropped", "odds": odds}]}


@functools.cache
def scored(corpus: Path, name: str) -> Score:
    judging = judge(corpus)
    folder = corpus / name
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    score = Score()
    try:
        world = decode.decode(snapshot.read([str(folder)]))
    except Netk8sError as error:
        world, undecoded = None, error
    for line in (folder / "observed.jsonl").read_text(encoding="utf-8").splitlines():
        flow = json.loads(line)
        if flow.get("kind") in judging.SKIP_KINDS:
            continue
        score.flows += 1
        argv = judging.command("netk8s", folder, case, flow)
        recorded = folder / "kernel-trace" / f"{flow['id']}.txt"
        try:
            if world is None:
                raise undecoded
            got = answer(world, argv)
        except Netk8sError as error:
            score.error += 1
            score.paths += recorded.exists()
            score.misses.append(f"{flow['id']}: error: {type(error).__name__}: {error}")
            continue
        verdict, why = judging.compare_outcomes(flow, got)
        if (name, flow["id"]) in SILENT_SO_FAR:
            assert verdict == "wrong", f"{flow['id']} is {verdict}: take it out of SILENT_SO_FAR"
            verdict, why = judging.compare_outcomes(flow, silent(got))
        if (name, flow["id"]) in RECORDING_AT_FAULT:
            assert verdict == "wrong", f"{flow['id']} is {verdict}: take it out of RECORDING_AT_FAULT"
            score.flows -= 1
            continue
        setattr(score, verdict, getattr(score, verdict) + 1)
        if verdict != "right":
            score.misses.append(f"{flow['id']}: {verdict}: {why[:600]}")
        if recorded.exists():
            same, why = judging.compare_paths(recorded, got)
            if misread := TRACE_MISREAD.get((name, flow["id"])):
                assert not same, f"{flow['id']} is right: take it out of TRACE_MISREAD"
                assert misread in why
            elif same is not None:
                score.paths += 1
                score.path_right += same
                if not same:
                    score.misses.append(f"{flow['id']}: path wrong: {why[:600]}")
    return score


@pytest.mark.parametrize("name", RIGHT)
def test_every_flow_and_every_kernel_path_is_right(corpus: Path, name: str) -> None:
    score = scored(corpus, name)
    assert score.flows
    assert (score.right, score.path_right) == (score.flows, score.paths), score.told(
        f"{name}: {score.right} of {score.flows} flows, {score.path_right} of {score.paths} kernel paths right"
    )


@pytest.mark.skipif(UPDATE, reason="the table is being written")
@pytest.mark.parametrize("name", sorted(TABLE))
def test_no_other_case_gets_worse(corpus: Path, name: str) -> None:
    kept, score = TABLE[name], scored(corpus, name)
    now = score.counts()
    worse = [key for key in ("right", "path_right") if now[key] < kept[key]]
    worse += [key for key in ("wrong", "error") if now[key] > kept[key]]
    assert not worse, score.told(f"{name}: {', '.join(worse)}: {now}, kept {kept}")


def test_the_table_has_every_case_with_flows(corpus: Path) -> None:
    others = sorted(path.parent.name for path in corpus.glob("*/observed.jsonl") if path.stat().st_size)
    others = [name for name in others if name not in RIGHT and not name.startswith("scale-")]
    assert others
    if UPDATE:
        table = {name: scored(corpus, name).counts() for name in others}
        RATCHET.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    else:
        assert sorted(TABLE) == others, "NETK8S_RATCHET=update writes the table"
