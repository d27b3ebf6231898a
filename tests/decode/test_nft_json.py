"""``nft -j list ruleset``: tables, chains, rules and sets; what its words come to."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from netk8s.decode import _json, nft_json
from netk8s.errors import DecodeError
from netk8s.model import (
    At,
    Coverage,
    Dump,
    NftElement,
    NftExpr,
    NftStatement,
    NftTable,
    NftVerdict,
)

HERE = Path(__file__).parent
REAL = b"""{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
{"table": {"family": "bridge", "name": "b", "handle": 1}},
{"chain": {"family": "bridge", "table": "b", "name": "f", "type": "filter", "hook": "forward", "prio": -200}},
{"chain": {"family": "bridge", "table": "b", "name": "g", "handle": 2}},
{"rule": {"family": "bridge", "table": "b", "chain": "g", "expr": []}}]}
"""


def table(*items: object) -> NftTable:
    dump = Dump("x", json.dumps({"nftables": list(items)}).encode())
    return next(fact for fact in nft_json.decode(dump) if isinstance(fact, NftTable))


def statements(*expr: object) -> tuple[NftStatement, ...]:
    rule = {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": list(expr)}}
    return table(rule).chains["c"].rules[0].statements


def test_chains() -> None:
    covered, found = nft_json.decode(Dump("x", REAL))
    assert covered == Coverage("nft", At("x"))
    assert isinstance(found, NftTable)
    base = found.chains["f"]
    assert (found.family, found.name, base.type, base.hook, base.priority, base.policy) == (
        "bridge", "b", "filter", "forward", -200, "accept",
    )  # fmt: skip
    assert not found.chains["g"].hook
    assert len(found.chains["g"].rules) == 1


def test_an_empty_ruleset_is_covered() -> None:
    empty = Dump("x", b'{"nftables": [{"metainfo": {}}]}')
    assert nft_json.sniff(empty)
    assert list(nft_json.decode(empty)) == [Coverage("nft", At("x", 1))]


def test_dormant_tables() -> None:
    for flags in ("dormant", ["dormant"]):
        assert table({"table": {"family": "ip", "name": "t", "flags": flags}}).dormant
    assert table({"table": {"family": "ip", "name": "t"}}).dormant is False
    assert table({"table": {"family": "ip", "name": "t", "flags": "owner"}}).dormant is False
    # nft 1.0.6: "json: fix use after free in table_flags_json()" is of 1.1.0.
    assert table({"table": {"family": "ip", "name": "t", "flags": "tcp"}}).dormant is None


def test_elements_keep_comment_and_times() -> None:
    element = {"elem": {"val": {"concat": ["10.0.0.1", "tcp", 80]}, "comment": "a/b", "timeout": 600, "expires": 3}}
    found = table(
        {
            "map": {
                "family": "ip", "table": "t", "name": "m", "type": ["ipv4_addr", "inet_proto", "inet_service"],
                "map": "verdict", "elem": [[element, {"goto": {"target": "c"}}], ["*", {"drop": None}]],
            }
        }
    ).sets["m"]  # fmt: skip
    assert found.map
    assert list(found.elements) == [
        NftElement(NftExpr("concat", (), ("10.0.0.1", "tcp", 80)), NftVerdict("goto", "c"), "a/b", 600, 3),
        NftElement(NftExpr("*"), NftVerdict("drop")),
    ]


def test_a_set_with_a_timeout_is_one_that_changes() -> None:
    """nft 1.0.6 does not print the flag "dynamic" in JSON."""
    members = {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr", "flags": ["timeout"], "timeout": 5}
    assert table({"set": members}).sets["s"].dynamic
    assert table({"set": {**members, "elem": ["10.0.0.1"]}}).sets["s"].dynamic
    assert not table({"set": {k: v for k, v in members.items() if k != "timeout"}}).sets["s"].dynamic


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("op", "dynamic"), [("add", True), ("update", True), ("delete", False)])
def test_a_set_that_rules_add_to_is_one_that_changes(
    op: str, dynamic: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nft 1.0.6 does not print the flag "dynamic" in JSON; the kernel takes such a rule for no other set."""
    monkeypatch.setattr(_json, "_LARGE", 0 if large else 1 << 40)
    elem = {"payload": {"protocol": "ip", "field": "saddr"}}
    there = {"family": "ip", "table": "t"}
    rule = {**there, "chain": "c", "handle": 3, "expr": [{"set": {"op": op, "elem": elem, "set": "@s"}}]}
    sets = [{"set": {**there, "name": name, "type": "ipv4_addr", "handle": 1}} for name in ("s", "other")]
    found = table(*sets, {"chain": {**there, "name": "c", "handle": 2}}, {"rule": rule}).sets
    assert (found["s"].dynamic, found["other"].dynamic) == (dynamic, False)


