"""What two snapshots say differently: real dumps, edited by hand as the change would have edited them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from netk8s import decode, dialects, snapshot
from netk8s.changes import Changes, changes
from netk8s.model import Dump, Snapshot, World

CASE = "headline-nodeport-30000"
NODE = "nodes/k8s-node1"
Edit = Callable[[bytes], bytes]


def world(corpus: Path, case: str = CASE, **edits: Edit) -> World:
    return _world(corpus, case, {name.replace("__", "/"): edit for name, edit in edits.items()})


def _world(corpus: Path, case: str, edits: dict[str, Edit]) -> World:
    dumps = []
    done = set()
    for dump in snapshot.read([str(corpus / case)]).dumps:
        if dump.origin in edits:
            done.add(dump.origin)
            dump = Dump(dump.origin, edits[dump.origin](bytes(dump.data)), dump.node, dump.pod)
        dumps.append(dump)
    assert done == set(edits)
    return dialects.complete(decode.decode(Snapshot(tuple(dumps))))


def between(a: World, b: World) -> Changes:
    return changes(a, b, dialects.programmed(a), dialects.programmed(b))


def edited(corpus: Path, origin: str, edit: Edit, case: str = CASE) -> Changes:
    return between(world(corpus, case), _world(corpus, case, {origin: edit}))


def told(found: Changes) -> list[tuple[str, str, str, str, str, tuple[str, ...]]]:
    return [(c.kind, c.name, c.field, c.a, c.b, c.nodes) for c in found.found]


def replaced(old: str, new: str, count: int = -1) -> Edit:
    def edit(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode(), count)

    return edit


@pytest.mark.parametrize(
    "case",
    [CASE, "iptables-legacy-matrix", "ipvs-rr-matrix", "nftables-matrix-kp136", "iptables-nft-dual-stack",
     "iptables-nft-portmap-hostport"],
)  # fmt: skip
def test_a_snapshot_and_itself(corpus: Path, case: str) -> None:
    assert between(world(corpus, case), world(corpus, case)) == Changes(())


# ---------------------------------------------------------------- what is no difference


def _reordered(data: bytes) -> bytes:
    """Every table's declarations and rules the other way round; rules of KUBE-SVC chains keep their order."""
    out: list[bytes] = []
    held: list[bytes] = []
    for line in data.splitlines():
        if line.startswith((b":", b"-A")):
            held.append(line)
            continue
        if line == b"COMMIT":
            declared = [x for x in held if x.startswith(b":")]
            dice = [x for x in held if x.startswith(b"-A KUBE-SVC-")]
            rest = [x for x in held if x.startswith(b"-A") and x not in dice]
            out += [*reversed(declared), *dice, *reversed(rest)]
            held = []
        out.append(line)
    return b"\n".join(out) + b"\n"


def test_order_is_no_difference(corpus: Path) -> None:
    assert edited(corpus, f"{NODE}/iptables-save.txt", _reordered) == Changes(())


def test_counters_are_no_difference(corpus: Path) -> None:
    counted = (corpus / CASE / NODE / "iptables-save-counters.txt").read_bytes()
    assert b"\n[" in counted
    plain = re.sub(rb"(?m)^\[\d+:\d+\] ", b"", counted)
    found = edited(corpus, f"{NODE}/iptables-save.txt", lambda _: counted)
    assert found == edited(corpus, f"{NODE}/iptables-save.txt", lambda _: plain) == Changes(())


def test_names_of_hashed_chains_are_no_difference(corpus: Path) -> None:
    """kube-proxy's hash, and that of the CNI plugins, of which a new pod has another."""
    case = "iptables-nft-portmap-hostport"
    data = (corpus / case / NODE / "iptables-save.txt").read_bytes()
    hashed = sorted(set(re.findall(rb"(?:CNI-DN-|KUBE-SEP-)[\w]{8,}", data)))
    assert {name[:4] for name in hashed} == {b"CNI-", b"KUBE"}

    def edit(data: bytes) -> bytes:
        for number, name in enumerate(hashed):
            data = data.replace(name, name[:-6] + b"%06d" % number)
        return data

    assert edited(corpus, f"{NODE}/iptables-save.txt", edit, case) == Changes(())


