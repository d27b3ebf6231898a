from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import yaml

from netk8s.render.diffed import Diffed
from netk8s.render.document import json_schema

CASE = "headline-nodeport-30000"


def copied(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus / CASE, tmp_path / "b"))


def test_the_same_snapshot_twice(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("diff", str(corpus / CASE), str(corpus / CASE))
    assert (ran.status, ran.err) == (0, "")
    assert "none differs" in ran.out
    assert "no difference" in ran.out


def test_a_setting_changes_outcomes(netk8s: Callable, corpus: Path, tmp_path: Path) -> None:
    b = copied(corpus, tmp_path)
    for file in b.glob("nodes/k8s-node2/sysctl.txt"):
        file.write_text(
            file.read_text().replace(".forwarding = 1", ".forwarding = 0").replace("ip_forward = 1", "ip_forward = 0")
        )
    argv = ("diff", str(corpus / CASE), str(b), "--service", "nginx")
    ran = netk8s(*argv)
    assert (ran.status, ran.err) == (1, "")
    assert "net.ipv4.ip_forward" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100
    doc = json.loads(netk8s(*argv, "-o", "json").out)
    jsonschema.validate(doc, json_schema(Diffed), cls=jsonschema.Draft202012Validator)
    assert ("sysctl", "net.ipv4.ip_forward", "1", "0", ["k8s-node2"]) in [
        (c["kind"], c["name"], c["a"], c["b"], c["nodes"]) for c in doc["changes"]
    ]
    assert {c["kind"] for c in doc["changes"]} == {"sysctl"}
    row = doc["outcomes"]["differences"][0]
    assert (row["kind"], row["a"]["what"], row["b"]["what"]) == ("outcome", "delivered", "dropped")
    assert yaml.safe_load(netk8s(*argv, "-o", "yaml").out) == doc


def test_an_endpoint_and_its_pod_that_are_gone(netk8s: Callable, corpus: Path, tmp_path: Path) -> None:
    """A pod that is in one snapshot alone is nobody to ask from; the flows of the others are asked."""
    b = copied(corpus, tmp_path)
    pods = json.loads((b / "cluster/pods.json").read_text())
    gone = next(p for p in pods["items"] if p["metadata"]["labels"].get("app") == "nginx")
    pods["items"].remove(gone)
    (b / "cluster/pods.json").write_text(json.dumps(pods))
    slices = json.loads((b / "cluster/endpointslices.json").read_text())
    for item in slices["items"]:
        item["endpoints"] = [e for e in item["endpoints"] if gone["status"]["podIP"] not in e["addresses"]]
    (b / "cluster/endpointslices.json").write_text(json.dumps(slices))
    ran = netk8s("diff", str(corpus / CASE), str(b), "-o", "json")
    assert (ran.status, ran.err) == (1, "")
    assert [(c["kind"], c["b"]) for c in json.loads(ran.out)["changes"]] == [("endpoint", None), ("pod", None)]


def test_single_files(netk8s: Callable, corpus: Path, tmp_path: Path) -> None:
    file = corpus / CASE / "nodes/k8s-node1/iptables-save.txt"
    other = tmp_path / "later.txt"
    other.write_text(file.read_text().replace(":FORWARD ACCEPT", ":FORWARD DROP"))
    ran = netk8s("diff", str(file), str(other), "--node", "k8s-node1", "-o", "json")
    assert ran.status == 1
    assert [c["name"] for c in json.loads(ran.out)["changes"]] == [
        "nft IPv4 filter FORWARD: policy ACCEPT", "nft IPv4 filter FORWARD: policy DROP",
        "nft IPv4 mangle FORWARD: policy ACCEPT", "nft IPv4 mangle FORWARD: policy DROP",
    ]  # fmt: skip


def test_a_dump_that_only_one_has(netk8s: Callable, corpus: Path, tmp_path: Path) -> None:
    """Nothing differs, but not everything could be looked at."""
    b = copied(corpus, tmp_path)
    for file in b.glob("nodes/*/ip-neigh.json"):
        file.unlink()
    assert netk8s("diff", str(corpus / CASE), str(b), "--service", "nginx").status == 0
    (b / "nodes/k8s-node1/ip-rule.json").unlink()
    ran = netk8s("diff", str(corpus / CASE), str(b), "--service", "nginx")
    assert "IPv4 routing rules of k8s-node1: only A has a dump of them" in ran.out
    assert ran.status == 6


def test_what_is_not_there(netk8s: Callable, corpus: Path, tmp_path: Path) -> None:
    ran = netk8s("diff", str(corpus / CASE), str(corpus / CASE), "--service", "ngnix")
    assert (ran.status, ran.out) == (4, "")
    assert "default/nginx" in ran.err
    ran = netk8s("diff", str(corpus / CASE), str(tmp_path / "absent"))
    assert (ran.status, ran.out) == (3, "")
