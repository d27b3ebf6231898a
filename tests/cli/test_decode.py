from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import yaml

from netk8s.render.decoded import Decoded
from netk8s.render.document import json_schema

FILE = "headline-nodeport-30000/nodes/k8s-node1/iptables-save.txt"


def test_a_text_of_what_a_dump_programs(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("decode", str(corpus / FILE), "--node", "n1")
    assert (ran.status, ran.err) == (0, "")
    first, *lines = ran.out.splitlines()
    assert first.startswith("n1: 2 services")
    assert "  flannel: filter FORWARD jumps to FLANNEL-FWD," in lines
    at = lines.index("default/nginx")
    assert lines[at + 1].split()[:2] == ["ClusterIP", "10.96.120.30:80/tcp"]
    assert lines[at + 2].split()[:4] == ["NodePort", "*:30000/tcp", "policy", "Cluster;"]
    assert [line.split()[:2] for line in lines[at + 3 : at + 6]] == [
        ["33.3%", "10.244.1.5:80"], ["33.3%", "10.244.1.6:80"], ["33.3%", "10.244.2.5:80"],
    ]  # fmt: skip
    assert max(map(len, lines)) <= 100


def test_yaml_is_the_same_document(netk8s: Callable, corpus: Path) -> None:
    printed = [netk8s("decode", str(corpus / FILE), "-o", format_).out for format_ in ("json", "yaml")]
    assert yaml.safe_load(printed[1]) == json.loads(printed[0])


def test_the_same_as_a_document_from_standard_input(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("decode", "-", "-o", "json", stdin=(corpus / FILE).read_bytes())
    doc = json.loads(ran.out)
    jsonschema.validate(doc, json_schema(Decoded), cls=jsonschema.Draft202012Validator)
    (node_port,) = [one for one in doc["services"] if one["kind"] == "NodePort"]
    assert [(end["ip"], end["odds_exact"]) for end in node_port["endpoints"]] == [
        ("10.244.1.5", "1/3"), ("10.244.1.6", "1/3"), ("10.244.2.5", "1/3"),
    ]  # fmt: skip


def test_what_cannot_be_read(netk8s: Callable, tmp_path: Path) -> None:
    ran = netk8s("decode", str(tmp_path / "absent"))
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.startswith("netk8s: ")
