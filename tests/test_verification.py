"""A prediction beside an observation: the way that it was, and the first thing that differs."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from netk8s.model import (
    TCP,
    UDP,
    At,
    Choice,
    Flow,
    Hop,
    Observation,
    Packet,
    Question,
    Reached,
    Reply,
    Rewrite,
    Sighting,
    Step,
    Trace,
    TracedRule,
    Way,
)
from netk8s.verification import about, compare, verified

CLIENT, NODE, A, B, CNI = map(ip_address, ("192.0.2.9", "192.0.2.1", "10.0.0.5", "10.0.0.6", "10.0.0.1"))
ASKED = Packet(TCP, CLIENT, NODE, None, 30000)
FLOW = Flow("svc/a", "client", "outside", "n1", ASKED)
JUMP = "-A PREROUTING -j KUBE-SERVICES"
MASQUERADE = "-A POSTROUTING -j MASQUERADE"


def step(table: str, rule: str, line: int, **more: object) -> Step:
    return Step("prerouting", table, rule.split()[1], rule, At("rules", line), "ACCEPT", **more)  # type: ignore[arg-type]


def way(ip: object = A, verdict: str = "delivered", **more: object) -> Way:
    """Through n1 to an endpoint, masqueraded."""
    steps = (
        step("nat", JUMP, 1),
        step("nat", f"-A KUBE-SERVICES -j DNAT --to-destination {ip}:80", 2),
        Step("forward", "", "", None, None, "forward by cni0"),
        step("nat", MASQUERADE, 9),
    )
    found = Way(
        (Hop("n1", "eth0", "cni0", steps),), Fraction(1, 2), (), verdict, "", Packet(TCP, CNI, ip, 41000, 80),  # type: ignore[arg-type]
        Reached(ip, 80), CNI, rewrites=(Rewrite("n1", MASQUERADE, None, CLIENT, CNI, "first address"),),  # type: ignore[arg-type]
    )  # fmt: skip
    return replace(found, **more)  # type: ignore[arg-type]


def trace(*ways: Way, flow: Flow = FLOW) -> Trace:
    return Trace(flow, ways, (), (), Reply(True, ""), (), ())


def seen(ip: object = A, result: str = "connected", **more: object) -> Observation:
    """What the kernel of n1 said of a packet that went to an endpoint."""
    rules = (JUMP, f"-A KUBE-SERVICES -j DNAT --to-destination {ip}:80", MASQUERADE)
    found = Observation(
        "client", ASKED.replace(sport=41000), result, "", Reached(ip, 80), CNI,  # type: ignore[arg-type]
        (Sighting("postrouting", Packet(TCP, CNI, ip, 5, 80), "n1", "cni0"),),  # type: ignore[arg-type]
        tuple(TracedRule("n1", "nat", rule.split()[1], rule) for rule in rules), ("n1",),
    )  # fmt: skip
    return replace(found, **more)  # type: ignore[arg-type]


def test_dice_are_no_difference() -> None:
    found = compare(trace(way(A), way(B)), seen(B))
    assert found.way == 1
    assert found.possible == 2
    assert not found.differences
    assert found.compared
    assert all(claim.agrees for claim in found.claims)
    assert [row.at for row in found.rows] == ["rules:1", "rules:2", "rules:9"]


def test_an_endpoint_that_no_way_leads_to() -> None:
    found = compare(trace(way(A), way(B)), seen(ip_address("10.0.0.7")))
    texts = [(d.about, d.text) for d in found.differences]
    assert ("source", "endpoint: predicted 10.0.0.5:80, observed 10.0.0.7:80") in texts
    assert [about for about, _ in texts] == ["source", "path"]


def test_another_source() -> None:
    found = compare(trace(way()), seen(source_seen=CLIENT))
    assert [d.text for d in found.differences] == ["source seen: predicted 10.0.0.1, observed 192.0.2.9"]


def test_another_device() -> None:
    sighting = Sighting("postrouting", Packet(TCP, CNI, A, 5, 80), "n1", "eth0")
    found = compare(trace(way()), seen(seen=(sighting,)))
    assert [d.text for d in found.differences] == [
        "leaves n1 by: predicted cni0 from 10.0.0.1, observed eth0 from 10.0.0.1"
    ]


def inserted(rule: str, at: int) -> Observation:
    one = seen()
    extra = TracedRule("n1", "filter", rule.split()[1], rule, "continue")
    return replace(one, path=(*one.path[:at], extra, *one.path[at:]))


def test_a_rule_more_is_where_the_paths_part() -> None:
    (difference,) = compare(trace(way()), inserted("-A FORWARD -j MARK --set-xmark 0x1/0x1", 2)).differences
    assert difference.about == "path"
    assert difference.text.startswith("on n1 the paths part behind nat -A KUBE-SERVICES -j DNAT")
    assert "predicted nat -A POSTROUTING -j MASQUERADE, observed filter -A FORWARD -j MARK" in difference.text
    assert difference.evidence == ("rules:2", "rules:9")


def test_the_first_rule_differs() -> None:
    (difference,) = compare(trace(way()), inserted("-A PREROUTING -j MARK --set-xmark 0x1/0x1", 0)).differences
    assert (
        "part from the first rule on: predicted nat -A PREROUTING -j KUBE-SERVICES, observed filter" in difference.text
    )


@pytest.mark.parametrize("rule", ["-A FORWARD -m limit --limit 1/sec -j LOG", "-A FORWARD -m recent --set"])
def test_a_rule_without_effect_is_no_difference(rule: str) -> None:
    found = compare(trace(way()), inserted(rule, 2))
    assert not found.differences
    assert [row.idle for row in found.rows] == [False, False, True, False]


def test_no_rule_at_all_is_a_path_too() -> None:
    (difference,) = compare(trace(way()), seen(path=())).differences
    assert "observed no further rule" in difference.text


def test_a_node_that_was_not_traced_is_not_compared() -> None:
    found = compare(trace(way()), seen(path=(), traced=(), seen=()))
    assert not found.rows
    assert not found.differences


@pytest.mark.parametrize(
    ("predicted", "result", "agrees"),
    [
        ("delivered", "connected", True),
        ("delivered", "timeout", False),
        ("delivered", "refused", False),
        ("dropped", "timeout", True),
        ("dropped", "connected", False),
        ("unreachable", "unreachable", True),
        ("unreachable", "timeout", True),
        ("refused", "refused", True),
        ("refused", "timeout", False),
        ("unknown", "timeout", None),
    ],
)
def test_verdicts(predicted: str, result: str, agrees: bool | None) -> None:
    found = compare(trace(way(verdict=predicted)), seen(result=result))
    (claim,) = [claim for claim in found.claims if claim.subject == "verdict"]
    assert claim.agrees is agrees
    assert ["verdict"] * (agrees is False) == [d.about for d in found.differences if d.about == "verdict"]


def test_udp_that_nobody_answers_may_have_been_delivered() -> None:
    flow = replace(FLOW, packet=replace(ASKED, protocol=UDP))
    one = seen(result="timeout", sent=replace(ASKED, protocol=UDP, sport=1))
    assert not [d for d in compare(trace(way(), flow=flow), one).differences if d.about == "verdict"]


def test_what_is_assumed_says_so() -> None:
    found = compare(trace(way(assumptions=("somebody answers",))), seen(result="timeout"))
    assert [d.text for d in found.differences] == ["verdict: assumed delivered, observed timeout"]
    assert found.assumptions == ("somebody answers",)


def test_an_assumption_that_turned_out_false() -> None:
    question = Question("k", "nobody listens there", "somebody listens there", default=False)
    ways = (way(choices=(Choice(question, False),)), way(verdict="refused", choices=(Choice(question, True),)))
    found = compare(trace(*ways), seen(result="refused"))
    assert found.way == 1
    assert found.answers == ("nobody listens there",)


def test_the_default_is_preferred() -> None:
    question = Question("k", "nobody listens there", "somebody listens there", default=True)
    ways = (way(choices=(Choice(question, False),)), way(choices=(Choice(question, True),)))
    assert compare(trace(*ways), seen()).way == 1


def test_no_way_is_nothing_to_compare() -> None:
    found = compare(trace(), seen())
    assert found.way is None
    assert not found.compared


def test_whether_it_is_the_same_packet() -> None:
    assert about(FLOW, seen())
    assert not about(FLOW, seen(sent=ASKED.replace(dport=1)))
    assert not about(FLOW, seen(sent=ASKED.replace(src=A)))
    assert about(replace(FLOW, stand_ins=((CLIENT, "client"),)), seen(sent=ASKED.replace(src=A)))
    assert list(verified(trace(way()), [seen(sent=ASKED.replace(dport=1))])) == []


def test_an_address_that_stands_for_another_is_not_compared() -> None:
    flow = replace(FLOW, stand_ins=((CLIENT, "client"),))
    kept = replace(way(), rewrites=(), source=CLIENT)
    found = compare(trace(kept, flow=flow), seen(source_seen=B, seen=()))
    assert {claim.subject: claim.agrees for claim in found.claims if claim.agrees is None} == {
        "sender": None,
        "source seen": None,
    }


def test_the_order_between_two_backends_is_the_predicted_one() -> None:
    """The kernel does not tell it, so it is no difference."""
    one = seen()
    first, second, third = one.path
    ours = (replace(first, backend="legacy"), replace(third, backend="legacy"), replace(second, backend="nft"))
    assert not compare(trace(way()), replace(one, path=ours)).differences
    extra = replace(second, rule="-A KUBE-SERVICES -j MARK --set-xmark 0x1/0x1", backend="nft", action="continue")
    (difference,) = compare(trace(way()), replace(one, path=(*ours, extra))).differences
    assert "observed nat -A KUBE-SERVICES -j MARK" in difference.text


def test_the_order_within_a_backend_counts() -> None:
    one = seen()
    first, second, third = (replace(event, backend="nft") for event in one.path)
    assert compare(trace(way()), replace(one, path=(second, first, third))).differences
