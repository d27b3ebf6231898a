"""The text and the document of ``netk8s decode``."""

from __future__ import annotations

import json
from fractions import Fraction
from ipaddress import ip_address

import jsonschema
import pytest
import yaml
from msgspec.structs import replace

from netk8s.model import At, Backend, Cluster, Missing, Node, Programmed, Recognised, Sign, World
from netk8s.render import decoded
from netk8s.render.decoded import Decoded, as_json, as_text, as_yaml
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
            at=At("n1.txt", 3), mode="iptables", scheduler="random", policy="Local",
        ),
        Programmed("n1", "", "", 17, "ClusterIP", ip_address("fd00::1"), 53, "", (), "REJECT", at=At("n1.txt", 9), mode="iptables"),
        Programmed("n1", HOSTILE, "", 6, "LoadBalancer", ip_address("192.0.2.1"), 80, HOSTILE, (), affinity=True, mode="ipvs"),
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


def test_yaml_says_the_same() -> None:
    assert yaml.safe_load(as_yaml(*sample())) == json.loads(as_json(*sample()))


@pytest.mark.parametrize("at_once", [1, 2, 3, 256])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_parts_of_a_document_are_one_document(monkeypatch: pytest.MonkeyPatch, at_once: int, count: int) -> None:
    monkeypatch.setattr(decoded, "_AT_ONCE", at_once)
    world, programmed = sample()
    world = replace(world, notes=('\n "services": []', "\nservices: []\n"))
    text = as_json(world, programmed[:count])
    doc = json.loads(text)
    assert text == json.dumps(doc, indent=1, ensure_ascii=False) + "\n"
    assert [one["port"] for one in doc["services"]] == [30000, 53, 80][:count]
    assert [len(one["endpoints"]) for one in doc["services"]] == [2, 0, 0][:count]
    assert doc["notes"] == list(world.notes)
    assert doc["missing"] == [{"what": "routes of n1", "needed_for": "forwarding"}]
    assert yaml.safe_load(as_yaml(world, programmed[:count])) == doc


def test_ways_with_the_same_endpoints_have_each_their_own() -> None:
    world, (first, *_) = sample()
    doc = json.loads(as_json(world, [first, replace(first, port=1), replace(first, backends=first.backends[:1])]))
    assert [len(one["endpoints"]) for one in doc["services"]] == [2, 2, 1]
    assert doc["services"][0]["endpoints"] == doc["services"][1]["endpoints"]


def test_the_text_has_a_line_for_each_way_and_each_endpoint() -> None:
    world, programmed = sample()
    same = replace(programmed[0], kind="LoadBalancer", ip=ip_address("192.0.2.9"), port=80, at=At("n1.txt", 4))
    server = Backend(ip_address("10.0.0.3"), 80, Fraction(1), "IPVS wrr", None, At("n1.txt", 8), 5)
    weighted = Programmed(
        "n1", "shop/web", "", 6, "NodePort", None, 30001, "IPVS wrr", (server,), "", True, At("n1.txt", 7),
        "ipvs", "wrr", "Cluster", 600, (ip_address("192.0.2.1"),),
    )  # fmt: skip
    lines = as_text(world, (programmed[0], same, programmed[1], weighted)).splitlines()
    assert lines == [
        "n1: 3 services, 4 ways to dial, iptables and ipvs mode, from n1.txt",
        "default/nginx:http",
        "  NodePort     *:30000/tcp       policy Local; KUBE-EXT-1, line 3",
        "  LoadBalancer 192.0.2.9:80/tcp  policy Local; KUBE-EXT-1, line 4",
        "       50%  10.0.0.1:80  default/nginx-1, KUBE-SEP-5, line 5",
        "         ?  10.0.0.2:80  KUBE-SEP-6, line 6",
        "?",
        "  ClusterIP    [fd00::1]:53/udp  policy not told; line 9",
        "      REJECT: no usable endpoint",
        "shop/web",
        "  NodePort     *:30001/tcp  policy Cluster, sticky for 600 s, on 192.0.2.1; IPVS wrr, line 7",
        "      100%  10.0.0.3:80  wrr, weight 5, line 8",
        "",
        "n2: 0 services, 0 ways to dial",
        "",
        "note: a note",
        "missing: routes of n1: needed for forwarding",
    ]


def test_hostile_names_do_not_reach_the_terminal() -> None:
    text = as_text(*sample())
    assert all(line.isprintable() for line in text.split("\n"))
    assert "sticky" in text
    assert as_text(*sample(), ascii=True).isascii()
    assert max(map(len, as_text(*sample(), width=60).splitlines())) <= 60


def test_components_are_listed_with_what_they_were_recognised_by() -> None:
    _, programmed = sample()
    opaque = World({"n1": Node("n1", opaque="its programs decide"), "n2": Node("n2")}, Cluster())
    parts = [
        Recognised("flannel", "n1", (Sign("link flannel.1", At("ip-link.json", 1)), Sign("x" * 90, At("y", 2)))),
        Recognised("docker", "n2", (Sign(HOSTILE, At("z", 3)),)),
    ]
    doc = json.loads(as_json(opaque, programmed, parts))
    jsonschema.validate(doc, json_schema(Decoded), cls=jsonschema.Draft202012Validator)
    assert doc["components"][0] == {
        "node": "n1", "name": "flannel", "signs": ["link flannel.1, ip-link.json:1", f"{'x' * 90}, y:2"],
    }  # fmt: skip
    assert "n1: its programs decide" in doc["notes"]
    text = as_text(opaque, programmed, parts)
    lines = text.splitlines()
    assert lines[1] == "  flannel: link flannel.1, ip-link.json:1;"
    assert all(len(line) <= 100 for line in lines if "flannel" in line or "xxx" in line)
    assert "\x1b" not in text
    assert "note: n1: its programs decide" in text
