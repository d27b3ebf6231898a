"""Decisions on tokens: the API server's, never the agent's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from netk8s.agent import access

RIGHT = access.snapshots_of("n1")


class Cluster:
    """An API server's edge: which tokens there are, who may."""

    def __init__(self, **changes: Any) -> None:
        self.review: dict[str, Any] = {
            "authenticated": True, "audiences": ["netk8s.dev"], "user": {"username": "jane", "groups": ["dev"]}, **changes,
        }  # fmt: skip
        self.allowed = True
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.broken: Exception | None = None

    async def __call__(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((path, body["spec"]))
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
        return self.review if path == access.WHO else {"allowed": self.allowed, "reason": "RBAC says"}


def decide(cluster: Cluster, token: str = "t", right: access.Right = RIGHT, times: int = 1) -> list[access.Decision]:
    async def run() -> list[access.Decision]:
        reviews = access.Reviews(cluster)
        return list(await asyncio.gather(*(reviews.decide(token, right) for _ in range(times))))

    return asyncio.run(run())


def test_who_may_is_let_in_and_both_reviews_are_asked() -> None:
    cluster = Cluster()
    assert decide(cluster) == [access.Decision(200, "jane")]
    (who, review), (whether, asked) = cluster.asked
    assert (who, review) == (access.WHO, {"token": "t", "audiences": ["netk8s.dev"]})
    assert whether == access.WHETHER
    wanted = {"group": "netk8s.dev", "resource": "snapshots", "verb": "get", "name": "n1"}
    assert (asked["user"], asked["groups"], asked["resourceAttributes"]) == ("jane", ["dev"], wanted)


def test_metrics_take_a_token_of_the_api_servers_own_audience() -> None:
    cluster = Cluster(audiences=None)
    assert decide(cluster, right=access.METRICS)[0].status == 200
    assert "audiences" not in cluster.asked[0][1]
    assert cluster.asked[1][1]["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}


@pytest.mark.parametrize(
    ("cluster", "status"),
    [
        (Cluster(authenticated=False), 401),
        (Cluster(authenticated="yes"), 401),
        (Cluster(audiences=None), 401),
        (Cluster(audiences=["https://kubernetes.default.svc"]), 401),
    ],
)
def test_a_token_that_does_not_hold(cluster: Cluster, status: int) -> None:
    assert decide(cluster)[0].status == status
    assert [path for path, _ in cluster.asked] == [access.WHO]


def test_who_may_not() -> None:
    cluster = Cluster()
    cluster.allowed = False
    assert decide(cluster) == [access.Decision(403, "jane", "jane may not do this: RBAC says")]


@pytest.mark.parametrize("token", ["", "x" * (access.LONGEST_TOKEN + 1), "tök", "a\x00b"])
def test_what_is_no_token_is_never_sent_on(token: str) -> None:
    cluster = Cluster()
    assert decide(cluster, token)[0].status == 401
    assert cluster.asked == []


@pytest.mark.parametrize("error", [OSError("gone"), TimeoutError(), ValueError("status 500")])
def test_the_api_server_is_gone(error: Exception) -> None:
    cluster = Cluster()
    cluster.broken = error
    found = decide(cluster)[0]
    assert found.status == 503
    assert "API server" in found.why


def test_an_answer_of_another_form_lets_nobody_in() -> None:
    assert decide(Cluster(user="jane"))[0].status == 503


def test_many_at_once_are_one_question() -> None:
    cluster = Cluster()
    assert {d.status for d in decide(cluster, times=200)} == {200}
    assert len(cluster.asked) == 2


def test_decisions_are_kept_for_a_while_and_no_more_than_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    now = [100.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(access, "MOST_KEPT", 2)

    async def run() -> None:
        reviews = access.Reviews(cluster)
        for token in ("a", "b", "c", "c"):
            assert (await reviews.decide(token, RIGHT)).status == 200
        assert len(cluster.asked) == 6
        await reviews.decide("a", RIGHT)
        assert len(cluster.asked) == 8, "a had to go"
        now[0] += access.KEPT
        cluster.allowed = False
        assert (await reviews.decide("a", RIGHT)).status == 403

    asyncio.run(run())


def test_an_agent_for_one_asker_takes_his_token_and_no_other() -> None:
    import hashlib

    reviews = access.OneToken(hashlib.sha256(b"s3cret").hexdigest().upper())

    async def statuses(*tokens: str) -> list[int]:
        return [(await reviews.decide(token, RIGHT)).status for token in tokens]

    assert asyncio.run(statuses("s3cret", "", "s3cret ", "other", "\udcff")) == [200, 401, 401, 401, 401]
    assert reviews.reached is None
