"""What all dialects together make of a world and a trace."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address

from netk8s import decode, dialects
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