def test_where_things_stand_in_a_list_is_no_difference(corpus: Path) -> None:
    def backwards(data: bytes) -> bytes:
        return json.dumps(json.loads(data)[::-1]).encode()

    def items(data: bytes) -> bytes:
        whole = json.loads(data)
        return json.dumps({**whole, "items": whole["items"][::-1]}).encode()

    for origin, edit in ((f"{NODE}/ip-route.json", backwards), ("cluster/endpointslices.json", items)):
        assert edited(corpus, origin, edit) == Changes(())


# ---------------------------------------------------------------- what is one


def test_a_rule_more(corpus: Path) -> None:
    found = edited(
        corpus, f"{NODE}/iptables-save.txt",
        replaced("\n-A FORWARD ", "\n-A FORWARD -s 10.9.9.9/32 -j DROP\n-A FORWARD ", 1),
    )  # fmt: skip
    assert told(found) == [
        ("rule", "nft IPv4 filter FORWARD: -A FORWARD -s 10.9.9.9/32 -j DROP", "", "", "present", ("k8s-node1",))
    ]


def test_a_rule_twice(corpus: Path) -> None:
    rule = "-A FORWARD -s 10.9.9.9/32 -j DROP\n"
    once, twice = (replaced("\n-A FORWARD ", "\n" + rule * n + "-A FORWARD ", 1) for n in (1, 2))
    origin = f"{NODE}/iptables-save.txt"
    found = between(_world(corpus, CASE, {origin: once}), _world(corpus, CASE, {origin: twice}))
    assert [(c.field, c.a, c.b) for c in found.found] == [("how many", "1", "2")]


def test_a_rule_by_hand_among_those_of_services(corpus: Path) -> None:
    found = edited(
        corpus, f"{NODE}/iptables-save.txt",
        replaced("\n-A KUBE-SERVICES ", "\n-A KUBE-SERVICES -s 10.9.9.9/32 -j RETURN\n-A KUBE-SERVICES ", 1),
    )  # fmt: skip
    assert [c.name.rpartition(": ")[2] for c in found.found] == ["-A KUBE-SERVICES -s 10.9.9.9/32 -j RETURN"]


def test_a_policy_of_a_chain(corpus: Path) -> None:
    found = edited(corpus, f"{NODE}/iptables-save.txt", replaced(":FORWARD ACCEPT", ":FORWARD DROP"))
    assert [(c.name, c.a, c.b) for c in found.found] == [
        ("nft IPv4 filter FORWARD: policy ACCEPT", "present", ""),
        ("nft IPv4 filter FORWARD: policy DROP", "", "present"),
        ("nft IPv4 mangle FORWARD: policy ACCEPT", "present", ""),
        ("nft IPv4 mangle FORWARD: policy DROP", "", "present"),
    ]


def test_an_endpoint_not_ready(corpus: Path) -> None:
    def edit(data: bytes) -> bytes:
        whole = json.loads(data)
        (mine,) = [
            item for item in whole["items"] if item["metadata"]["labels"]["kubernetes.io/service-name"] == "nginx"
        ]
        mine["endpoints"][0]["conditions"] = {"ready": False, "serving": False, "terminating": False}
        return json.dumps(whole).encode()

    (change,) = edited(corpus, "cluster/endpointslices.json", edit).found
    assert (change.kind, change.field, change.a, change.b, change.nodes) == ("endpoint", "", "ready", "not ready", ())
    assert change.name.startswith("default/nginx tcp 10.244.")


