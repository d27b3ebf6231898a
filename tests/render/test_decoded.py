"""The table and the document of ``netk8s decode``."""

from __future__ import annotations

import json
from fractions import Fraction
from ipaddress import ip_address

import jsonschema

from netk8s.model import At, Backend, Cluster, Missing, Node, Programmed, World
from netk8s.render.decoded import Decoded, as_json, as_table
from netk8s.render.document import json_schema

HOSTILE = "default/\x1b[2J\n\udcff"


def sample() -> tuple[World, tuple[Programmed, ...]]:
    def backend(text: str, odds: Fraction | None, line: int, pod: str | None = None) -> Backend:
        return Backend(ip_address(text), 80, odds, f"KUBE-SEP-{line}", pod, At("n1.txt", line))

    world = World(
        {"n1": Node("n1"), "n2": Node("n2")}, Cluster(), (Missing("routes of n1", "forwarding"),), ("a note",)
    )
    programmed = (
        Programmed(
            "n1", "default/nginx", "http", 6, "NodePort", None, 30000, "KUBE-EXT-1",
            (backend("10.0.0.1", Fraction(1, 2), 5, "default/nginx-1"), backend("10.0.0.2", None, 6)),
            at=At("n1.txt", 3),
        ),
        Programmed("n1", "", "", 17, "ClusterIP", ip_address("fd00::1"), 53, "", (), "REJECT", at=At("n1.txt", 9)),
        Programmed("n1", HOSTILE, "", 6, "LoadBalancer", ip_address("192.0.2.1"), 80, HOSTILE, (), affinity=True),
    )  # fmt: skip
    return world, programmed


def test_the_document_is_valid_and_complete() -> None:
    doc = json.loads(as_json(*sample()))
    jsonschema.validate(doc, json_schema(Decoded), cls=jsonschema.Draft202012Validator)
    assert doc["schema"] == "netk8s.dev/decode/v1"
    assert doc["nodes"] == ["n1", "n2"]
    first = doc["services"][0]
    assert (first["service"], first["port_name"], first["protocol"], first["ip"]) == (
        "default/nginx",
        "http",
        "tcp",
        None,
    )
    assert first["endpoints"][0]["odds_exact"] == "1/2"
    assert first["endpoints"][1]["odds"] is None
    assert doc["services"][1]["verdict"] == "REJECT"


def test_the_table_has_a_row_for_each_endpoint() -> None:
    world, programmed = sample()
    lines = as_table(world, programmed[:2]).splitlines()
    assert lines[0] == "n1: 2 services, 2 ways to dial, from n1.txt"
    assert lines[1].split() == ["SERVICE", "KIND", "DIAL", "CHAIN", "ODDS", "ENDPOINT", "POD", "LINE"]
    assert lines[2].split() == [
        "default/nginx:http",
        "NodePort",
        "*:30000/tcp",
        "KUBE-SEP-5",
        "50%",
        "10.0.0.1:80",
        "default/nginx-1",
        "5",
    ]
    assert lines[3].split() == ["KUBE-SEP-6", "?", "10.0.0.2:80", "6"]
    assert lines[4].split() == ["?", "ClusterIP", "[fd00::1]:53/udp", "REJECT", "9"]
    assert "n2: 0 services, 0 ways to dial" in lines
    assert lines[-2:] == ["note: a note", "missing: routes of n1: needed for forwarding"]


def test_hostile_names_do_not_reach_the_terminal() -> None:
    text = as_table(*sample())
    assert all(line.isprintable() for line in text.split("\n"))
    assert "LoadBalancer, sticky" in text
    assert as_table(*sample(), ascii=True).isascii()
