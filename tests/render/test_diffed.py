"""The text and the document of ``netk8s diff``."""

from __future__ import annotations

import json

import jsonschema
import yaml

from netk8s.changes import Change, Changes
from netk8s.comparison import Comparison
from netk8s.render.diffed import MOST_LINES, Diffed, as_json, as_text, as_yaml
from netk8s.render.document import json_schema

NOTHING = Comparison(4, (), ())
FOUND = Changes(
    (
        Change("endpoint", "shop/web:http tcp 10.0.0.5:80", "", "ready", "", ()),
        Change("rule", "IPv4 filter FORWARD: -A FORWARD -j DROP", "", "", "present", ("n1", "n2")),
        Change("sysctl", "net.ipv4.ip_forward", "", "1", "0", ("n2",)),
        Change("sysctl", "net.ipv4.conf.all.forwarding", "", "1", "0", ("n2",)),
    ),
    ("devices of n1: only A has a dump of them",),
)


def test_the_document_is_valid() -> None:
    doc = json.loads(as_json(NOTHING, FOUND, "a", "b"))
    jsonschema.validate(doc, json_schema(Diffed), cls=jsonschema.Draft202012Validator)
    assert [(c["kind"], c["a"], c["b"], c["nodes"]) for c in doc["changes"][:2]] == [
        ("endpoint", "ready", None, []), ("rule", None, "present", ["n1", "n2"]),
    ]  # fmt: skip
    assert doc["outcomes"]["asked"] == 4
    assert yaml.safe_load(as_yaml(NOTHING, FOUND, "a", "b")) == doc


def test_the_text() -> None:
    lines = as_text(NOTHING, FOUND, "a", "b", ascii=True).splitlines()
    assert "  - shop/web:http tcp 10.0.0.5:80: ready" in lines
    assert "  + IPv4 filter FORWARD: -A FORWARD -j DROP (on n1, n2)" in lines
    assert "  ~ net.ipv4.ip_forward, net.ipv4.conf.all.forwarding: 1 -> 0 (on n2)" in lines
    assert "  - devices of n1: only A has a dump of them" in lines


def test_a_long_list_is_cut_in_text_and_whole_in_the_document() -> None:
    many = Changes(tuple(Change("pod", f"shop/web-{i}", "", f"Running {i}", "", ()) for i in range(MOST_LINES + 3)))
    assert "    and 3 more: -o json has all" in as_text(NOTHING, many, "a", "b").splitlines()
    assert len(json.loads(as_json(NOTHING, many, "a", "b"))["changes"]) == MOST_LINES + 3


def test_hostile_names_do_not_reach_the_terminal() -> None:
    hostile = Changes((Change("pod", "shop/\x1b[2J\n\udcff", "", "Running", "", ()),))
    text = as_text(NOTHING, hostile, "a", "b")
    assert "\x1b" not in text
    assert "\\x1b[2J" in text
    json.loads(as_json(NOTHING, hostile, "a", "b"))