def test_a_policy_of_a_service(corpus: Path) -> None:
    def edit(data: bytes) -> bytes:
        whole = json.loads(data)
        for item in whole["items"]:
            if item["metadata"]["name"] == "nginx":
                item["spec"] |= {"externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
                                 "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}  # fmt: skip
        return json.dumps(whole).encode()

    assert told(edited(corpus, "cluster/services.json", edit)) == [
        ("Service", "default/nginx tcp", "externalTrafficPolicy", "Cluster", "Local", ()),
        ("Service", "default/nginx tcp", "sessionAffinity", "None", "ClientIP 60 s", ()),
    ]


def test_odds(corpus: Path) -> None:
    """The dice of one endpoint thrown otherwise: each way to dial the port has other odds."""
    found = edited(
        corpus, f"{NODE}/iptables-save.txt", replaced("--probability 0.33333333349", "--probability 0.50000000000", 1)
    )
    assert {(c.kind, c.field, c.nodes) for c in found.found} == {("programmed", "goes to", ("k8s-node1",))}
    assert all("odds 1/2" in c.b and "odds 1/2" not in c.a for c in found.found)


def test_a_setting_and_a_route(corpus: Path) -> None:
    found = edited(corpus, f"{NODE}/sysctl.txt", replaced("net.ipv4.ip_forward = 1", "net.ipv4.ip_forward = 0"))
    assert told(found) == [("sysctl", "net.ipv4.ip_forward", "", "1", "0", ("k8s-node1",))]

    def without(data: bytes) -> bytes:
        return json.dumps([r for r in json.loads(data) if r["dst"] != "10.244.2.0/24"]).encode()

    (change,) = edited(corpus, f"{NODE}/ip-route.json", without).found
    assert (change.kind, change.name, change.b) == ("route", "10.244.2.0/24 table main metric 0", "")
    assert "via 192.168.52.202 dev ens33" in change.a


def test_two_recordings_that_differ_in_what_their_names_say(corpus: Path) -> None:
    """Each is the same cluster programmed anew, so that names, order and times all differ."""
    a = world(corpus, "iptables-nft-hairpin-off")
    b = world(corpus, "iptables-nft-bridge-nf-off")
    kinds = {(c.kind, c.name.partition(" (")[0]) for c in between(a, b).found}
    assert kinds == {
        ("device", "a pod's device on cni0"),
        ("sysctl", "net.bridge.bridge-nf-call-iptables"), ("sysctl", "net.bridge.bridge-nf-call-ip6tables"),
    }  # fmt: skip
    broken = between(world(corpus, "iptables-nft-detect-local-bridge"), world(corpus, "broken-missing-route"))
    assert ("route", "10.244.2.0/24 table main metric 0", ("k8s-node1",)) in {
        (c.kind, c.name, c.nodes) for c in broken.found
    }
    assert ("sysctl", "net.ipv4.ip_forward", ("k8s-node2",)) in {(c.kind, c.name, c.nodes) for c in broken.found}


def test_which_packets_kube_proxy_masquerades(corpus: Path) -> None:
    """--masquerade-all shows in the chains of Services alone, under names and addresses of each."""
    found = between(world(corpus, "iptables-nft-matrix"), world(corpus, "iptables-nft-masquerade-all")).found
    assert {(c.name, c.a, c.b) for c in found} == {
        (f"nft IPv4 nat {chains}: {rule}", *sides)
        for chains in ("KUBE-SVC-*", "KUBE-SVL-*")
        for rule, *sides in (
            ("! -s 10.244.0.0/16 -j KUBE-MARK-MASQ", "present", ""),
            ("-j KUBE-MARK-MASQ", "", "present"),
        )
    }


def test_what_only_one_has_is_told_and_not_compared(corpus: Path) -> None:
    a = world(corpus)
    dumps = snapshot.read([str(corpus / CASE)]).dumps
    kept = tuple(d for d in dumps if d.origin not in (f"{NODE}/sysctl.txt", "cluster/pods.json"))
    found = between(a, dialects.complete(decode.decode(Snapshot(kept))))
    assert found.found == ()
    assert found.uncompared == ("Pods: only A has a dump of them", "sysctls of k8s-node1: only A has a dump of them")


def test_a_node_less(corpus: Path) -> None:
    dumps = snapshot.read([str(corpus / CASE)]).dumps
    fewer = Snapshot(tuple(d for d in dumps if d.node != "k8s-node2"))
    found = between(world(corpus), dialects.complete(decode.decode(fewer)))
    assert told(found) == [("node", "k8s-node2", "", "its dumps are here", "", ())]
