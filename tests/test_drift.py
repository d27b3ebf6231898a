"""The API's wish against the nodes, in every mode: recorded clusters as they are, and with faults put into their dumps."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, drift, snapshot
from netk8s.drift import Drift
from netk8s.model import Dump, Snapshot

IPTABLES, IPVS, NFTABLES = "iptables-nft-matrix", "ipvs-rr-matrix", "nftables-matrix-kp136"

WRONG = {
    "broken-stale-node": {("k8s-node2", drift.STALE): 4, ("k8s-node2", drift.MISSING): 4, ("k8s-node2", drift.LAG): 1},
    **{
        case: {(node, drift.LEFT): 1 for node in ("k8s-master", "k8s-node1", "k8s-node2")}
        for case in ("both-backends-legacy-then-nft", "both-backends-stale-nft-wins")
    },
}
"""What was done to recorded clusters on purpose. All others were up to date when they were recorded."""


def judged(taken: Snapshot) -> Drift:
    world = dialects.complete(decode.decode(taken))
    return drift.drift(world, dialects.programmed(world))


def test_recorded_clusters_have_the_drift_that_was_made_and_no_other(corpus: Path) -> None:
    seen = 0
    for case in sorted(path for path in corpus.iterdir() if (path / "cluster/services.json").is_file()):
        if case.name.startswith("scale"):
            continue
        found = judged(snapshot.read([str(case)]))
        told = Counter((each.node, each.kind) for each in found.differences)
        assert told == WRONG.get(case.name, {}), case.name
        assert len(found.judged) == 3, case.name
        seen += 1
    assert seen > 30


def changed(dump: Dump, file: str, what: str, by: str) -> Dump:
    if not dump.origin.endswith(file):
        return dump
    text = bytes(dump.data).decode()
    new = re.sub(what, by, text)
    assert new != text, f"{file}: {what}"
    return replace(dump, data=new.encode())


@pytest.mark.parametrize(
    ("case", "file", "what", "by", "kinds"),
    [
        (IPVS, "k8s-node1/ipvsadm-save.txt", r"(-r )10\.244\.1\.24:8080", r"\g<1>10.244.1.99:8080", {drift.STALE, drift.MISSING}),
        (IPVS, "k8s-node1/ipvsadm-save.txt", r"(-r )10\.244\.1\.24:8080", r"\g<1>10.244.1.24:9999", {drift.PORT}),
        (IPVS, "k8s-node1/ipvsadm-save.txt", r"(?m)^-a .* -r 10\.244\.1\.24:8080 .*\n", "", {drift.MISSING}),
        (IPVS, "k8s-node1/ipvsadm-save.txt", r"(?m)^-[Aa] -t 10\.96\.52\.1:8000 .*\n", "", {drift.ABSENT}),
        (IPVS, "k8s-node1/ipvsadm-save.txt", r"(-A -t 10\.96\.60\.10:80 .*)-p 600", r"\g<1>-p 900", {drift.AFFINITY}),
        (IPVS, "k8s-node1/ipvsadm-save.txt", r"(-A -t 10\.96\.120\.30:80 -s )rr((?:\n-a .*)*?\n-a .* -r 10\.244\.1\.6:80 .*)-w 1", r"\g<1>wrr\g<2>-w 5", {drift.ODDS}),
        (IPVS, "k8s-node1/ipset-save.txt", r"(?m)^add KUBE-NODE-PORT-LOCAL-TCP \d+\n", "", {drift.POLICY}),
        # rr asks of a weight only whether it is 0.
        (IPVS, "k8s-node1/ipvsadm-save.txt", r"(-a -t 10\.96\.120\.30:80 -r 10\.244\.1\.6:80 .*)-w 1", r"\g<1>-w 5", set()),
        (IPVS, "cluster/services.json", r'"clusterIP": "10\.96\.52\.1",\s*"clusterIPs": \[\s*"10\.96\.52\.1"', '"clusterIP": "10.96.52.2","clusterIPs": ["10.96.52.2"', {drift.ABSENT, drift.UNKNOWN, drift.LAG}),
        (IPTABLES, "k8s-node1/iptables-save.txt", r"--to-destination 10\.244\.1\.24:8080", "--to-destination 10.244.1.24:81", {drift.PORT}),
        (IPTABLES, "cluster/endpointslices.json", r'"10\.244\.1\.24"', '"10.244.1.99"', {drift.STALE, drift.MISSING}),
    ],
)  # fmt: skip
def test_faults_are_seen_in_every_mode(corpus: Path, case: str, file: str, what: str, by: str, kinds: set[str]) -> None:
    taken = snapshot.read([str(corpus / case)])
    # One listing of the virtual servers: the others say the same.
    kept = tuple(dump for dump in taken.dumps if not dump.origin.endswith(("ipvsadm-Ln.txt", "ipvsadm-stats.txt")))
    found = judged(replace(taken, dumps=tuple(changed(dump, file, what, by) for dump in kept)))
    assert {each.kind for each in found.differences} - {drift.LAG} == kinds - {drift.LAG}
    assert all(each.at for each in found.differences)


@pytest.mark.parametrize(
    ("what", "by", "kinds"),
    [
        (r"10\.244\.1\.24 \. 8080", "10.244.1.99 . 8080", {drift.STALE, drift.MISSING}),
        (r"10\.244\.1\.24 \. 8080", "10.244.1.24 . 81", {drift.PORT}),
    ],
)
def test_faults_are_seen_in_nftables_mode(corpus: Path, what: str, by: str, kinds: set[str]) -> None:
    taken = snapshot.read([str(corpus / NFTABLES)])
    # The text alone: beside it the JSON says the same.
    kept = tuple(dump for dump in taken.dumps if not dump.origin.endswith("nft-ruleset.json"))
    dumps = tuple(changed(dump, "k8s-node1/nft-ruleset.txt", what, by) for dump in kept)
    assert {each.kind for each in judged(replace(taken, dumps=dumps)).differences} == kinds


def test_nothing_is_said_of_what_the_dumps_do_not_have(corpus: Path) -> None:
    taken = snapshot.read([str(corpus / IPVS)])
    without = tuple(dump for dump in taken.dumps if "ipvsadm" not in dump.origin)
    assert judged(replace(taken, dumps=without)) == Drift()
    without = tuple(dump for dump in taken.dumps if not dump.origin.endswith("endpointslices.json"))
    assert judged(replace(taken, dumps=without)) == Drift()
