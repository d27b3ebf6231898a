"""The words that name an entry of a recorded cluster give the packet that was sent there: every entry, every mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netk8s import decode, snapshot
from netk8s.dialects import complete, resolve
from netk8s.model import Ask

CASES = (
    "iptables-nft-matrix",
    "ipvs-rr-matrix",
    "nftables-matrix-kp136",
    "iptables-nft-dual-stack",
    "iptables-nft-portmap-hostport",
)
KINDS = {"loadbalancer": "loadbalancer", "external-ip": "external-ip", "clusterip-from-outside": "clusterip",
         "clusterip": "clusterip", "nodeport": "nodeport", "healthcheck-nodeport": "healthcheck"}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_words_give_the_recorded_packet(corpus: Path, case: str) -> None:
    world = complete(decode.decode(snapshot.read([str(corpus / case)])))
    nodes = {str(ip): n for n in world.nodes for ip in (a.ip for a in world.nodes[n].addresses)}
    wrong, asked = [], set()
    for line in (corpus / case / "observed.jsonl").read_text().splitlines():
        fact = json.loads(line)
        kind = KINDS.get(fact.get("kind"))
        if kind is None:
            continue
        family = "6" if ":" in fact["dst_ip"] else "4"
        source = fact["from"] if fact["from"].startswith("pod/") else fact["src_ip"]
        by_service = kind in ("nodeport", "clusterip", "healthcheck")
        at = nodes.get(fact["dst_ip"])
        ask = Ask(
            f"svc/{fact['service']}" if by_service else fact["dst_ip"],
            str(fact["dst_port"]),
            fact["proto"].lower() if kind != "healthcheck" else None,
            source,
            via=at if kind in ("nodeport", "healthcheck") else fact.get("via_node"),
            family=family,
        )
        flow = resolve(world, ask)
        packet = flow.packet
        asked.add(fact["kind"])
        got = (str(packet.dst), packet.dport, flow.kind, flow.service)
        if got != (fact["dst_ip"], fact["dst_port"], kind, fact["service"]):
            wrong.append((fact["id"], got))
    assert not wrong
    assert {"clusterip", "nodeport"} <= asked
