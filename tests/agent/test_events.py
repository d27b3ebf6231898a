"""Findings as Events, with the API server played: it keeps what is created and knows no object twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from netk8s.agent.events import AGAIN, MOST, PATH, WITHIN, Events


class Server:
    """Statuses as kube-apiserver gives them."""

    def __init__(self) -> None:
        self.there: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.gone = False
        self.refuses = 0

    async def __call__(self, method: str, path: str, body: Mapping[str, Any]) -> int:
        self.asked.append(method)
        if self.gone:
            raise OSError("gone")
        if self.refuses:
            return self.refuses
        if method == "POST":
            assert path == PATH
            name = body["metadata"]["name"]
            if name in self.there:
                return 409
            self.there[name] = json.loads(json.dumps(body))
            return 201
        name = path.removeprefix(f"{PATH}/")
        if name not in self.there:
            return 404
        self.there[name] |= body
        return 200

    @property
    def counts(self) -> list[int]:
        return [event["count"] for event in self.there.values()]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(node: str = "n1") -> tuple[Events, Server, Clock]:
    server, clock = Server(), Clock()
    return Events(node, server, clock), server, clock


def tell(events: Events, *findings: tuple[str, str, str]) -> None:
    document = {"findings": [{"code": code, "severity": grade, "summary": text} for code, grade, text in findings]}
    asyncio.run(events.told(json.dumps(document).encode()))


ERROR = ("NK404", "error", "n1 does not forward")


def test_errors_and_warnings_are_events_of_the_node() -> None:
    events, server, _ = made()
    tell(events, ERROR, ("NK101", "warning", "the source is lost"), ("NK102", "info", "kept"))
    assert [(e["reason"], e["type"], e["message"]) for e in server.there.values()] == [
        ("NK404", "Warning", "n1 does not forward"), ("NK101", "Warning", "the source is lost"),
    ]  # fmt: skip
    first = next(iter(server.there.values()))
    assert first["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1"}
    assert (first["metadata"]["namespace"], first["count"]) == ("default", 1)
    assert first["source"] == {"component": "netk8s-agent", "host": "n1"}


def test_a_finding_that_stays_is_one_event_whose_count_is_seldom_written() -> None:
    events, server, clock = made()
    for _ in range(5):
        tell(events, ERROR, ERROR)
    assert (server.asked, server.counts) == (["POST"], [1])
    clock.now += AGAIN
    tell(events, ERROR)
    assert (server.asked, server.counts) == (["POST", "PATCH"], [6])


def test_an_event_of_an_earlier_agent_goes_on_with_its_count() -> None:
    events, server, clock = made()
    tell(events, ERROR)
    (name,) = server.there
    server.there[name] |= {"count": 40, "lastTimestamp": "long ago"}
    later = Events("n1", server, clock)
    tell(later, ERROR)
    assert server.counts == [40]
    assert server.there[name]["lastTimestamp"] != "long ago"


def test_an_event_that_the_api_server_forgot_begins_anew() -> None:
    events, server, clock = made()
    tell(events, ERROR)
    server.there.clear()
    clock.now += AGAIN
    tell(events, ERROR)
    assert (server.asked, server.counts) == (["POST", "PATCH", "POST"], [1])


def test_many_findings_are_told_little_by_little() -> None:
    events, server, clock = made()
    many = [("NK404", "error", f"pod {i} is not routed") for i in range(MOST + 5)]
    tell(events, *many)
    assert (len(server.there), events.dropped) == (MOST, 5)
    clock.now += WITHIN
    tell(events, *many[MOST:])
    assert len(server.there) == MOST + 5


@pytest.mark.parametrize("how", ["gone", "refuses"])
def test_an_api_server_that_does_not_answer_is_asked_again_later(how: str) -> None:
    events, server, _ = made()
    setattr(server, how, 403 if how == "refuses" else True)
    tell(events, ERROR, ("NK101", "warning", "x"))
    assert (server.there, server.asked) == ({}, ["POST"])
    setattr(server, how, 0)
    tell(events, ERROR)
    assert server.counts == [2]


@pytest.mark.parametrize("document", [b"", b"[]", b'{"findings": [1]}', b'{"findings": [{"severity": "error"}]}'])
def test_what_is_no_document_is_no_event(document: bytes) -> None:
    events, server, _ = made()
    asyncio.run(events.told(document))
    assert server.asked == []


def test_names_are_ones_that_the_api_server_takes_and_no_two_nodes_share() -> None:
    names = set()
    for node in ("n1", "n2", "a" * 253, "x" * 199 + ".b"):
        events, server, _ = made(node)
        tell(events, ("NK404", "error", "one\n text \udcff"))
        names |= set(server.there)
    assert len(names) == 4
    assert all(
        len(name) <= 253 and not name.startswith(".") and ".." not in name and ".-" not in name for name in names
    )
