"""An sosreport is a node's dumps under the names of commands."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from netk8s import decode, dialects, snapshot
from netk8s.errors import DecodeError
from netk8s.layouts import sosreport
from netk8s.layouts._place import Place
from netk8s.model import Dump, Snapshot
from netk8s.snapshot import _compression, _reading
from tests.layouts.conftest import Files, seen, told, world

TOP = "sosreport-worker-0-2026-01-01-abcdefg"
NAMES = {
    "firewall_tables/nft_list_ruleset": "nft-ruleset.txt",
    "kernel/sysctl_-a": "sysctl.txt",
    "networking/ss_-peaonmi": "listening.txt",
    "conntrack/conntrack_-L_-o_extended": "conntrack.txt",
}
PRINTED = {
    "ip_route_show_table_all": "route.txt",
    "ip_-6_route_show_table_all": "route6.txt",
    "ip_-4_rule_list": "rule.txt",
    "ip_-6_rule_list": "rule6.txt",
    "ip_-s_-s_neigh_show": "neigh-stats.txt",
    "bridge_-s_-s_-d_-t_fdb_show": "fdb-stats.txt",
}
RECORDED = Path(__file__).parent.parent / "decode/iproute2"


def files(example: Path, node: str = "k8s-node1", top: str = TOP) -> dict[str, bytes]:
    found = {
        f"{top}/etc/hostname": b"elsewhere\n",
        f"{top}/etc/kubernetes/pki/ca.crt.gz": b"\x1f\x8b\x08 no gzip",
        f"{top}/proc/net/route": b"Iface\tDestination\n",
        f"{top}/sos_commands/host/hostname": node.encode() + b"\n",
        f"{top}/sos_commands/networking/netstat_-W_-neopa": b"Active Internet connections\n",
        f"{top}/sos_commands/networking/namespaces/cni-1/ip_netns_exec_cni-1_iptables-save": b"*nat\nCOMMIT\n",
        f"{top}/sos_commands/kubernetes/cluster-info/kubectl_get_-o_json_nodes": b'{"apiVersion": "v1", "items": []}',
        f"{top}/sos_commands/kubernetes/cluster-info/default/kubectl_get_-o_json_--namespace_default_secrets": b"{}",
        f"{top}/var/log/messages": b"*nat\nCOMMIT\n",
    }
    for name, of in PRINTED.items():
        found[f"{top}/sos_commands/networking/{name}"] = (RECORDED / of).read_bytes()
    for name, of in NAMES.items():
        found[f"{top}/sos_commands/{name}"] = (example / "nodes" / node / of).read_bytes()
    return found


EXPECTED = sorted(
    [(f"{TOP}/sos_commands/{name}", "k8s-node1", False) for name in NAMES]
    + [(f"{TOP}/sos_commands/networking/{name}", "k8s-node1", False) for name in PRINTED]
    + [(f"{TOP}/sos_commands/kubernetes/cluster-info/kubectl_get_-o_json_nodes", None, True)]
)


def test_an_archive(example: Path, pack: Callable[..., Path]) -> None:
    found = snapshot.read([str(pack(files(example)))])
    assert sorted(told(found)) == EXPECTED
    assert not found.missing
    node = world(pack(files(example))).nodes["k8s-node1"]
    assert node.sysctls["net.ipv4.ip_forward"].value == "1"
    assert node.nft
    assert node.sockets
    assert {"route4", "route6", "rule4", "rule6", "neigh", "fdb"} <= node.covered
    assert len(node.rules) == 17


def test_its_rules_answer_as_iptables_save_does(
    example: Path, pack: Callable[..., Path], lay: Callable[[Files], Path]
) -> None:
    own = {name: data for name, data in files(example).items() if "networking" not in name}
    node = example / "nodes/k8s-node1"
    beside = {f"nodes/k8s-node1/{path.name}": path.read_bytes() for path in node.glob("ip*.json")}
    found = seen(world(pack(own), lay(beside), example / "cluster"))
    assert found == seen(world(node, example / "cluster"))
    assert {source for _, _, source in found} == {"10.244.1.1", "192.168.52.201"}


def test_a_plain_folder_of_any_names_answers_the_same(example: Path, lay: Callable[[Files], Path]) -> None:
    node = example / "nodes/k8s-node1"
    names = [path for path in sorted(node.iterdir()) if "counters" not in path.name]
    loose = {f"Output ({i}).log": path.read_bytes() for i, path in enumerate(names)}
    loose |= {"notes.md": b"# what we saw\n", "blob": bytes(range(256)), "empty": b""}
    paths = [str(lay(loose)), str(example / "cluster")]
    found = decode.decode(snapshot.read(paths, node="k8s-node1"))
    assert {origin.rpartition("/")[2] for origin in found.unread} == {"notes.md", "blob"}
    assert seen(dialects.complete(found)) == seen(world(node, example / "cluster"))


def test_nothing_in_it_is_a_format_that_is_not_known(example: Path, pack: Callable[..., Path]) -> None:
    assert world(pack(files(example))).unread == ()


def test_a_folder(example: Path, lay: Callable[[Files], Path]) -> None:
    path = lay(files(example))
    (path / TOP / "ip_addr").symlink_to("sos_commands/networking/ip_-o_addr")
    (path / TOP / "sys").symlink_to("/sys")
    assert sorted(told(snapshot.read([str(path)]))) == EXPECTED
    inside = {(origin.removeprefix(f"{TOP}/"), node) for origin, node, _ in EXPECTED}
    assert {(origin, node) for origin, node, _ in told(snapshot.read([str(path / TOP)]))} == inside
    assert {node for _, node, _ in told(snapshot.read([str(path)], node="mine"))} == {None, "mine"}


def test_those_of_several_nodes_together(example: Path, lay: Callable[[Files], Path]) -> None:
    other = files(example, "k8s-node2", "sosreport-b-1")
    found = world(lay(files(example) | other))
    assert set(found.nodes) == {"k8s-node1", "k8s-node2"}


def test_the_nodes_name() -> None:
    host = ("sos_commands", "host", "hostname")
    assert sosreport.node((TOP,), {host: b"a.example\n", ("etc", "hostname"): b"b"}) == "a.example"
    assert sosreport.node((TOP,), {host: b"", ("etc", "hostname"): b"b\n"}) == "b"
    assert sosreport.node((TOP,), {host: b"command not found: hostname"}) == TOP
    assert sosreport.node((), {}) is None


@pytest.mark.parametrize("empty", [True, False])
def test_rules_that_are_not_there_are_missing(example: Path, pack: Callable[..., Path], empty: bool) -> None:
    without = {name: data for name, data in files(example).items() if "nft" not in name}
    without[f"{TOP}/sos_commands/firewall_tables/iptables_-t_nat_-nvL"] = (
        b"Chain PREROUTING (policy ACCEPT 0 packets)\n"
    )
    if empty:  # what nft prints where iptables-legacy has the rules
        without[f"{TOP}/sos_commands/firewall_tables/nft_list_ruleset"] = b"\n"
    (gap,) = snapshot.read([str(pack(without))]).missing
    assert (gap.what, gap.node) == ("the rules of k8s-node1", "k8s-node1")
    assert "iptables-save" in gap.needed_for


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("networking/ip_route_show_table_all", True),
        ("networking/ip_-6_route_show_table_all", True),
        ("networking/ip_-4_rule_list", True),
        ("networking/ip_-s_-s_neigh_show", True),
        ("networking/ip_-s_-d_link", True),
        ("networking/bridge_-s_-s_-d_-t_fdb_show", True),
        ("networking/ip_-d_route_show_cache", False),
        ("networking/ip_neigh_show_nud_noarp", False),
        ("networking/ip_mroute_show", False),
        ("ipvs/ipvsadm_-Ln", True),
        ("firewall_tables/iptables_-t_nat_-nvL", False),
        ("firewall_tables/iptables_-vnxL", False),
        ("firewall_tables/nft_-a_list_ruleset", True),
        ("podman/ip_-o_addr", False),
    ],
)
def test_which_commands_are_read(name: str, read: bool) -> None:
    place = sosreport.place(("sos_commands", *name.split("/")))
    assert place == (Place(of_node=True) if read else None)


def test_rules_with_their_handles_answer_alike(example: Path, lay: Callable[[Files], Path]) -> None:
    """As sos has them since 4.6.1."""
    usual = files(example)
    text = usual.pop(f"{TOP}/sos_commands/firewall_tables/nft_list_ruleset")
    numbered = [
        line + b" # handle %d" % number if line.strip() not in (b"", b"}") and not line.endswith(b",") else line
        for number, line in enumerate(text.split(b"\n"))
    ]
    usual[f"{TOP}/sos_commands/firewall_tables/nft_-a_list_ruleset"] = b"\n".join(numbered)
    found = world(lay(usual))
    assert not found.missing
    (plain,), (handled,) = (
        decode.decode(Snapshot((Dump("nft", data, "n"),))).nodes.values() for data in (text, b"\n".join(numbered))
    )
    assert [table.name for table in handled.nft] == [table.name for table in plain.nft]
    for ours, theirs in zip(handled.nft, plain.nft, strict=True):
        assert {name: list(chain.rules) for name, chain in ours.chains.items()} == {
            name: list(chain.rules) for name, chain in theirs.chains.items()
        }


def test_endpoints_by_namespace_are_read() -> None:
    name = "kubectl_get_-o_json_--namespace_shop_endpoints"
    path = ("sos_commands", "kubernetes", "cluster-info", "shop", name)
    assert sosreport.place(path) == Place(partial=True)


def test_a_snapshot_in_a_folder_of_such_a_name_is_one_still(lay: Callable[[Files], Path]) -> None:
    path = lay({f"{TOP}/nodes/a/iptables-save.txt": b"*nat\nCOMMIT\n"})
    assert told(snapshot.read([str(path)])) == [(f"{TOP}/nodes/a/iptables-save.txt", "a", False)]


def test_bombs_and_ways_out(example: Path, pack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"../../sos_commands/kernel/sysctl_-a": b"net.ipv4.ip_forward = 0\n"}
    found = snapshot.read([str(pack(files(example) | secret))])
    assert sorted(told(found)) == EXPECTED
    monkeypatch.setattr(_compression, "BOMB_BYTES", 1 << 20)
    name = f"{TOP}/sos_commands/kernel/sysctl_-a"
    for bomb in (pack({name: lzma.compress(bytes(20 << 20))}), pack({name: bytes(20 << 20)})):
        with pytest.raises(DecodeError, match="more than 300 times its size"):
            snapshot.read([str(bomb)])
    monkeypatch.setattr(_reading, "MOST_BYTES", 1000)
    with pytest.raises(DecodeError, match="GiB decompressed; give fewer"):
        snapshot.read([str(pack(files(example)))])
