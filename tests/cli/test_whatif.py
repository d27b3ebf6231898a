from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema

from netk8s.render.diffed import Diffed
from netk8s.render.document import json_schema

CASE = "headline-nodeport-30000"


def test_a_policy(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("whatif", str(corpus / CASE), "--external-policy", "nginx=Local", "--service", "nginx", "-o", "json")
    assert (ran.status, ran.err) == (1, "")
    doc = json.loads(ran.out)
    assert doc["b"] == f"{doc['a']} with --external-policy nginx=Local"
    jsonschema.validate(doc, json_schema(Diffed), cls=jsonschema.Draft202012Validator)
    # From outside through a node without endpoint: what the recordings of policy Local show, silence.
    found = {
        (row["a"]["what"], row["b"]["what"])
        for row in doc["outcomes"]["differences"]
        for client in row["clients"]
        if (row["dialled"], client) == ("NodePort", "outside through a node without endpoint")
    }
    assert found == {("delivered", "dropped")}


def test_nothing_that_matters(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("whatif", str(corpus / CASE), "--rule", "k8s-node1: -A FORWARD -s 10.9.9.9/32 -j DROP",
                 "--service", "kubernetes", "-o", "json")  # fmt: skip
    doc = json.loads(ran.out)
    assert doc["outcomes"]["differences"] == []
    assert [c["b"] for c in doc["changes"]] == ["present"]
    assert ran.status == 0


def test_a_drained_node_says_what_it_takes_for_granted(netk8s: Callable, corpus: Path) -> None:
    ran = netk8s("whatif", str(corpus / CASE), "--drain", "k8s-node2", "--service", "nginx", "-o", "json")
    assert ran.status == 1
    assert ran.err.startswith("netk8s: k8s-node2 is drained")


def test_statuses(netk8s: Callable, corpus: Path, tmp_path: Path) -> None:
    case = str(corpus / CASE)
    for argv, status in (
        ((case,), 2),
        ((case, "--external-policy", "nginx=loud"), 2),
        ((str(tmp_path / "absent"), "--drain", "x"), 3),
        ((case, "--drain", "x"), 4),
        ((str(corpus / f"{CASE}-kp123"), "--external-policy", "nginx=Local"), 6),
    ):
        ran = netk8s("whatif", *argv)
        assert (ran.status, ran.out) == (status, ""), argv
        assert ran.err.startswith("netk8s: ")


def test_a_rule_in_the_words_of_nft(netk8s: Callable, corpus: Path) -> None:
    rule = "k8s-node1: insert rule ip kube-proxy filter-prerouting-pre-dnat tcp dport 30000 drop"
    ran = netk8s("whatif", str(corpus / "nftables-matrix-kp136"), "--rule", rule, "--service", "nginx", "-o", "json")
    assert (ran.status, ran.err) == (1, "")
    found = {
        (row["dialled"], row["a"]["what"], row["b"]["what"]) for row in json.loads(ran.out)["outcomes"]["differences"]
    }
    # Nobody listens at the node's other addresses, and the rule comes before that is found out.
    assert ("NodePort", "delivered", "dropped") in found
    assert {(a, b) for dialled, a, b in found if dialled != "NodePort"} == {("refused", "dropped")}
    ran = netk8s("whatif", str(corpus / "nftables-matrix-kp136"), "--rule", "k8s-node1: flush ruleset")
    assert (ran.status, ran.out) == (2, "")
