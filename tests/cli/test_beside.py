"""Rounds of checks by agents: what is news, and what is not. The agents are this process, on recorded nodes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from netk8s import checkup, decode, dialects, parts, snapshot
from netk8s.cli import Streams, _parts
from netk8s.cli._parts import Asked, Rounds
from netk8s.errors import CollectError
from netk8s.live import objects
from netk8s.model import Dump, Snapshot
from netk8s.news import News, news
from netk8s.render.check import as_part

CASE = "headline-nodeport-30000"


class Recorded:
    """A recorded cluster whose nodes and objects can be changed, in place of an API server and its agents."""

    def __init__(self, folder: Path) -> None:
        self.dumps = {dump.origin: dump for dump in snapshot.read([str(folder)]).dumps}
        self.away: set[str] = set()
        self.worked: list[str] = []

    def everything(self, *_: object) -> Snapshot:
        return Snapshot(tuple(dump for dump in self.dumps.values() if dump.node is None))

    def agents(self) -> Recorded:
        return self

    def part(
        self, node: str, shared: Mapping[str, bytes], own: bytes, question: Sequence[object], known: bytes | None
    ) -> bytes:
        if node in self.away:
            raise CollectError(f"no agent runs on {node}")
        sent = snapshot.read(["-"], stdin=io.BytesIO(b"".join(shared.values()) + own))
        mine = Snapshot((*sent.dumps, *(dump for dump in self.dumps.values() if dump.node == node)))
        found = checkup.check(dialects.complete(decode.decode(mine)), alone=True)
        answer = as_part.render(found).encode()
        if answer == known:
            return known
        self.worked.append(node)
        return answer

    def edit(self, origin: str, *changes: tuple[bytes, bytes]) -> None:
        data = bytes(self.dumps[origin].data)
        for old, new in changes:
            assert old in data
            data = data.replace(old, new)
        self.dumps[origin] = Dump(origin, data, self.dumps[origin].node)

    def with_node(self, name: str) -> None:
        document = json.loads(self.dumps["cluster/nodes.json"].data)
        address = {"type": "InternalIP", "address": "192.168.52.209"}
        new: dict[str, Any] = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}, "spec": {},
                               "status": {"addresses": [address]}}  # fmt: skip
        document["items"] = [item for item in document["items"] if item["metadata"]["name"] != name]
        self.dumps["cluster/nodes.json"] = Dump(
            "cluster/nodes.json", json.dumps({**document, "items": [*document["items"], new]}).encode()
        )


@pytest.fixture
def cluster(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    made = Recorded(corpus / CASE)
    monkeypatch.setattr(objects, "everything", made.everything)
    monkeypatch.setattr(_parts, "_agents", lambda *_: made)
    return made


@pytest.fixture
def err() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def rounds(cluster: Recorded, err: io.StringIO) -> Rounds:
    return Rounds(None, None, Streams(io.BytesIO(), io.StringIO(), err), ())  # type: ignore[arg-type]


def told(rounds: Rounds) -> News | None:
    _, after, before = rounds.next()
    return None if before is None else news(before, after)


def off(cluster: Recorded) -> None:
    cluster.edit(
        "nodes/k8s-node1/sysctl.txt", (b".forwarding = 1", b".forwarding = 0"), (b"ip_forward = 1", b"ip_forward = 0")
    )


def test_nothing_is_news_and_what_is_the_same_is_not_sent_again(cluster: Recorded, rounds: Rounds) -> None:
    assert told(rounds) is None
    assert sorted(cluster.worked) == ["k8s-master", "k8s-node1", "k8s-node2"]
    assert told(rounds) == News()
    assert len(cluster.worked) == 3


def test_a_node_that_stops_forwarding(cluster: Recorded, rounds: Rounds) -> None:
    told(rounds)
    off(cluster)
    found = told(rounds)
    assert found
    assert any("does not forward" in problem.finding.summary for problem in found.appeared)
    assert ("NodePort", "none fails") in {(row.dialled, row.a) for row in found.rows}
    assert all("dropped" in row.b for row in found.rows)
    assert all("default/nginx" in row.services and row.number for row in found.rows)
    assert cluster.worked.count("k8s-node1") == 2
    assert told(rounds) == News()


def test_an_agent_that_is_away_is_no_change_of_what_was_found(
    cluster: Recorded, rounds: Rounds, err: io.StringIO
) -> None:
    off(cluster)
    told(rounds)
    cluster.away.add("k8s-node1")
    assert (told(rounds), told(rounds)) == (News(), News())
    assert err.getvalue().count("k8s-node1 does not answer") == 1
    now, _, _ = rounds.next()
    assert [gap.node for gap in now.missing] == ["k8s-node1"], "how things are says that it is not known of that node"
    cluster.away.clear()
    assert told(rounds) == News()
    assert err.getvalue().count("k8s-node1 answers again") == 1


def test_what_changed_while_an_agent_was_away_is_told_when_it_is_back(cluster: Recorded, rounds: Rounds) -> None:
    told(rounds)
    cluster.away.add("k8s-node1")
    off(cluster)
    assert told(rounds) == News()
    cluster.away.clear()
    found = told(rounds)
    assert found
    assert any("does not forward" in problem.finding.summary for problem in found.appeared)


def test_a_node_that_comes_or_goes_is_no_change_of_outcomes(cluster: Recorded, rounds: Rounds) -> None:
    told(rounds)
    before = cluster.dumps["cluster/nodes.json"]
    cluster.with_node("k8s-new")
    cluster.away.add("k8s-new")
    assert told(rounds) == News()
    cluster.dumps["cluster/nodes.json"] = before
    assert told(rounds) == News()


def test_a_node_that_is_gone_with_what_was_wrong_of_it_alone(cluster: Recorded, rounds: Rounds) -> None:
    off(cluster)
    told(rounds)
    document = json.loads(cluster.dumps["cluster/nodes.json"].data)
    document["items"] = [item for item in document["items"] if item["metadata"]["name"] != "k8s-node1"]
    cluster.dumps["cluster/nodes.json"] = Dump("cluster/nodes.json", json.dumps(document).encode())
    found = told(rounds)
    assert found is not None
    assert not any("k8s-node1" in problem.nodes for problem in found.gone)


def test_services_that_come_and_go(cluster: Recorded, rounds: Rounds) -> None:
    told(rounds)
    document = json.loads(cluster.dumps["cluster/services.json"].data)
    document["items"] = [item for item in document["items"] if item["metadata"]["name"] != "nginx"]
    cluster.dumps["cluster/services.json"] = Dump("cluster/services.json", json.dumps(document).encode())
    found = told(rounds)
    assert found
    assert (found.ports_new, found.ports_gone) == ((), ("default/nginx",))


def test_no_agent_answers(cluster: Recorded, rounds: Rounds) -> None:
    cluster.away.update(("k8s-master", "k8s-node1", "k8s-node2"))
    with pytest.raises(CollectError, match="no agent runs on"):
        rounds.next()


def test_an_answer_of_another_node_is_not_taken() -> None:
    with pytest.raises(ValueError, match="answered for n2"):
        Asked.read("n1", b'{"node":"n2","ports":"","more":[],"judged":true,"numbers":[],"exceptions":[],"findings":[]}')
    assert parts.Part("n1", "", (), True, (), (), ()) == Asked.read(
        "n1", b'{"node":"n1","ports":"","more":[],"judged":true,"numbers":[],"exceptions":[],"findings":[]}'
    )
