"""`microk8s inspect` keeps the cluster's objects, and of the rules what leaves parts of them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from netk8s import snapshot
from tests.layouts.conftest import ends, world
from tests.layouts.test_cluster_info import printed

TOP = "inspection-report"


def files(objects: dict[str, list[dict[str, Any]]]) -> dict[str, bytes]:
    return {
        f"{TOP}/args/kube-proxy": b"--cluster-cidr=10.1.0.0/16\n",
        f"{TOP}/apparmor/dmesg": b"[    0.000000] Linux version 6.1\n",
        f"{TOP}/k8s/cluster-info-dump": printed(objects),
        f"{TOP}/k8s/get-all": b"NAMESPACE NAME\n",
        f"{TOP}/network/iptables": b"Chain PREROUTING (policy ACCEPT 1 packets, 60 bytes)\n",
        f"{TOP}/network/iptables-S": b"-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n",
        f"{TOP}/snap.microk8s.daemon-kubelite/journal.log": b"*nat\nCOMMIT\n",
    }


def test_the_table_filter_alone_is_not_taken_for_all_rules(
    objects: dict[str, list[dict[str, Any]]], pack: Callable[..., Path], example: Path
) -> None:
    path = pack(files(objects), "inspection-report-20260101_000000.tar.gz")
    found = snapshot.read([str(path)])
    assert [dump.origin for dump in found.dumps] == [f"{TOP}/k8s/cluster-info-dump"]
    assert [gap.what for gap in found.missing] == ["the node's rules"]
    assert "iptables-save" in found.missing[0].needed_for
    assert not world(path).nodes
    beside = world(path, example / "nodes/k8s-node1")
    assert ends(beside) == ends(world(example / "nodes/k8s-node1", example / "cluster"))


def test_rules_printed_whole_into_the_report_are_read(
    objects: dict[str, list[dict[str, Any]]], pack: Callable[..., Path], example: Path
) -> None:
    more = {f"{TOP}/network/iptables-save": (example / "nodes/k8s-node1/iptables-save.txt").read_bytes()}
    found = snapshot.read([str(pack(files(objects) | more))], node="mine")
    assert {dump.node for dump in found.dumps} == {None, "mine"}
    assert not found.missing
