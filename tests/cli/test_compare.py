from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import yaml

from netk8s.render.compared import Compared
from netk8s.render.document import json_schema

CASE = "headline-nodeport-30000"
OFF = "iptables-nft-localhost-nodeports-off"


def test_the_same_snapshot_twice(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("compare", str(corpus / CASE), str(corpus / CASE), "--service", "nginx")
    assert (ran.status, ran.err) == (0, "")
    assert "none differs" in ran.out


def test_a_setting_that_differs(netk8s: Callable, corpus: Path) -> None:
    """The same cluster with and without NodePorts at 127.0.0.1, and nothing else."""
    argv = ("compare", str(corpus / "iptables-nft-detect-local-bridge"), str(corpus / OFF), "--service", "nginx")
    ran = netk8s(*argv)
    assert ran.status == 1
    assert "NodePort at 127.0.0.1" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100
    doc = json.loads(netk8s(*argv, "-o", "json").out)
    jsonschema.validate(doc, json_schema(Compared), cls=jsonschema.Draft202012Validator)
    (row,) = [each for each in doc["differences"] if each["dialled"] == "NodePort at 127.0.0.1"]
    assert (row["kind"], row["a"]["what"], row["b"]["what"]) == ("outcome", "delivered", "refused")
    assert {outcome["verdict"] for flow in row["flows"] for outcome in flow["b"]} == {"refused"}
    assert yaml.safe_load(netk8s(*argv, "-o", "yaml").out) == doc


def test_a_service_that_is_not_there(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("compare", str(corpus / CASE), str(corpus / CASE), "--service", "ngnix")
    assert (ran.status, ran.out) == (4, "")
    assert "default/nginx" in ran.err


def test_what_cannot_be_read(netk8s: Callable, corpus: Path, tmp_path: Path) -> None:
    ran = netk8s("compare", str(corpus / CASE), str(tmp_path / "absent"))
    assert (ran.status, ran.out) == (3, "")
