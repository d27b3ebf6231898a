"""What the IPVS fuzzer does inside user-mode Linux: one cluster, setup after setup, connections through each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cluster import Cluster
from .frames import parse_ip
from .generate_ipvs import NODE, ROUTES, SETUPS_A_BOOT, sets_made, topology, virtual_ips
from .netlink import LegacyTrace
from .rules import EMPTY_RULES
from .uml_cases import SILENT, in_namespace_of

PATIENCE = 0.35
"""Seconds for an answer, all in one kernel. A row that is answered only sometimes is asked with more."""
LONG_PATIENCE = 0.9
TRACES = [("raw", chain, ["-j", "TRACE"]) for chain in ("PREROUTING", "OUTPUT")]


def run(folder: Path, setups: Sequence[dict[str, Any]]) -> int:
    """Leaves the cluster's snapshot in ``folder``, and of each setup NUMBER.json: its dumps, and what was seen."""
    with Cluster(topology()) as cluster:
        node = cluster.host(NODE)
        cluster.host("router").call("ip", [f"route add {route}" for route in ROUTES])
        cluster.load_sets(NODE, sets_made())
        bits = {4: 32, 6: 128}
        ips = [f"{ip}/{bits[f]}" for n in range(SETUPS_A_BOOT) for f, ip in virtual_ips(n).items()]
        cluster.load_virtual_servers(NODE, "", ips)
        for source in ("k8s-node1", "k8s-node2"):
            cluster.host(source).call("sysctl", {"net.ipv4.conf.all.send_redirects": "0"})
        for name in (NODE, "k8s-node2"):
            for family in (4, 6):
                cluster.load(name, EMPTY_RULES, "legacy", family)
        cluster.snapshot(folder)
        for command in ("iptables-legacy", "ip6tables-legacy"):
            for table, chain, target in TRACES:
                node.call("run", [command, "-t", table, "-A", chain, *target])
        with in_namespace_of(node.pid):
            log = LegacyTrace()
        for number, setup in enumerate(setups):
            told = _one(cluster, setup, log)
            (folder / f"{number}.json").write_text(json.dumps(told))
        log.close()
    return len(setups)


def _one(cluster: Cluster, setup: dict[str, Any], log: LegacyTrace) -> dict[str, Any]:
    node = cluster.host(NODE)
    node.call("run", ["ipvsadm", "-C"])
    node.call("run", ["ipset", "restore"], setup["sets"])
    for family, text in setup["rules"].items():
        node.call("load", "legacy", int(family), text)
    node.call("sysctl", setup["sysctls"])
    node.call("run", ["ipvsadm", "--restore"], setup["servers"])
    dumps = {
        "ipvsadm-save.txt": node.call("run", ["ipvsadm", "--save", "-n"]),
        "ipvsadm-Ln.txt": node.call("run", ["ipvsadm", "-Ln"]),
        "ipset-save.txt": node.call("run", ["ipset", "save"]),
        "iptables-save.txt": _without_raw(node.call("save", "legacy", 4)),
        "ip6tables-save.txt": _without_raw(node.call("save", "legacy", 6)),
    }
    return {"dumps": dumps, "seen": [_asked(cluster, asked, log) for asked in setup["asked"]]}


def _asked(cluster: Cluster, asked: dict[str, Any], log: LegacyTrace) -> list[dict[str, Any]]:
    """One answer after the other, each with the rules of its first packet."""
    seen = _ask(cluster, asked, log, PATIENCE)
    silent = sum(answer["result"] in SILENT for answer in seen)
    if 0 < silent < len(seen):
        # An endpoint that is silent, or a machine that was busy: with more patience it shows.
        return _ask(cluster, asked, log, LONG_PATIENCE)
    return seen


def _ask(cluster: Cluster, asked: dict[str, Any], log: LegacyTrace, patience: float) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    for _ in range(asked["times"]):
        for _ in log.read():
            pass
        answer = cluster.host(asked["source"]).call(
            "connect", asked["ip"], asked["port"], asked["protocol"], timeout=patience
        )
        seen.append({**asdict(answer), "path": _first_packet(log, asked["protocol"])})
        if len(seen) == 2 and all(one["result"] in SILENT for one in seen):
            break
    return seen


def _first_packet(log: LegacyTrace, protocol: str) -> list[tuple[str, str, int]]:
    """(table, chain, rule number) of the first packet that the node's rules met; an answer comes after it."""
    found: list[tuple[str, str, int]] = []
    first: object = None
    for event in log.read():
        packet = parse_ip(event.header)
        if packet is None or event.table == "raw" or (protocol == "tcp" and packet.tcp_flags != {"SYN"}):
            continue
        if protocol == "udp" and packet.protocol != 17:
            continue
        # Rewritten on its way, it keeps its identification (IPv4) or flow label (IPv6) until the next packet is made.
        first = packet.tag if first is None else first
        if protocol == "udp" and packet.tag != first:
            continue
        found.append((event.table, event.chain, event.number))
    return found


def _without_raw(text: str) -> str:
    before, _, after = text.partition("*raw\n")
    return before.rpartition("# Generated")[0] + after.partition("COMMIT\n")[2] if after else text
