"""NK101: The endpoint sees another source address than the sender's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s import decode, dialects, findings, snapshot
from netk8s.model import Ask
from netk8s.trace import trace

SEVERITIES = {
    "fires-policy-cluster": "warning",
    "fires-policy-cluster-1.23": "warning",
    "fires-policy-cluster-loadbalancer-1.23": "warning",
    "fires-masquerade-all": "warning",
    "fires-client-of-clusterip": "warning",
    "fires-client-of-clusterip-bridge": "warning",
    "fires-hairpin": "info",
    "fires-node-process": "info",
    "fires-cni-flannel": "info",
    "fires-cni-ipmasq": "info",
    "fires-hostport": "info",
}


@pytest.mark.parametrize("name", SEVERITIES)
def test_only_what_can_be_changed_is_a_warning(name: str, asked: Callable[[str], Any]) -> None:
    assert {finding.severity for finding in asked(f"NK101/{name}").of("NK101")} == {SEVERITIES[name]}


def test_the_evidence_is_the_rule_that_marks_then_the_rule_that_masquerades(asked: Callable[[str], Any]) -> None:
    answer = asked("NK101/fires-policy-cluster")
    (finding,) = answer.of("NK101")
    marks, masquerades = answer.cited(finding)
    assert marks.startswith("-A KUBE-EXT-")
    assert marks.endswith("-j KUBE-MARK-MASQ")
    assert masquerades.startswith("-A KUBE-POSTROUTING")
    assert "MASQUERADE" in masquerades
    assert any(place.startswith("service default/nginx") for place in finding.evidence)
    assert finding.proven


def test_one_service_shows_an_address_of_each_device(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK101/fires-policy-cluster").of("NK101")
    assert "10.244.1.1 (seen by 10.244.1.5:80 and 10.244.1.6:80)" in finding.summary
    assert "192.168.52.201 (seen by 10.244.2.5:80)" in finding.summary


def test_the_remedy_names_the_nodes_that_would_drop(asked: Callable[[str], Any]) -> None:
    (finding,) = asked("NK101/fires-policy-cluster").of("NK101")
    assert "kubectl -n default patch svc nginx" in finding.remedy
    assert "k8s-master drops" in finding.remedy
    assert "PROXY protocol" in finding.remedy
    # default/nginx is of type NodePort, which has no healthCheckNodePort.
    assert "load balancer has to check the port of each node" in finding.remedy


def test_datagrams_are_not_told_to_use_http(corpus: Path) -> None:
    world = dialects.complete(decode.decode(snapshot.read([str(corpus / "iptables-nft-matrix")])))
    traced = dialects.label(world, trace(world, dialects.resolve(world, Ask("svc/dns-np", "30053"))))
    (finding,) = [f for f in findings.check(world, traced) if f.code == "NK101"]
    assert "externalTrafficPolicy: Local keeps the address" in finding.remedy
    assert "PROXY" not in finding.remedy


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fires-masquerade-all", "masqueradeAll: false"),
        ("fires-client-of-clusterip", "the masquerade is needed"),
        ("fires-node-process", "Nothing is lost"),
        ("fires-hairpin", "would not accept a packet from its own address"),
        ("fires-hostport", "snat: false"),
        ("fires-cni-flannel", "nonMasqueradeCIDRs"),
    ],
)
def test_the_remedy_fits_the_case(name: str, words: str, asked: Callable[[str], Any]) -> None:
    assert all(words in finding.remedy for finding in asked(f"NK101/{name}").of("NK101"))


def test_ipvs_mode_does_not_drop_for_lack_of_an_endpoint(corpus: Path) -> None:
    case = corpus / "ipvs-rr-matrix"
    recorded = [json.loads(line) for line in (case / "observed.jsonl").read_text().splitlines()]
    # externalTrafficPolicy Local in IPVS mode: asked of a node without an endpoint, another node's answers.
    (local,) = [r for r in recorded if r["id"] == "web-local--nodeport--client-to-k8s-node1"]
    assert {o["endpoint"].rpartition(".")[0] for o in local["outcomes"]} == {"10.244.2"}
    world = dialects.complete(decode.decode(snapshot.read([str(case)])))
    for target, port in (("svc/nginx", "30000"), ("192.168.52.250", "8443")):
        traced = dialects.label(world, trace(world, dialects.resolve(world, Ask(target, port))))
        (finding,) = [f for f in findings.check(world, traced) if f.code == "NK101"]
        assert "externalTrafficPolicy: Local keeps the address" in finding.remedy
        assert "to other nodes' endpoints, unmasqueraded by kube-proxy" in finding.remedy
        assert "drop" not in finding.remedy
        assert "healthCheckNodePort" not in finding.remedy


@pytest.mark.parametrize("case", ["nftables-matrix", "nftables-matrix-kp136", "ipvs-rr-matrix"])
def test_who_asked_for_it_in_the_other_proxy_modes(corpus: Path, case: str) -> None:
    world = dialects.complete(decode.decode(snapshot.read([str(corpus / case)])))

    def lost(ask: Ask) -> list[str]:
        traced = dialects.label(world, trace(world, dialects.resolve(world, ask)))
        return [f.summary for f in findings.check(world, traced) if f.code == "NK101"]

    (outside,) = lost(Ask("svc/nginx", "30000", via="k8s-node1"))
    assert "externalTrafficPolicy of default/nginx is Cluster" in outside
    assert not any("externalTrafficPolicy" in text for text in lost(Ask("svc/nginx", "80", source="node/k8s-node1")))
