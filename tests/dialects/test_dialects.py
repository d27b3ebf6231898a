"""What all dialects together make of a world and a trace."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path

import pytest

from netk8s import decode, dialects, snapshot
from netk8s.model import (
    TCP,
    At,
    Cluster,
    Dump,
    Flow,
    Hop,
    Match,
    Option,
    Packet,
    Reply,
    Rule,
    Snapshot,
    Step,
    Target,
    Trace,
    Way,
    World,
)

BARE = """\
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.244.1.6:80
-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE
"""


def world(text: str = BARE) -> World:
    return decode.decode(Snapshot((Dump("x", text.encode()),)))


def test_there_are_dialects() -> None:
    names = {dialect.NAME for dialect in dialects.dialects()}
    assert "kube-proxy (iptables)" in names
    assert len(names) == len(dialects.dialects())


def test_every_dialect_s_services_are_programmed() -> None:
    (found,) = [p for p in dialects.programmed(world()) if p.kind == "ClusterIP"]
    assert (found.node, found.service, found.port, [str(b.ip) for b in found.backends]) == (
        "node",
        "default/web",
        80,
        ["10.244.1.6"],
    )
    assert dialects.programmed(World({}, Cluster())) == ()


def test_a_world_of_bare_rules_is_completed_and_says_so() -> None:
    before = world()
    after = dialects.complete(before)
    (table,) = after.nodes["node"].tables
    assert "PREROUTING" in table.chains
    assert "PREROUTING" not in before.nodes["node"].tables[0].chains
    added = [note for note in after.notes if note not in before.notes]
    assert len(added) == 1
    assert "kube-proxy's usual jumps" in added[0]
    whole = decode.decode(Snapshot((Dump("x", b"*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\nCOMMIT\n"),)))
    assert dialects.complete(whole).notes == whole.notes


def test_steps_get_their_meaning_and_keep_the_one_they_have() -> None:
    at = At("x", 1)
    comment = Match("comment", (Option("--comment", ("default/web cluster IP",)),))
    rule = Rule("KUBE-SERVICES", (comment,), Target("KUBE-SVC-AAAAAAAAAAAAAAAA"), at, "-A …", "default/web cluster IP")
    service = Step("prerouting", "nat", "KUBE-SERVICES", rule.raw, at, "jump", detail=rule)
    policy = Step("forward", "filter", "FORWARD", None, at, "policy DROP", means="policy of FORWARD")
    routing = Step("routing", "", "", None, None, "forward by eth0")
    client, ip = ip_address("192.0.2.7"), ip_address("10.96.0.10")
    packet = Packet(TCP, client, ip, None, 80)
    hop = Hop("n", "eth0", "cni0", (service, policy, routing))
    way = Way((hop,), Fraction(1), (), "delivered", "", packet, reply_hops=(hop,))
    trace = Trace(Flow("x", "client", "outside", "n", packet), (way,), (), (), Reply(True, ""), (), ())
    (labelled,) = dialects.label(world(), trace).ways
    for hops in (labelled.hops, labelled.reply_hops):
        first, second, third = hops[0].steps
        assert "default/web" in first.means
        assert (first.rule, first.at, first.action) == (service.rule, service.at, service.action)
        assert (second.means, third.means) == ("policy of FORWARD", "")
    assert trace.ways[0].hops[0].steps[0].means == "", "a trace is not changed in place"


# ---------------------------------------------------------------- the modes alike


@pytest.mark.parametrize(
    "case",
    [
        "iptables-legacy-matrix",
        "iptables-nft-matrix-kp123",
        "ipvs-rr-matrix",
        "nftables-matrix",
        "nftables-matrix-kp136",
    ],
)
def test_every_mode_programs_the_same_services_alike(corpus: Path, case: str) -> None:
    """The objects say what is to be dialled, the policy and the affinity; every row says the same of them."""
    found = decode.decode(snapshot.read([str(corpus / case)]))
    wanted = {}
    for s in found.cluster.services:
        full, sticky = f"{s.namespace}/{s.service}", s.affinity_seconds if s.affinity == "ClientIP" else None
        # kube-proxy before 1.29 knows nothing of ipMode.
        balanced = (*s.lb_ips, *s.lb_ips_proxy) if case.endswith("kp123") else s.lb_ips
        for kind, ips, policy in (
            ("ClusterIP", s.cluster_ips, s.internal_policy),
            ("LoadBalancer", balanced, s.external_policy),
            ("ExternalIP", s.external_ips, s.external_policy),
        ):
            for ip in ips:
                wanted[full, s.name, s.protocol, kind, ip, s.port] = (policy, sticky)
        if s.node_port is not None:
            wanted[full, s.name, s.protocol, "NodePort", None, s.node_port] = (s.external_policy, sticky)
    for name in found.nodes:
        here = [row for row in dialects.programmed(found) if row.node == name]
        keys = [(r.service, r.port_name, r.protocol, r.kind, r.ip, r.port) for r in here]
        assert sorted(keys, key=str) == sorted(wanted, key=str)
        for row, key in zip(here, keys, strict=True):
            policy, sticky = wanted[key]
            assert row.policy in (policy, ""), row
            # Neither the sets of IPVS nor rules that refuse everybody tell the policy.
            assert (
                row.policy
                or row.verdict == "REJECT"
                or (row.kind == "ClusterIP" and ("ipvs" in case or "kp123" in case))
            )
            if row.backends:
                assert row.affinity_seconds == sticky, row
                assert row.scheduler == ("rr" if row.mode == "ipvs" else "random")
                assert sum((b.odds or 0 for b in row.backends), Fraction(0)) == 1
            assert bool(row.backends) != bool(row.verdict), row
        assert {row.mode for row in here} == {case.split("-")[0]}


def test_which_of_the_nodes_addresses_take_a_nodeport(corpus: Path) -> None:
    def addresses(case: str) -> set[tuple[str, ...]]:
        found = decode.decode(snapshot.read([str(corpus / case)]))
        return {tuple(map(str, r.addresses)) for r in dialects.programmed(found) if r.kind == "NodePort"}

    assert addresses("iptables-nft-matrix") == {()}
    assert addresses("iptables-nft-nodeport-addresses") == {
        ("192.168.52.200",), ("192.168.52.201",), ("192.168.52.202", "192.168.52.212"),
    }  # fmt: skip
    assert addresses("nftables-matrix") == {("192.168.52.200",), ("192.168.52.201",), ("192.168.52.202",)}
    assert addresses("ipvs-rr-matrix") == {
        ("192.168.52.200", "10.244.0.1"), ("192.168.52.201", "10.244.1.1"), ("192.168.52.202", "10.244.2.1"),
    }  # fmt: skip


def test_what_a_dialect_offers_is_what_the_package_asks_for() -> None:
    known = {
        "recognise",
        "owns",
        "opaque",
        "policed",
        "means",
        "complete",
        "complete_node",
        "programmed",
        "pod_devices",
        "inside",
        "routed",
        "DEVICES",
    }
    for dialect in dialects.dialects():
        assert dialect.NAME
        assert any(hasattr(dialect, name) for name in known), dialect.__name__
        assert not hasattr(dialect, "policed") or hasattr(dialect, "recognise"), dialect.__name__


def test_no_two_dialects_own_the_same_name() -> None:
    names = (
        "CNI-HOSTPORT-DNAT", "CNI-0123456789abcdef01234567", "cni_hostport", "FLANNEL-FWD", "flannel.1", "cali-FORWARD",
        "cali0123456789a", "CILIUM_INPUT", "cilium_host", "lxc0123456789ab", "KUBE-ROUTER-FORWARD", "kube-bridge",
        "KUBE-NWPLCY-DEFAULT", "AZURE-NPM", "azure-npm-1", "WEAVE-NPC", "weave", "KIND-MASQ-AGENT", "IP-MASQ-AGENT",
        "AWS-SNAT-CHAIN-0", "eni0123456789a", "DOCKER", "docker0", "ISTIO_OUTPUT", "nodelocaldns", "ovs-system",
        "KUBE-HOSTPORTS", "KILO-NAT", "ufw-before-forward", "FORWARD_direct",
    )  # fmt: skip
    for name in names:
        owners = [d.NAME for d in dialects.dialects() if hasattr(d, "owns") and d.owns(name)]
        assert len(owners) == 1, (name, owners)
    assert not [d.NAME for d in dialects.dialects() if hasattr(d, "owns") and d.owns("KUBE-SERVICES")]
