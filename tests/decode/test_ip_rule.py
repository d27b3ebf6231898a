"""``ip -j rule``: every selector that iproute2 prints, and the family that it does not print."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from netk8s.decode import ip_rule
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, RoutingRule

# Printed by iproute2 6.1 on Linux 6.18.
FOUR = """[{"priority":0,"src":"all","table":"local"},
{"priority":10,"src":"10.0.0.0","srclen":8,"dst":"1.2.3.4","fwmark":"0x1","fwmask":"0xff","iif":"lo","table":"100"},
{"priority":11,"not":null,"src":"all","fwmark":"0xca6c","table":"51820"},
{"priority":12,"src":"all","oif":"d0","oif_detached":null,"ipproto":"tcp","sport_start":10,"sport_end":20,"dport":80,
"table":"100"},
{"priority":13,"src":"all","uid_start":1000,"uid_end":2000,"action":"blackhole"},
{"priority":14,"src":"all","tos":"0x10","action":"prohibit"},
{"priority":15,"src":"all","goto":32766},
{"priority":16,"src":"all","table":"main","suppress_prefixlen":0},
{"priority":17,"src":"all","nop":null},
{"priority":20,"src":"all","goto":999,"unresolved":null},
{"priority":21,"src":"all","table":"main","suppress_ifgroup":"7"},
{"priority":22,"src":"all","tun_id":5,"table":"100"},
{"priority":23,"src":"all","table":"100","protocol":"static"},
{"priority":32766,"src":"all","table":"main"},{"priority":32767,"src":"all","table":"default"}]
"""
SIX = '[{"priority":0,"src":"all","table":"local"},{"priority":32766,"src":"all","table":"main"}]'


def rules(text: str) -> dict[int, RoutingRule]:
    found = ip_rule.decode(Dump("ip-rule.json", text.encode()))
    return {fact.priority: fact for fact in found if isinstance(fact, RoutingRule)}


def test_every_selector() -> None:
    found = rules(FOUR)
    at = At("ip-rule.json")
    assert found[0] == RoutingRule(0, 4, table="local", at=at)
    src, dst = ip_network("10.0.0.0/8"), ip_network("1.2.3.4/32")
    assert found[10] == RoutingRule(10, 4, "lookup", "100", src, dst, "lo", fwmark=1, fwmask=0xFF, at=at)
    assert found[11] == RoutingRule(11, 4, table="51820", fwmark=0xCA6C, negated=True, at=at)
    ports = found[12]
    assert (ports.oif, ports.ipproto, ports.sport, ports.dport) == ("d0", 6, (10, 20), (80, 80))
    assert (found[13].action, found[13].uidrange, found[13].table) == ("blackhole", (1000, 2000), None)
    assert (found[14].action, found[14].tos) == ("prohibit", 0x10)
    assert (found[15].action, found[15].goto) == ("goto", 32766)
    assert (found[16].table, found[16].suppress_prefixlength) == ("main", 0)
    assert found[17].action == "nop"
    assert found[20].goto == 999


def test_selectors_that_are_not_known_are_kept_as_such() -> None:
    found = rules(FOUR)
    assert found[21].unknown == ("suppress_ifgroup",)
    assert found[22].unknown == ("tun_id",)
    assert {priority for priority, rule in found.items() if rule.unknown} == {21, 22}
    (odd,) = rules('[{"priority":1,"src":"all","tos":"mine","action":"nat","l3mdev":null}]').values()
    assert odd.unknown == ("l3mdev", "tos", "action nat")


def test_families_of_two_outputs_in_one_file() -> None:
    facts = list(ip_rule.decode(Dump("x", (FOUR + SIX).encode())))
    assert [fact.kind for fact in facts if isinstance(fact, Coverage)] == ["rule4", "rule6"]
    assert {rule.family for rule in rules(SIX).values()} == {6}
    by_address = '[{"priority":12,"src":"fd01::","srclen":64,"table":"default"}]'
    assert rules(by_address)[12].family == 6
    assert rules(by_address)[12].src == ip_network("fd01::/64")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"src": "10.0.0.0", "srclen": 64}, "an address or prefix"),
        ({"ipproto": "nonsense"}, "an IP protocol"),
        ({"sport_start": 5}, "a range"),
        ({"sport_start": 5, "sport_end": 4}, "a range"),
        ({"fwmark": "0x1ffffffff"}, "whole number"),
        ({"src": "10.0.0.1", "dst": "fd00::1"}, "dump each family by itself"),
    ],
)
def test_wrong_rules(entry: dict[str, object], why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        rules(json.dumps([{"priority": 1, "src": "all", "table": "default", **entry}]))


def test_sniff() -> None:
    assert ip_rule.sniff(Dump("x", FOUR.encode()))
    assert ip_rule.sniff(Dump("x", SIX.encode()))
    assert not ip_rule.sniff(Dump("x", b"[]"))


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/ip-rule.json"):
        recorded = Dump(str(path), path.read_bytes())
        assert ip_rule.sniff(recorded)
        coverage, *found = ip_rule.decode(recorded)
        assert coverage == Coverage("rule4", At(str(path), 1))
        assert [rule.table for rule in found if isinstance(rule, RoutingRule)] == ["local", "main", "default"]
