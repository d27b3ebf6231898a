"""What is written is what is read."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec.structs import replace

from netk8s.decode import observation as decoder
from netk8s.model import At, ConntrackEntry, ConntrackTuple, Dump, Observation, Packet, Reached, Sighting, TracedRule
from netk8s.render import observation

CLIENT, NODE, POD = map(ip_address, ("192.0.2.9", "192.0.2.1", "10.0.0.5"))
FULL = Observation(
    "client",
    Packet(6, CLIENT, NODE, 41000, 30000),
    "connected",
    "syn-ack",
    Reached(POD, 80, "default/a", "n1"),
    NODE,
    (Sighting("postrouting", Packet(6, NODE, POD, 1, 80, 0x4000), "n1", "cni0"),),
    (TracedRule("n1", "nat", "PREROUTING", "-A PREROUTING -j KUBE-SERVICES", "jump KUBE-SERVICES"),
     TracedRule("n1", "filter", "FORWARD", None, "drop")),
    ("n1",),
    ConntrackEntry(6, ConntrackTuple(CLIENT, NODE, 41000, 30000), ConntrackTuple(POD, NODE, 80, 1), mark=0),
    "2026-01-01T00:00:00+00:00",
)  # fmt: skip


def back(one: Observation) -> Observation:
    text = observation.render(one, "a test")
    assert text.count("\n") == 1
    (found,) = decoder.decode(Dump("", text.encode()))
    assert isinstance(found, Observation)
    entry = found.entry and replace(found.entry, at=At(""))
    return replace(found, at=At(""), entry=entry)


def test_nothing_is_lost() -> None:
    assert back(FULL) == FULL


def test_nothing_is_added() -> None:
    bare = Observation(
        "", Packet(58, ip_address("fd00::1"), ip_address("fd00::2"), icmp_type=128, icmp_code=0), "timeout"
    )
    assert back(bare) == bare
