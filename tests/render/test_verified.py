"""Prediction and observation on one page, and as a document."""

from __future__ import annotations

import json
from ipaddress import ip_address

from netk8s.model import Flow, Observation, Packet
from netk8s.render import verified
from netk8s.verification import Claim, Difference, Row, Verification

SENT = Packet(6, ip_address("192.0.2.9"), ip_address("192.0.2.1"), 41000, 30000)
FLOW = Flow("svc/a", "client", "outside", "n1", SENT)
SEEN = Observation("client", SENT, "connected", "syn-ack", traced=("n1",), time="2026-01-01T00:00:00+00:00")
RULE = '-A PREROUTING -m comment --comment "a \x1b[31m comment" -j KUBE-SERVICES'
AGREED = Verification(
    FLOW, SEEN, 0, 2,
    (Claim("verdict", "delivered", "connected (syn-ack)", True, "assumed"), Claim("source seen", "not known", "192.0.2.9", None)),
    (Row("n1", "nat", "PREROUTING", RULE, RULE, "predicted", "f:1"),), (), (), ("it answers",),
)  # fmt: skip
DIFFERING = Verification(
    FLOW, SEEN, 0, 1,
    (Claim("endpoint", "10.0.0.5:80", "10.0.0.6:80", False),),
    (Row("n1", "nat", "PREROUTING", RULE, None, "predicted", "f:1"), Row("n1", "nat", "X", None, "-A X -j DROP", "observed")),
    (Difference("path", "on n1 the paths part", ("f:1",)),), ("nobody listens",),
)  # fmt: skip


def test_agreement() -> None:
    text = verified.as_text(AGREED)
    assert "as predicted (2 ways were possible, and it was one of them), 1 rules matched in the same order" in text
    assert "both      nat PREROUTING: -m comment" in text
    assert "delivered [assumed]  connected (syn-ack)  agrees" in text
    assert "not compared" in text
    assert "it answers" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_difference() -> None:
    text = verified.as_text(DIFFERING, ascii=True)
    assert text.isascii()
    assert "not as predicted:" in text
    assert "- on n1 the paths part" in text
    assert "seen at: f:1" in text
    assert "predicted nat PREROUTING" in text
    assert "observed  nat X: -j DROP" in text
    assert "DIFFERS" in text
    assert "- nobody listens" in text


def test_colour() -> None:
    assert "\x1b[1;31m" in verified.as_text(DIFFERING, color=True)


def test_without_a_kernels_trace() -> None:
    bare = Verification(
        FLOW, Observation("", SENT, "timeout"), 0, 1, (Claim("verdict", "unknown", "timeout", None),), (), ()
    )
    text = verified.as_text(bare)
    assert "no kernel was asked to trace this packet" in text
    assert "the observation and the prediction speak of different things" in text
    assert json.loads(verified.as_json(bare))["agrees"] is None
    none = Verification(FLOW, SEEN, None, 0, (), (), ())
    assert "no way was predicted" in verified.as_text(none)


def test_the_document() -> None:
    found = json.loads(verified.as_json(DIFFERING))
    assert found["schema"] == "netk8s.dev/verification/v1"
    assert found["agrees"] is False
    assert found["rules"][1] == {
        "node": "n1", "table": "nat", "chain": "X", "predicted": None, "observed": "-A X -j DROP", "basis": "observed",
        "at": None, "agrees": False,
    }  # fmt: skip
    assert found["differences"] == [{"about": "path", "text": "on n1 the paths part", "evidence": ["f:1"]}]
    assert {claim["basis"] for claim in json.loads(verified.as_json(AGREED))["claims"]} == {"assumed", "predicted"}
