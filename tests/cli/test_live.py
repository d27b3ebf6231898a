"""What the commands share that ask a cluster: the words, the namespace, completion."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import click
import pytest

from netk8s.cli import Streams, _live
from netk8s.errors import CollectError
from netk8s.live import agents, api, objects
from netk8s.model import Ask


@pytest.mark.parametrize(
    ("ask", "namespace"),
    [
        (Ask("svc/nginx"), "shop"),
        (Ask("svc/other/nginx"), None),
        (Ask("10.0.0.1:80"), None),
        (Ask("svc/nginx", namespace="own"), "own"),
    ],
)
def test_the_contexts_namespace(ask: Ask, namespace: str | None) -> None:
    assert _live.with_namespace(ask, "shop").namespace == namespace
    assert _live.with_namespace(ask, "default") == ask


class Server:
    namespace = "shop"


def offered(monkeypatch: pytest.MonkeyPatch, begun: str, **words: Any) -> list[str]:
    monkeypatch.setattr(api, "connect", lambda access: Server())
    monkeypatch.setattr(objects, "service_names", lambda server: [("shop", "nginx"), ("shop", "api"), ("dev", "nginx")])
    context = click.Context(click.Command("trace"))
    context.params = words
    return _live.completed(context, click.Argument(["target"]), begun)


def test_completion_offers_services(monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered(monkeypatch, "svc/n") == ["svc/nginx"]
    assert offered(monkeypatch, "svc/dev/") == ["svc/dev/nginx"]
    assert offered(monkeypatch, "svc/n", namespace="dev") == ["svc/nginx"]
    assert offered(monkeypatch, "s")[0] == "svc/nginx"
    assert offered(monkeypatch, "pod/") == []
    assert offered(monkeypatch, "svc/", dumps=("a",)) == []


def test_completion_is_silent_where_the_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(access: object) -> None:
        raise CollectError("gone")

    monkeypatch.setattr(api, "connect", gone)
    assert _live.completed(click.Context(click.Command("trace")), click.Argument(["target"]), "svc/") == []


def test_the_agents_are_found_once_and_again_before_their_token_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now, found = [1000.0], list[str]()

    class Agents:
        def snapshot(self, node: str, pods: object) -> str:
            return node

    def find(server: object, namespace: str) -> Agents:
        found.append(namespace)
        return Agents()

    monkeypatch.setattr(agents, "find", find)
    monkeypatch.setattr(_live.time, "monotonic", lambda: now[0])
    asked = _live.Lazily(Server(), "netk8s")  # type: ignore[arg-type]
    assert found == []
    assert [asked.snapshot(node) for node in ("n1", "n2")] == ["n1", "n2"]
    assert found == ["netk8s"]
    now[0] += agents.TOKEN_SECONDS / 2 + 1
    asked.snapshot("n3")
    assert found == ["netk8s"] * 2


def test_a_kubeconfig_without_a_server_ends_with_5(tmp_path: Path, netk8s: Any) -> None:
    path = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "here", "context": {"cluster": "c", "user": "u"}}
    path.write_text(
        json.dumps(
            {
                "current-context": "here",
                "clusters": [cluster],
                "contexts": [context],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    ran = netk8s("trace", "svc/nginx", "--port", "80", "--kubeconfig", str(path))
    assert (ran.status, ran.out) == (5, "")
    assert "http://127.0.0.1:1 cannot be reached" in ran.err


class Pods:
    """Stands for live.agentless.Agentless. ``signals``: what is sent while it closes, one each time."""

    def __init__(self, *_: object) -> None:
        self.told: list[str] = []
        self.signals: list[int] = []
        Pods.last = self

    last: Pods

    def snapshot(self, node: str) -> str:
        return node

    def stop(self) -> None:
        self.told.append("stop")

    def close(self) -> None:
        self.told.append("closing")
        if self.signals:
            os.kill(os.getpid(), self.signals.pop())
        self.told.append("closed")


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Any:
    from netk8s.live import agentless

    monkeypatch.setattr(agentless, "Agentless", Pods)
    wanted = _live.Wanted(api.Access(), None, True, "image", False)
    return _live._nodes(Server(), wanted, Streams(None, io.StringIO(), io.StringIO()))  # type: ignore[arg-type]


def test_pods_are_removed_when_all_went_well(nodes: Any) -> None:
    with nodes as fetch:
        assert fetch("n1") == "n1"
        assert Pods.last.told == []
    assert Pods.last.told == ["closing", "closed"]


def test_pods_are_removed_after_an_error(nodes: Any) -> None:
    with pytest.raises(CollectError), nodes:
        raise CollectError("no answer")
    assert Pods.last.told[:2] == ["closing", "closed"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_pods_are_removed_after_a_signal_and_a_second_one_changes_nothing(nodes: Any, number: int) -> None:
    before = signal.getsignal(number)

    def interrupted() -> None:
        with nodes:
            Pods.last.signals = [number]
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Pods.last.told[:3] == ["stop", "closing", "closed"]
    assert Pods.last.signals == []
    assert signal.getsignal(number) is before


def test_a_signal_while_pods_are_removed_does_not_leave_any(nodes: Any) -> None:
    def interrupted() -> None:
        with nodes:
            Pods.last.signals = [signal.SIGINT]

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Pods.last.told == ["closing", "stop", "closing", "closed"]
