"""A node out of a few lines: its rules as iptables-save prints them, its links and routes as ip -j does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from netk8s import decode, dialects
from netk8s.model import Ask, Dump, Recognised, Snapshot, Trace, World
from netk8s.trace import trace

LINKS = {"lo": "", "eth0": "", "cni0": "bridge"}
ADDRESSES = {"lo": "127.0.0.1/8", "eth0": "192.0.2.11/24", "cni0": "10.1.1.1/24"}
ROUTES = (
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
    {"dst": "10.1.1.0/24", "dev": "cni0", "scope": "link"},
    {"dst": "192.0.2.0/24", "dev": "eth0", "scope": "link"},
)


def _world(
    rules: str = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n",
    links: Sequence[str] = (),
    *,
    sets: str = "",
    nft: str = "",
    objects: Sequence[dict[str, Any]] = (),
    routes: Sequence[dict[str, Any]] = (),
    ip_rules: Sequence[dict[str, Any]] = (),
) -> World:
    def dump(name: str, text: str, node: str | None = "n1") -> Dump:
        return Dump(f"nodes/n1/{name}" if node else f"cluster/{name}", text.encode(), node)

    kinds = {**LINKS, **dict.fromkeys(links, "veth")}
    ip_link = [
        {"ifindex": i, "ifname": name, "flags": ["UP"], "mtu": 1500, "operstate": "UP", "link_type": "ether",
         "address": f"02:00:00:00:00:{i:02x}", **({"linkinfo": {"info_kind": kind}} if kind else {})}
        for i, (name, kind) in enumerate(kinds.items(), 1)
    ]  # fmt: skip
    ip_addr = [
        {"ifindex": i, "ifname": name, "flags": ["UP"], "mtu": 1500, "operstate": "UP", "link_type": "ether",
         "addr_info": [{"family": "inet", "local": text.split("/")[0], "prefixlen": int(text.split("/")[1]),
                        "scope": "host" if name == "lo" else "global", "label": name}]}
        for i, (name, text) in enumerate(ADDRESSES.items(), 1)
    ]  # fmt: skip
    local = [{"type": "local", "dst": a.split("/")[0], "dev": d, "table": "local"} for d, a in ADDRESSES.items()]
    policy = [
        {"priority": 0, "src": "all", "table": "local"},
        *ip_rules,
        {"priority": 32766, "src": "all", "table": "main"},
        {"priority": 32767, "src": "all", "table": "default"},
    ]
    dumps = [
        dump("iptables-save.txt", rules),
        dump("ip-link.json", json.dumps(ip_link)),
        dump("ip-addr.json", json.dumps(ip_addr)),
        dump("ip-route.json", json.dumps([{**r, "flags": []} for r in (*ROUTES, *routes, *local)])),
        dump("ip-rule.json", json.dumps(policy)),
        dump("sysctl.txt", "net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n"),
    ]
    dumps += [dump("ipset-save.txt", sets)] if sets else []
    dumps += [dump("nft-ruleset.txt", nft)] if nft else []
    if objects:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        dumps.append(dump("objects.json", json.dumps(listed), None))
    return dialects.complete(decode.decode(Snapshot(tuple(dumps))))


def _components(world: World) -> dict[str, Recognised]:
    return {one.name: one for one in dialects.recognised(world)}


def _asked(world: World, target: str, source: str = "198.51.100.7", via: str | None = "n1") -> Trace:
    flow = dialects.resolve(world, Ask(target, source=source, via=via))
    return dialects.label(world, trace(world, flow))


def _meanings(found: Trace, index: int = 0) -> list[tuple[str, str]]:
    """(chain, meaning) of the rules that the first way met."""
    return [(s.chain, s.means) for hop in found.ways[index].hops for s in hop.steps if s.rule is not None]


@pytest.fixture
def world() -> Callable[..., World]:
    return _world


@pytest.fixture
def components() -> Callable[[World], dict[str, Recognised]]:
    """The components recognised on the node, by name."""
    return _components


@pytest.fixture
def asked() -> Callable[..., Trace]:
    """The labelled trace of a packet to an address of the node's, by default from outside."""
    return _asked


@pytest.fixture
def meanings() -> Callable[..., list[tuple[str, str]]]:
    return _meanings