def test_a_chain_of_operators_as_newer_versions_print_it() -> None:
    meta = {"meta": {"key": "mark"}}
    (found,) = statements({"mangle": {"key": meta, "value": {"|": [meta, 1, 2]}}})
    inner = NftExpr("|", (), (NftExpr("meta", ("mark",)), 1))
    assert found.args[1] == NftExpr("|", (), (inner, 2))


@pytest.mark.parametrize("value", [{"what": 1}, {"match": {}}, {"dnat": {"addr": {"map": 3}}}, 7, "x", {"jump": {}}])
def test_what_is_not_understood_is_unknown(value: object) -> None:
    found = statements(value, {"drop": None})
    text = repr(found)
    assert "unknown" in text
    assert found[-1] == NftStatement("verdict", (), (NftVerdict("drop"),))


def test_nesting_ends() -> None:
    value: object = 1
    for _ in range(60):
        value = {"|": [value, 1]}
    assert "nested too deeply" in repr(statements({"mangle": {"key": {"meta": {"key": "mark"}}, "value": value}}))


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"nftables": 1},
        {"nftables": [1]},
        {"nftables": [{"chain": {"hook": "input"}}]},
        {"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c", "hook": "input", "prio": "x"}}]},
        {"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c", "hook": "input"}}]},
        {"nftables": [{"rule": {"family": "ip", "table": "t"}}]},
    ],
)
def test_wrong_shapes(value: object) -> None:
    with pytest.raises(DecodeError):
        list(nft_json.decode(Dump("x", json.dumps(value).encode())))


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/nft-ruleset.json*"):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert nft_json.sniff(Dump(str(path), data))
        found = [fact for fact in nft_json.decode(Dump(str(path), data)) if isinstance(fact, NftTable)]
        assert sum(bool(c.hook) for t in found for c in t.chains.values()) == data.count(b'"hook": "')
        kinds = {s.kind for t in found for c in t.chains.values() for r in c.rules for s in r.statements}
        assert "unknown" not in kinds


def _all(data: bytes) -> list[object]:
    found: list[object] = []
    for table in nft_json.decode(Dump("x", data)):
        assert isinstance(table, NftTable | Coverage)
        if isinstance(table, NftTable):
            chains = [
                (c.name, c.type, c.hook, c.priority, c.policy, c.at, tuple(c.rules)) for c in table.chains.values()
            ]
            sets = [
                (s.name, s.types, s.map, s.dynamic, s.timeout, s.at, tuple(s.elements)) for s in table.sets.values()
            ]
            found.append((table.family, table.name, table.index, table.dormant, table.at, chains, sets))
    return found


@pytest.mark.parametrize("damage", [b"", b"\xff", b'"rule"', b'{"rule": null}, {"rule": 1}', b'{"chain": {}}', b"["])
def test_a_large_listing_is_passed_over_with_the_same_facts(damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (HERE / "nft" / "every-statement.json").read_bytes()
    if damage:
        data = data.replace(b'{"rule": ', damage + b', {"rule": ', 1)
        assert damage in data

    def told() -> object:
        try:
            return _all(data)
        except DecodeError as error:
            return str(error)

    read = told()
    passed_over = 0

    def spelled(dump: Dump, key: str) -> object:
        nonlocal passed_over
        found = _json.spelled(dump, key)
        passed_over += found is not None
        return found

    monkeypatch.setattr(_json, "_LARGE", 0)
    monkeypatch.setattr(nft_json, "spelled", spelled)
    assert told() == read
    assert passed_over == (damage not in (b"\xff", b"["))
