"""Single paths, each with real packets and netk8s' answer to the same question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netk8s import decode, snapshot

from .cluster import Cluster
from .connections import differs, predicted
from .generate_cluster import Asked
from .topology import NodeSpec, Topology, two_nodes

pytestmark = pytest.mark.lab


def results(cluster: Cluster, folder: Path, asked: list[Asked]) -> list[tuple[str, str | None]]:
    """(result, source seen) of a connection for each question, all of which netk8s must have told."""
    cluster.snapshot(folder)
    world = decode.decode(snapshot.read([str(folder)]))
    out, wrong = [], []
    for each in asked:
        answer = cluster.connect(each.source, each.ip, each.port, each.protocol)
        out.append((answer.result, answer.seen_src_ip))
        outcomes = predicted(world, each, cluster)
        assert not any(o.verdict == "unknown" for o in outcomes), (each, outcomes)
        if difference := differs(each, [answer], outcomes):
            wrong.append(f"{each}: {difference}")
    assert not wrong, "\n".join(wrong)
    return out


def first_node(topology: Topology, **changes: object) -> Topology:
    """The topology with its first node changed."""
    first: NodeSpec = replace(topology.nodes[0], **changes)  # type: ignore[arg-type]
    return replace(topology, nodes=(first, *topology.nodes[1:]))


@pytest.mark.parametrize("bridge_nf", [True, False])
def test_a_bridge_translates_ipv6_for_its_own_pods_without_forwarding(bridge_nf: bool, tmp_path: Path) -> None:
    """br_nf_pre_routing_finish_ipv6 finds a route in spite of the setting, br_nf_pre_routing_finish does not."""
    off = {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"}
    with Cluster(first_node(two_nodes(), sysctls=off, bridge_nf=bridge_nf)) as cluster:
        cluster.load_kube_rules("nft")
        asked = [
            Asked(f"pod/default/{pod}", ip, 80)
            for pod in ("nginx-a", "nginx-b") for ip in ("10.96.120.31", "fd00:10:96::31")
        ]  # fmt: skip
        silence = ("timeout", None)
        assert results(cluster, tmp_path, asked) == (
            [silence, ("connected", "fd00:10:244:1::1"), silence, ("connected", "fd00:10:244:1::6")]
            if bridge_nf
            else [silence] * 4
        )
