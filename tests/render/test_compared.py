"""The text and the document of ``netk8s compare``."""

from __future__ import annotations

import json
from fractions import Fraction
from ipaddress import ip_address

import jsonschema
import yaml
from msgspec.structs import replace

from netk8s.comparison import Comparison, Difference, Row
from netk8s.model import Ask
from netk8s.render.compared import Compared, as_json, as_text, as_yaml, clients, several
from netk8s.render.document import json_schema
from netk8s.survey import Answer, Because, Dialled, Place, Port, Question, Result, Stop

HOSTILE = "shop/\x1b[2J\n\udcff"


def sample(service: str = "shop/web") -> Comparison:
    place = Place(ip_address("10.0.0.5"), 80, "n1", "shop/web-1")
    port = Port(service, "http", 6, (Dialled("NodePort", None, 30080),), (place,), (4,))
    stop = Stop("n1", beside=True, stands_for=("n2",))
    ask = Ask("127.0.0.1:30080", protocol="tcp", source="node/n1")
    question = Question(port, port.dialled[0], "127.0.0.1", "the node itself", ask, stop, stop)
    a = Answer(
        (Result("delivered", place.ip, 80, "shop/web-1", "n1", Fraction(1), False, ip_address("10.0.0.1"), "kept"),),
        (Because("Service shop/web: all endpoints", "-A KUBE-NODEPORTS -j KUBE-EXT-1", "n1.txt:9"),),
    )
    b = Answer((Result("refused", odds=Fraction(1)),), (Because("nobody listens on 127.0.0.1:30080 of n1"),))
    flow = Difference("outcome", question, a, b)
    row = Row(
        "outcome", question.kind, (question.who,), (str(port),), "delivered", "refused", a.because[0], b.because[0],
        (flow,),
    )  # fmt: skip
    return Comparison(7, (flow,), (row,), ("node n9",), (), 2, (("n1", ("n2",)),))


def test_the_document_is_valid_and_complete() -> None:
    doc = json.loads(as_json(sample(), "a", "b"))
    jsonschema.validate(doc, json_schema(Compared), cls=jsonschema.Draft202012Validator)
    assert (doc["schema"], doc["asked"], doc["differ"], doc["unknown"]) == ("netk8s.dev/compare/v1", 7, 1, 2)
    (row,) = doc["differences"]
    assert (row["kind"], row["dialled"], row["clients"]) == (
        "outcome", "NodePort at 127.0.0.1", ["the node itself (endpoint there)"],
    )  # fmt: skip
    assert row["a"]["because"] == {
        "text": "Service shop/web: all endpoints", "rule": "-A KUBE-NODEPORTS -j KUBE-EXT-1", "at": "n1.txt:9",
    }  # fmt: skip
    (flow,) = row["flows"]
    assert flow["ask"] == ["127.0.0.1:30080", "--from", "node/n1", "--protocol", "tcp"]
    assert (flow["service"], flow["sender_node"], flow["stands_for"]) == ("shop/web", "n1", ["n2"])
    assert [(o["verdict"], o["ip"], o["source_seen"], o["source_is"]) for o in flow["a"] + flow["b"]] == [
        ("delivered", "10.0.0.5", "10.0.0.1", "kept"), ("refused", None, None, None),
    ]  # fmt: skip
    assert doc["only_a"] == ["node n9"]
    assert doc["stands_for"] == {"n1": ["n2"]}
    assert yaml.safe_load(as_yaml(sample(), "a", "b")) == doc


def test_the_text_has_a_table_and_the_reasons() -> None:
    lines = as_text(sample(), "left", "right").splitlines()
    assert lines[:3] == [
        "A  left",
        "B  right",
        "7 flows asked of each, 1 differs; of 2 one of them does not tell the answer",
    ]
    assert lines[4].split() == ["FLOWS", "WHAT", "DIALLED", "A", "B"]
    assert lines[5].split() == ["1", "1", "outcome", "NodePort", "at", "127.0.0.1", "delivered", "refused"]
    text = "\n".join(lines)
    assert "   B         refused: nobody listens on 127.0.0.1:30080 of n1" in text
    assert "-A KUBE-NODEPORTS -j KUBE-EXT-1 (n1.txt:9)" in text
    assert "netk8s trace 127.0.0.1:30080 --from node/n1 --protocol tcp --dump A" in text
    assert "only A has: node n9" in text


def test_no_difference_is_one_sentence() -> None:
    found = Comparison(3, (), ())
    assert as_text(found, "a", "b") == "A  a\nB  b\n3 flows asked of each: none differs\n"


def test_narrow_plain_and_hostile() -> None:
    found = sample(HOSTILE)
    text = as_text(found, "a" * 90, "b", width=60, ascii=True)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 60
    assert all(line.isprintable() for line in as_text(found, "a", "b").splitlines())
    json.loads(as_json(found, "\udcff", "b"))


def test_a_wide_table_is_cut_to_the_page() -> None:
    row = sample().rows[0]
    wide = replace(row, dialled="x" * 70, a="y" * 70, b="z" * 70)
    text = as_text(Comparison(1, row.flows, (wide,)), "a", "b")
    assert max(map(len, text.splitlines())) <= 100


def test_clients_with_and_without_endpoint_are_one_kind() -> None:
    assert clients(["a pod (endpoint there)", "a pod (no endpoint there)", "an endpoint itself"]) == [
        "a pod", "an endpoint itself",
    ]  # fmt: skip
    assert clients(["outside through a node without endpoint"]) == ["outside through a node without endpoint"]


def test_many_names_are_counted() -> None:
    assert several([str(n) for n in range(9)], 3) == "0, 1, 2 and 6 more"
