"""A changed snapshot held against the state that the real kube-proxy went into after the same change (record.py)."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path

import pytest

from netk8s import decode, dialects
from netk8s.changes import changes
from netk8s.comparison import Comparison, between
from netk8s.model import Dump, Snapshot, World
from netk8s.survey import Ground
from netk8s.whatif import Wanted, whatif

RECORDED = Path(__file__).parent / "recorded"
MODES = ("iptables", "nftables", "ipvs")
GIVEN_RULE = "shop/web health check node port"
SHARED = ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL")
GIVEN_BY_THE_API = ("healthCheckNodePort", "KUBE-HEALTH-CHECK-NODE-PORT")
"""The API server picks one for a load balancer Service with the policy Local, which nobody can know before."""


@lru_cache(maxsize=4)
def recording(mode: str) -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = json.loads(
        gzip.decompress((RECORDED / f"{mode}.json.gz").read_bytes())
    )
    return found


def snapshot(mode: str, state: str, only: str = "") -> Snapshot:
    """A recorded state. ``only``: of the nodes only this one."""
    files = recording(mode)["before"]["files"] | recording(mode)[state]["files"]
    nodes = {path: path.split("/")[1] if path.startswith("nodes/") else None for path in files}
    return Snapshot(tuple(
        Dump(path, text.encode(), nodes[path]) for path, text in files.items() if not only or nodes[path] in (None, only)
    ))  # fmt: skip


def wanted(mode: str, state: str) -> Wanted:
    return Wanted(**{field: tuple(words) for field, words in recording(mode)[state]["wanted"].items()})


def states(*modes: str) -> list[tuple[str, str]]:
    return [(mode, state) for mode in modes for state in recording(mode) if state != "before"]


def touched(mode: str, state: str) -> set[str]:
    """The Services that a change is about, and one that it leaves alone."""
    asked = wanted(mode, state)
    named = {text.partition("=")[0] for text in (*asked.external, *asked.internal, *asked.affinity)}
    return {"shop/marker", *(named or {"shop/web", "shop/udp", "shop/inner"})}


def flows(one: World, other: World, services: set[str]) -> Comparison:
    """Which flows of some Services come out differently, asked as `netk8s diff` asks."""
    a, b = (Ground.of(dialects.complete(world)) for world in (one, other))
    return between((a, b), lambda ports: [port.key for port in ports if port.service in services])


def facts(one: World, other: World) -> list[str]:
    """What `netk8s diff` finds different besides."""
    a, b = (dialects.complete(world) for world in (one, other))
    found = changes(a, b, dialects.programmed(a), dialects.programmed(b))
    assert found.uncompared == ()
    return [str(change) for change in found.found if not any(name in str(change) for name in GIVEN_BY_THE_API)]


def programmed(world: World) -> dict[str, object]:
    """All that kube-proxy wrote, rule by rule and element by element. What it emptied to delete it later is not there."""
    told: dict[str, object] = {}
    for node in world.nodes.values():
        for table in node.tables:
            for name, chain in table.chains.items():
                rules = [rule.raw for rule in chain.rules if GIVEN_RULE not in rule.raw]
                told[f"{node.name} {table.family} {table.name} {name}"] = (
                    sorted(rules) if name in SHARED and not node.virtual_servers else rules,
                    # The rule for NodePorts comes behind those of all Services.
                    rules[-1:] if (table.name, name) == ("nat", "KUBE-SERVICES") else (),
                )
        for server in node.virtual_servers:
            told[f"{node.name} {server.protocol} {server.ip} {server.port}"] = (
                server.scheduler, server.flags, server.persistence, server.mask,
                {(real.ip, real.port, real.weight, real.method) for real in server.real},
            )  # fmt: skip
        for ipset in node.sets:
            # Of the ports for health checks only the one that the recording asks for by number.
            own = ipset.name != "KUBE-HEALTH-CHECK-NODE-PORT"
            told[f"{node.name} {ipset.name}"] = (ipset.kind, sorted(e for e in ipset.entries if own or e == "32002"))
        for native in node.nft:
            for name, chain in native.chains.items():
                if chain.rules:
                    told[f"{node.name} {native.family} {name}"] = [(r.statements, r.comment) for r in chain.rules]
            for name, each in native.sets.items():
                told[f"{node.name} {native.family} {name}"] = (
                    each.timeout, {element.key: (element.value, element.comment) for element in each.elements},
                )  # fmt: skip
    return told


def mixed(state: str) -> Snapshot:
    """A cluster whose nodes run different modes: each node's own recording beside the other's."""
    one, other = snapshot("nftables", state, only="k8s-node1"), snapshot("iptables", state, only="k8s-node2")
    return Snapshot((*one.dumps, *(dump for dump in other.dumps if dump.node is not None)))


@pytest.mark.parametrize("state", ["several-policies", "affinity", "pod", "drained"])
def test_nodes_in_different_modes(state: str) -> None:
    mine, real = whatif(mixed("before"), wanted("nftables", state)).after, decode.decode(mixed(state))
    assert {table.name for table in mine.nodes["k8s-node1"].nft} >= {"kube-proxy"}
    assert mine.nodes["k8s-node2"].nft == ()
    assert programmed(mine) == programmed(real)


STATES = pytest.mark.parametrize(("mode", "state"), states(*MODES))


@STATES
def test_the_changed_snapshot_is_the_state_that_came(mode: str, state: str) -> None:
    """Not a rule, a map, an object is different."""
    mine, real = whatif(snapshot(mode, "before"), wanted(mode, state)).after, decode.decode(snapshot(mode, state))
    assert programmed(mine) == programmed(real)
    assert facts(mine, real) == []


@pytest.mark.parametrize(("mode", "state"), [(mode, state) for mode in MODES for state in ("several-policies", "pod")])
def test_no_flow_comes_out_otherwise(mode: str, state: str) -> None:
    mine, real = whatif(snapshot(mode, "before"), wanted(mode, state)).after, decode.decode(snapshot(mode, state))
    found = flows(mine, real, touched(mode, state))
    assert found.asked > 30
    assert (found.flows, found.only_a, found.only_b) == ((), (), ())


@STATES
def test_the_state_that_came_is_another_one(mode: str, state: str) -> None:
    """So that the test above compares something."""
    before, after = (decode.decode(snapshot(mode, name)) for name in ("before", state))
    assert facts(before, after) != []
    # In IPVS mode there is one node, and it has every endpoint of that Service.
    assert programmed(before) != programmed(after) or (mode, state) == ("ipvs", "internal-cluster")
