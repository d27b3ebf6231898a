"""The node's own texts, and what is said of those that could not be taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s.collect import node
from netk8s.collect._text import Gap, Text

TAKE = (
    "import json\nfrom netk8s import decode\nfrom netk8s.collect import node\n"
    "taken = node.take('n1')\nworld = decode.decode(taken)\nn = world.nodes['n1']\n"
    "print(json.dumps({'tables': [[t.backend, t.family, t.name] for t in n.tables], 'covered': sorted(n.covered),\n"
    " 'addresses': [str(a.ip) for a in n.addresses], 'forward': n.sysctls['net.ipv4.ip_forward'].value,\n"
    " 'origins': [d.origin for d in taken.dumps], 'unread': world.unread, 'missing': [m.what for m in taken.missing],\n"
    " 'sources': {d.origin: d.source for d in taken.dumps}, 'times': [d.taken for d in taken.dumps]}))"
)


@pytest.mark.lab
def test_a_node_is_read_as_it_is(spaces: Callable[[], Any]) -> None:
    space = spaces()
    space.run("ip", "addr", "add", "10.99.0.1/24", "dev", "lo")
    space.run("iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
    found = json.loads(space.python(TAKE))
    assert found["tables"] == [["nft", 4, "filter"]]
    assert "10.99.0.1" in found["addresses"]
    assert found["forward"] in ("0", "1")
    assert set(found["covered"]) >= {"rules4", "addr", "route4", "rule4", "rule6", "sysctl", "link"}
    assert "nodes/n1/iptables-legacy-save.txt" not in found["origins"]
    assert found["unread"] == []
    assert found["sources"]["nodes/n1/ip-addr.json"] == "ip -j addr"
    assert all(time.endswith("+00:00") for time in found["times"])
    # Reading registered no legacy table.
    assert space.run("cat", "/proc/thread-self/net/ip_tables_names") == ""


@pytest.mark.lab
def test_both_backends_are_read_where_both_are(spaces: Callable[[], Any]) -> None:
    space = spaces()
    space.run("iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
    space.run("iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-j", "ACCEPT")
    found = json.loads(space.python(TAKE))
    assert sorted(found["tables"]) == [["legacy", 4, "nat"], ["nft", 4, "filter"]]


@pytest.mark.lab
def test_another_namespace_by_its_path(spaces: Callable[[], Any]) -> None:
    here, there = spaces(), spaces()
    there.run("ip", "addr", "add", "10.99.0.7/24", "dev", "lo")
    code = TAKE.replace("take('n1')", f"take('n1', {there.path!r})")
    assert "10.99.0.7" in json.loads(here.python(code))["addresses"]


def test_a_namespace_that_is_gone(tmp_path: Path) -> None:
    taken = node.take("n1", str(tmp_path / "gone"))
    assert taken.dumps == ()
    (gap,) = taken.missing
    assert "No such file or directory" in gap.what
    assert gap.needed_for == "every answer about this node"


@pytest.mark.usefixtures("bare")
def test_what_is_not_installed_is_missing() -> None:
    taken = node.take("n1")
    assert "nodes/n1/sysctl.txt" in [dump.origin for dump in taken.dumps]
    told = [gap.what for gap in taken.missing]
    assert any("iptables-save.txt (iptables-save: not installed)" in what for what in told)
    assert any("ipset-save.txt (netlink (ipset): pyroute2 is not installed" in what for what in told)
    assert {gap.needed_for for gap in taken.missing} >= {"the rules the packet meets", "devices and bridges"}
    # Not a single text that says "nothing" in place of "not known".
    assert not [dump.origin for dump in taken.dumps if not dump.data]


def test_what_is_left_out_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        NEEDED_FOR = "something"

        def __init__(self, name: str) -> None:
            self.name = name

        def texts(self) -> list[Text | Gap]:
            return [Text(f"{self.name}.txt", b"x", "source"), Gap("other", "why", absent=True)]

    monkeypatch.setattr(node, "readers", lambda: {"a": Reader("a"), "b": Reader("b")})
    taken = node.take("n1", leave_out=["a"])
    assert [(dump.origin, dump.source) for dump in taken.dumps] == [("nodes/n1/b.txt", "source")]
    assert [(gap.what, gap.absent) for gap in taken.missing] == [("nodes/n1/other (why)", True)]


def test_every_reader_says_what_it_is_needed_for() -> None:
    found = node.readers()
    assert {"iptables", "nftables", "ipsets", "ipvs", "links", "addresses", "routes", "neighbours", "sysctls"} <= set(
        found
    )
    assert all(reader.NEEDED_FOR for reader in found.values())
