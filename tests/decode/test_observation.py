"""Observations: read as they are written, and a wrong one is told with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from netk8s import decode
from netk8s.decode import observation
from netk8s.errors import DecodeError
from netk8s.model import At, Dump, Observation, Reached, Snapshot

WRITTEN: dict[str, Any] = {
    "schema": "netk8s.dev/observation/v1",
    "made_by": "netk8s-probes 0.1.0",
    "time": "2026-01-01T00:00:00+00:00",
    "source": "client",
    "sent": {"kind": "connect", "protocol": "tcp", "src": "192.0.2.9", "sport": 41000, "dst": "192.0.2.1", "dport": 30000},
    "result": "connected",
    "answer": "syn-ack",
    "endpoint": {"ip": "10.0.0.5", "port": 80},
    "source_seen": "10.0.0.1",
    "seen": [{"what": "probe", "place": "cni0", "node": "n1", "dev": "cni0", "src": "10.0.0.1", "dst": "10.0.0.5"}],
    "later": {"versions": "add things"},
}  # fmt: skip


def read(*documents: object) -> list[Observation]:
    data = "".join(json.dumps(one) + "\n" for one in documents).encode()
    found = list(observation.decode(Dump("probe.jsonl", data)))
    assert all(isinstance(one, Observation) for one in found)
    return found  # type: ignore[return-value]


def test_what_a_probe_wrote() -> None:
    (found,) = read(WRITTEN)
    assert found.sent.dst == ip_address("192.0.2.1")
    assert (found.sent.sport, found.sent.dport, found.sent.protocol) == (41000, 30000, 6)
    assert found.endpoint == Reached(ip_address("10.0.0.5"), 80)
    assert found.source_seen == ip_address("10.0.0.1")
    assert [(one.place, one.node) for one in found.seen] == [("cni0", "n1")]
    assert found.at == At("probe.jsonl", 1)
    assert found.traced == found.path == ()
    assert found.entry is None


def test_one_a_line() -> None:
    assert [one.at.line for one in read(WRITTEN, WRITTEN)] == [1, 2]


def test_icmp_has_no_ports() -> None:
    (found,) = read({**WRITTEN, "sent": {"protocol": "icmp", "src": "192.0.2.9", "dst": "192.0.2.1"}, "seen": []})
    assert (found.sent.sport, found.sent.dport, found.sent.icmp_type) == (None, None, 8)


def changed(**members: object) -> dict[str, Any]:
    return {**WRITTEN, **members}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (changed(schema="netk8s.dev/observation/v9"), "schema: expected 'netk8s.dev/observation/v1'"),
        (changed(sent=None), "sent: expected an object"),
        (changed(result="perhaps"), "result: expected one of connected"),
        (changed(sent={**WRITTEN["sent"], "protocol": "smoke"}), r"sent\.protocol: expected a protocol"),
        (changed(sent={**WRITTEN["sent"], "dst": "2001:db8::1"}), r"sent\.dst: expected an IPv4 address"),
        (changed(sent={**WRITTEN["sent"], "dport": 70000}), r"sent\.dport: expected a whole number of 0 to 65535"),
        (changed(seen=[{"place": "x"}]), r"seen\[0\]\.src: expected an IP address"),
        (changed(path=[{"node": "a"}]), r"path\[0\]\.table"),
        (changed(conntrack={}), r"conntrack\.original"),
        ([WRITTEN], "expected an object as `netk8s probe` writes it"),
    ],
)
def test_what_is_wrong_is_told(document: object, why: str) -> None:
    with pytest.raises(DecodeError, match=f"probe.jsonl:1: .*{why}"):
        read(document)


def test_cut_off() -> None:
    with pytest.raises(DecodeError, match="ends too early"):
        list(observation.decode(Dump("x", json.dumps(WRITTEN).encode()[:-9])))


def test_it_is_one_more_dump() -> None:
    dump = Dump("probe.json", json.dumps(WRITTEN, indent=1).encode())
    found = decode.recognise(dump)
    assert found is not None
    assert found.NAME == "observation"
    world = decode.decode(Snapshot((dump,)))
    assert len(world.observations) == 1
    assert not world.nodes


@pytest.mark.parametrize(
    "make", [lambda d: {"kind": "List", "items": [d]}, lambda d: {"a": "netk8s.dev/observation/v1"}]
)
def test_other_json_is_none(make: Callable[[object], object]) -> None:
    assert not observation.sniff(Dump("x", json.dumps(make(WRITTEN)).encode()))
