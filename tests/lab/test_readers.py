"""Two readers of one kernel: what a tool prints and what netlink says must decode to the same facts.

In user-mode Linux, which has IPVS, ipvlan and every type of ipset; booted once for all of this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from netk8s import decode
from netk8s.model import Coverage, Dump, IpSet, Link, VirtualServer

from . import uml
from .uml_readers import SCHEDULERS, SETS, TABLES, TYPES

pytestmark = pytest.mark.lab

SEED = 20260101
Differences = Callable[..., tuple[list[str], list[str]]]


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    why = uml.available()
    if why and os.environ.get("NETK8S_REQUIRE_LAB") == "1":
        pytest.fail(f"user-mode Linux must run here (NETK8S_REQUIRE_LAB=1): {why}")
    if why:
        pytest.skip(f"user-mode Linux: {why}")
    pytest.importorskip("pyroute2")
    folder = tmp_path_factory.mktemp("readers")
    results = uml.boot(
        [
            uml.Case("ipvs", "lab.uml_readers:ipvs", {"seed": SEED}),
            uml.Case("ipsets", "lab.uml_readers:ipsets", {"seed": SEED}),
            uml.Case("ipvs_changes", "lab.uml_readers:ipvs_changes"),
            uml.Case("devices", "lab.uml_readers:devices"),
        ],
        folder,
    )
    assert not [result.error for result in results.values() if result.error]
    (folder / "changes.json").write_text(json.dumps(results["ipvs_changes"].value))
    return folder


def pair(folder: Path, name: str) -> tuple[bytes, bytes]:
    return (folder / f"{name}.netlink").read_bytes(), (folder / f"{name}.tool").read_bytes()


def facts(text: bytes) -> list[Any]:
    dump = Dump("dump", text, "n1")
    decoder = decode.recognise(dump)
    assert decoder is not None
    return list(decoder.decode(dump))


def comparable(fact: Any) -> Any:
    """What is compared of a fact: not the order of what has none, nor what one of the tools keeps to itself."""
    if isinstance(fact, VirtualServer):
        # ipvsadm sorts the real servers, and leaves out their thresholds with -Sn.
        return replace(fact, real=tuple(sorted(fact.real, key=repr)))
    if isinstance(fact, IpSet):
        return replace(fact, entries=tuple(sorted(fact.entries)))
    if isinstance(fact, Link):
        return replace(fact, info={})
    return fact


def test_random_virtual_servers(booted: Path, differences: Differences) -> None:
    seen: Counter[str] = Counter()
    for number in range(TABLES):
        for kind in ("ipvs", "list"):
            ours, theirs = pair(booted / "ipvs", f"{kind}-{number}")
            assert differences(ours, theirs, comparable) == ([], [])
            found = [fact for fact in facts(ours) if isinstance(fact, VirtualServer)]
            assert found
        for server in found:
            seen.update([server.scheduler, f"family {server.family}", f"protocol {server.protocol}", *server.flags])
            seen.update(f"{real.method} {real.weight == 0}" for real in server.real)
            seen.update(["persistent"] if server.persistence else [])
    # A comparison of nothing would be equal too.
    assert set(SCHEDULERS) <= set(seen)
    assert {"family 4", "family 6", "protocol 0", "protocol 6", "protocol 17", "protocol 132", "persistent"} <= set(
        seen
    )
    assert {"sh-port", "mh-port", "flag-1", "masq True", "masq False", "tunnel False", "route False"} <= set(seen)


def test_no_virtual_server_is_said_and_not_left_open(booted: Path, differences: Differences) -> None:
    ours, theirs = pair(booted / "ipvs", "list-empty")
    assert differences(ours, theirs) == ([], [])
    assert [fact.kind for fact in facts(ours) if isinstance(fact, Coverage)] == ["ipvs"]


def test_each_change_of_ipvs_is_noticed(booted: Path) -> None:
    found = dict(json.loads((booted / "changes.json").read_text()))
    nothing, settings, link = found.pop("true"), found.pop("sysctl -qw net.ipv4.vs.conn_reuse_mode=0"), found.popitem()
    assert nothing == found.pop("ipvsadm -Z") == []
    assert settings == ["sysctls"]
    assert "links" in link[1]
    assert {change: noticed for change, noticed in found.items() if noticed != ["ipvs"]} == {}
    assert len(found) == 9


def test_random_sets(booted: Path, differences: Differences) -> None:
    kinds: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for number in range(SETS):
        ours, theirs = pair(booted / "ipsets", f"ipset-{number}")
        assert differences(ours, theirs, comparable) == ([], [])
        for fact in facts(ours):
            if isinstance(fact, IpSet):
                kinds[fact.kind] += len(fact.entries)
                words.update(word for entry in fact.entries for word in entry.split()[1:])
    assert {kind for kind, count in kinds.items() if count} == set(TYPES)
    assert {"comment", "nomatch", "skbmark", "packets", "timeout"} <= set(words)


NAMES = ["links", "addresses", "neighbours", "fdb", "routes6", "rules4", "rules6"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The devices that this machine's own kernel can make, in a namespace of their own."""
    pytest.importorskip("pyroute2")
    tests = Path(__file__).resolve().parents[1]
    folder = tmp_path_factory.mktemp("here")
    code = (
        f"from pathlib import Path; from lab.uml_readers import devices; devices(Path({str(folder)!r}), lenient=True)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tests}:{tests.parent / 'src'}"}
    subprocess.run(["unshare", "--net", sys.executable, "-c", code], check=True, env=environment)
    return folder


@pytest.mark.parametrize("kernel", ["booted", "here"])
@pytest.mark.parametrize("name", NAMES)
def test_devices(request: pytest.FixtureRequest, differences: Differences, name: str, kernel: str) -> None:
    folder: Path = request.getfixturevalue(kernel)
    ours, theirs = pair(folder / "devices" if kernel == "booted" else folder, name)
    assert len(facts(ours)) > 2
    assert differences(ours, theirs, comparable) == ([], [])


@pytest.mark.parametrize("kernel", ["booted", "here"])
def test_routes_of_ipv4(request: pytest.FixtureRequest, differences: Differences, kernel: str) -> None:
    folder: Path = request.getfixturevalue(kernel)
    ours, theirs = pair(folder / "devices" if kernel == "booted" else folder, "routes4")
    # `ip route show table all` prints both families.
    only_ours, only_theirs = differences(ours, theirs)
    assert only_ours == []
    assert [fact for fact in only_theirs if "IPv6Network" not in fact and "route6" not in fact] == []
    assert len(facts(ours)) > 10


def test_every_kind_of_device_was_compared(booted: Path) -> None:
    kinds = {fact.kind for fact in facts(pair(booted / "devices", "links")[0]) if isinstance(fact, Link)}
    assert {
        "bridge",
        "veth",
        "vxlan",
        "geneve",
        "ipip",
        "gre",
        "ip6gre",
        "ipvlan",
        "macvlan",
        "vlan",
        "vrf",
        "bond",
    } <= kinds
