"""Node after node: live and offline give one answer, and a node that is missing is said."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from netk8s import decode, dialects, journey, render, snapshot
from netk8s.errors import CollectError
from netk8s.live import asking
from netk8s.model import Addr, Ask, Dump, Snapshot

ASKS = [
    Ask("svc/nginx", "30000"),
    Ask("svc/nginx", "30000", via="k8s-node1"),
    Ask("svc/nginx", "80"),
    Ask("svc/nginx", "80", source="node/k8s-node2"),
    Ask("node/k8s-node1", "30000"),
]


ETH0 = (
    b'[{"ifindex":2,"ifname":"eth0","flags":["UP","LOWER_UP"],"operstate":"UP","addr_info":'
    b'[{"family":"inet","local":"%s","prefixlen":24,"scope":"global"}]}]\n'
)


class Cluster:
    """A recorded cluster whose nodes are asked one by one."""

    def __init__(self, path: Path, down: tuple[str, ...] = ()) -> None:
        self.whole = snapshot.read([str(path)])
        self.objects = Snapshot(tuple(d for d in self.whole.dumps if d.node is None))
        self.down, self.asked = down, list[str]()

    def fetch(self, node: str) -> Snapshot:
        self.asked.append(node)
        if node in self.down:
            raise CollectError("its agent does not answer")
        return Snapshot(tuple(d for d in self.whole.dumps if d.node == node))


@pytest.fixture
def recorded(root: Path) -> Path:
    return root / "examples/nginx-nodeport"


@pytest.mark.parametrize("ask", ASKS, ids=str)
def test_the_answer_is_that_of_all_dumps(ask: Ask, recorded: Path) -> None:
    cluster = Cluster(recorded)
    report, known = asking.answer(cluster.objects, ask, cluster.fetch)
    offline = journey.answer(dialects.complete(decode.decode(cluster.whole)), ask)
    assert render.render(report, "json") == render.render(offline, "json")
    assert not known.failed
    assert len(cluster.asked) == len(set(cluster.asked))


def test_a_packet_that_goes_no_further_asks_no_further(recorded: Path) -> None:
    cluster = Cluster(recorded)
    report, _ = asking.answer(cluster.objects, Ask("node/k8s-node1", "30999", via="k8s-node1"), cluster.fetch)
    assert cluster.asked == ["k8s-node1"]
    assert {outcome.verdict for outcome in report.trace.outcomes} == {"refused"}


def test_a_node_on_the_way_that_is_missing(recorded: Path) -> None:
    cluster = Cluster(recorded, down=("k8s-node2",))
    report, known = asking.answer(cluster.objects, Ask("svc/nginx", "30000", via="k8s-node1"), cluster.fetch)
    assert known.failed == {"k8s-node2": "its agent does not answer"}
    (gap,) = (gap for gap in report.trace.missing if "k8s-node2" in gap.what)
    assert (gap.what, gap.node) == ("node k8s-node2 (its agent does not answer)", "k8s-node2")
    assert "whether somebody listens there" in gap.needed_for
    assert report.trace.reply.why.endswith("; it begins on k8s-node2, of which there is none")
    by_node = {o.reached.node: o.assumed for o in report.trace.outcomes if o.reached is not None}
    assert by_node == {"k8s-node1": False, "k8s-node2": True}


def test_the_node_that_was_chosen_stays_chosen_when_it_is_missing(recorded: Path) -> None:
    cluster = Cluster(recorded, down=("k8s-master",))
    report, _ = asking.answer(cluster.objects, Ask("svc/nginx", "30000"), cluster.fetch)
    assert cluster.asked == ["k8s-master"]
    assert [o.verdict for o in report.trace.outcomes] == ["unknown"]


def test_a_sender_whose_node_is_missing(recorded: Path) -> None:
    cluster = Cluster(recorded, down=("k8s-node2",))
    with pytest.raises(CollectError, match="k8s-node2: its agent does not answer"):
        asking.answer(cluster.objects, Ask("svc/nginx", "80", source="node/k8s-node2"), cluster.fetch)


def test_without_nodes_there_is_nobody_to_ask(recorded: Path) -> None:
    cluster = Cluster(recorded)
    objects = Snapshot(tuple(d for d in cluster.objects.dumps if "nodes.json" not in d.origin))
    with pytest.raises(CollectError, match="nodes cannot be listed"):
        asking.answer(objects, Ask("svc/nginx", "80"), cluster.fetch)


def test_progress_is_told(recorded: Path) -> None:
    cluster, told = Cluster(recorded), list[tuple[int, int]]()
    asking.answer(cluster.objects, Ask("svc/nginx", "30000", via="k8s-node1"), cluster.fetch, lambda *t: told.append(t))
    assert told == [(1, 1), (2, 2)]


def test_the_pods_at_both_ends_are_entered_once_and_what_is_closed_is_said(recorded: Path) -> None:
    cluster, entered = Cluster(recorded), list[tuple[str, dict[str, str]]]()

    def enter(node: str, pods: Mapping[str, Addr]) -> Snapshot:
        entered.append((node, {pod: str(ip) for pod, ip in pods.items()}))
        if node == "k8s-node2":
            raise CollectError("it may not")
        own = tuple(
            Dump(f"nodes/{node}/pods/{pod.replace('/', '_')}/ip-addr.json", ETH0 % str(ip).encode(), node, pod)
            for pod, ip in pods.items()
        )
        return Snapshot((*cluster.fetch(node).dumps, *own))

    ask = Ask("svc/nginx", "30000", via="k8s-node1")
    report, known = asking.answer(cluster.objects, ask, cluster.fetch, enter=enter)
    assert sorted(node for node, _ in entered) == ["k8s-node1", "k8s-node2"]
    assert sorted(ip for _, pods in entered for ip in pods.values()) == ["10.244.1.5", "10.244.1.6", "10.244.2.5"]
    nodes = known.world().nodes
    assert {str(a.ip) for pod in nodes["k8s-node1"].pods.values() for a in pod.addresses} == {
        "10.244.1.5",
        "10.244.1.6",
    }
    assert nodes["k8s-node2"].pods == {}
    assert {o.verdict for o in report.trace.outcomes} == {"delivered"}
    assert any("of default/nginx-" in gap.what and "(it may not)" in gap.what for gap in report.trace.missing)
    assert not known.failed


def test_answers_are_handed_on_as_they_come_and_no_more_are_held() -> None:
    most, now, lock, taken, told = 0, 0, threading.Lock(), list[str](), list[tuple[int, int]]()

    def fetch(name: str) -> str:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        if name == "n7":
            raise CollectError("its agent does not answer")
        return name

    def took(name: str, answer: str) -> None:
        nonlocal now
        assert name == answer
        if name == "n8":
            raise CollectError("that is no answer")
        taken.append(name)
        with lock:
            now -= 1

    names = [f"n{i}" for i in range(30)]
    failed = asking.each(names, fetch, took, lambda done, total: told.append((done, total)), at_once=3)
    assert failed == {"n7": "its agent does not answer", "n8": "that is no answer"}
    assert sorted(taken) == sorted(set(names) - {"n7", "n8"})
    assert told == [(done, 30) for done in range(1, 31)]
    assert most <= 3 + len(failed)
