"""The JSON document against its own schema and against the contract's words."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

from netk8s.model import Report
from netk8s.render.document import Document, document, json_schema, odds, utf8

Build = Callable[[str], Report]


def plain(report: Report) -> Any:
    return json.loads(msgspec.json.encode(document(report)))


def test_every_report_is_valid_under_the_schema(report: Report) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(plain(report), schema, cls=jsonschema.Draft202012Validator)


def test_the_schema_refuses_what_the_contract_does_not_have(build: Build) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    good = plain(build("one endpoint"))
    for spoil in (
        {"schema": "netk8s.dev/trace/v2"},
        {"surprise": 1},
        {"outcomes": [{**good["outcomes"][0], "verdict": "lost"}]},
        {"outcomes": [{**good["outcomes"][0], "odds": 1.5}]},
        {"findings": [{**good["findings"][0], "code": "nk1"}]},
    ):
        assert not validator.is_valid({**good, **spoil}), spoil
    del good["reply"]
    assert not validator.is_valid(good)


def test_the_schema_says_what_it_is() -> None:
    schema = json_schema(Document)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "netk8s.dev/trace/v1" in schema["title"]
    # What most answers have nothing to say in is absent then.
    assert set(schema["required"]) == set(schema["properties"]) - {"notes", "legs"}
    assert schema["$defs"]["Leg"]["properties"]["document"] == {"$ref": "#"}
    assert list(schema["$defs"]["Hop"]["properties"]) == ["node", "in", "out", "steps", "other_backend"]
    assert list(schema["$defs"]["Alternative"]["properties"]) == ["if", "outcomes"]
    assert sorted(schema["$defs"]["Outcome"]["properties"]["verdict"]["enum"]) == [
        "delivered", "dropped", "refused", "unknown", "unreachable",
    ]  # fmt: skip


def test_the_contract_s_names_and_nesting(build: Build) -> None:
    doc = plain(build("nodeport"))
    assert list(doc) == [
        "schema", "question", "outcomes", "paths", "reply", "findings", "assumptions", "alternatives", "missing",
    ]  # fmt: skip
    assert doc["question"] == {
        "target": "svc/default/nginx",
        "source": "client",
        "entry_node": "n1",
        "packet": {"protocol": "tcp", "src": "192.0.2.50", "sport": None, "dst": "192.0.2.201", "dport": 30000},
    }
    (first, *_) = doc["outcomes"]
    assert first == {
        "verdict": "delivered",
        "odds": 0.333333,
        "odds_exact": "1/3",
        "endpoint": {"ip": "10.244.1.5", "port": 80, "pod": "default/nginx-7c5ddbdf54-4xk20", "node": "n1"},
        "source_seen": {
            "ip": "10.244.1.1",
            "preserved": False,
            "rewritten_by": [
                {
                    "node": "n1",
                    "rule": first["source_seen"]["rewritten_by"][0]["rule"],
                    "at": "nodes/n1/iptables-save.txt:98",
                    "address_because": "first address of cni0 whose subnet holds 10.244.1.5/32",
                }
            ],
        },
        "reason": "",
        "paths": [0],
    }
    assert doc["paths"][0]["odds_exact"] == "1/3"
    hop = doc["paths"][0]["hops"][0]
    assert (hop["node"], hop["in"], hop["out"]) == ("n1", "ens33", "cni0")
    mark = hop["steps"][4]
    assert mark["changes"] == {"mark": "0x0 → 0x4000"}
    assert mark["odds_exact"] == "1"
    routing = next(step for step in hop["steps"] if step["hook"] == "routing")
    assert routing["rule"] is None


def test_legs_are_documents_of_their_own(build: Build) -> None:
    doc = plain(build("legs"))
    assert doc["paths"] == []
    assert [outcome["odds_exact"] for outcome in doc["outcomes"]] == ["1/2", "1/2"]
    first, second, third = doc["legs"]
    assert (first["after"], first["odds_exact"], first["besides"]) == (None, "1", False)
    assert (second["after"], third["odds_exact"], third["besides"]) == ([0, 0], None, True)
    assert first["document"] == plain(Report(build("legs").legs[0].trace, build("legs").findings))
    assert "legs" not in first["document"]
    assert doc["notes"] == second["document"]["notes"] == ["the proxy puts the client's address into X-Forwarded-For"]


@pytest.mark.parametrize("verdict", ["refused", "dropped", "unreachable", "unknown"])
def test_what_is_not_delivered_has_no_endpoint_and_no_source(build: Build, verdict: str) -> None:
    (outcome,) = plain(build(verdict))["outcomes"]
    assert outcome["verdict"] == verdict
    assert outcome["reason"]
    assert outcome["endpoint"] is None
    assert outcome["source_seen"] is None
    assert (outcome["odds"] is None) == (outcome["odds_exact"] is None) == (verdict == "unknown")


def test_a_source_that_no_dump_tells_is_null_and_not_left_out(build: Build) -> None:
    doc = plain(build("forked"))
    seen = doc["outcomes"][1]["source_seen"]
    assert (seen["ip"], seen["preserved"]) == (None, False)
    assert doc["outcomes"][2]["source_seen"]["preserved"] is None
    assert doc["alternatives"][0]["if"] == "the legacy nat chains were registered last"
    assert doc["alternatives"][0]["outcomes"][0]["verdict"] == "delivered"
    assert doc["missing"] == [{"what": "recent lists of n1", "needed_for": "rule nodes/n1/iptables-save.txt:20"}]


def test_a_protocol_without_a_name_is_its_number(build: Build) -> None:
    base = build("one endpoint")
    flow = replace(base.trace.flow, packet=replace(base.trace.flow.packet, protocol=253, dport=None))
    packet = plain(Report(replace(base.trace, flow=flow)))["question"]["packet"]
    assert (packet["protocol"], packet["dport"]) == ("253", None)


def test_odds_have_six_places() -> None:
    assert odds(Fraction(2, 3)) == 0.666667
    assert odds(Fraction(1)) == 1.0
    assert odds(None) is None


def test_any_text_becomes_utf8() -> None:
    assert utf8("plain → ü") == "plain → ü"
    assert utf8("\udcff") == "\\xff"
    assert utf8("\ud800").encode()
