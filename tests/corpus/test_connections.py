"""Connections that were really made: a packet of one goes where both nodes' conntrack entries say, not where the rules do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, snapshot
from netk8s.model import PROTOCOL_NAMES, TCP, Addr, Ask, ConntrackEntry, ConntrackTuple, Node, World
from netk8s.trace import trace

CASES = ["headline-nodeport-30000", "ipvs-rr-matrix", "nftables-dual-stack-kp136"]


def alive(folder: Path) -> World:
    """The recorded cluster with its closed connections open again: a new one takes the place of a closed one."""
    taken = snapshot.read([str(folder)])
    dumps = tuple(
        replace(
            dump, data=bytes(dump.data).replace(b" TIME_WAIT ", b" ESTABLISHED ").replace(b" CLOSE ", b" ESTABLISHED ")
        )
        if dump.origin.endswith("conntrack.txt")
        else dump
        for dump in taken.dumps
    )
    return dialects.complete(decode.decode(replace(taken, dumps=dumps)))


def entries(node: Node) -> Iterator[ConntrackEntry]:
    for table in node.conntrack:
        yield from table.connections


def ends(world: World, node: str, first: ConntrackEntry) -> tuple[Addr, int | None, Addr]:
    """(endpoint, its port, the source it sees) by the entries of one node after the other."""
    here, entry = node, first
    visited = set()
    while True:
        visited.add(here)
        reply = entry.reply
        there = ConntrackTuple(reply.dst, reply.src, reply.dport, reply.sport)
        owner = next((p.node for p in world.cluster.pods if reply.src in p.ips), None) or next(
            (
                name
                for name, n in world.nodes.items()
                if any(a.ip == reply.src and a.dev != "kube-ipvs0" for a in n.addresses)
            ),
            None,
        )
        found = [
            e
            for table in (world.nodes[owner].conntrack if owner in world.nodes and owner not in visited else ())
            for e in table.connections.having(there)
            if e.protocol == entry.protocol
        ]
        if not found:
            return reply.src, reply.sport, reply.dst
        here, entry = str(owner), found[0]


@pytest.mark.parametrize("case", CASES)
def test_packets_of_recorded_connections(case: str, corpus: Path) -> None:
    world = alive(corpus / case)
    starts = {ip: p.node for p in world.cluster.pods for ip in p.ips}
    starts |= {a.ip: name for name, n in world.nodes.items() for a in n.addresses if a.dev not in ("lo", "kube-ipvs0")}
    wrong, seen = [], 0
    for name, node in world.nodes.items():
        for entry in entries(node):
            asked = entry.original
            if asked.sport is None or starts.get(asked.src, name) != name or asked.src.is_loopback:
                continue
            host = f"[{asked.src}]" if asked.src.version == 6 else str(asked.src)
            to = f"[{asked.dst}]" if asked.dst.version == 6 else str(asked.dst)
            words = Ask(
                f"{to}:{asked.dport}", protocol=PROTOCOL_NAMES[entry.protocol], source=f"{host}:{asked.sport}",
                via=None if asked.src in starts else name,
            )  # fmt: skip
            seen += 1
            outcomes = trace(world, dialects.resolve(world, words)).outcomes
            got = [(o.reached.ip, o.reached.port, o.source) if o.reached else o.reason for o in outcomes]
            if got != [ends(world, name, entry)] or outcomes[0].verdict != "delivered":
                wrong.append(f"{entry.at}: {words.source} to {words.target}: {got}, not {ends(world, name, entry)}")
    assert not wrong
    assert seen > 20


def test_without_a_source_port_the_entries_change_nothing(corpus: Path) -> None:
    world = alive(corpus / CASES[0])
    bare = replace(world, nodes={name: replace(node, conntrack=()) for name, node in world.nodes.items()})
    for ask in (Ask("192.168.52.201:30000", source="client"), Ask("10.96.120.30:80", source="node/k8s-node1")):
        one, other = (trace(w, dialects.resolve(w, ask)) for w in (world, bare))
        assert one.outcomes == other.outcomes
        assert one.assumptions == other.assumptions
    assert one.flow.packet.protocol == TCP
