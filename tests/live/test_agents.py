"""The agents behind the API server's proxy: how they are found, asked, and believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s import snapshot
from netk8s.errors import CollectError
from netk8s.live import agents, api
from netk8s.model import Dump, Snapshot

PODS = "/api/v1/namespaces/netk8s/pods"
TOKENS = "/api/v1/namespaces/netk8s/serviceaccounts/netk8s-client/token"


def pod(name: str, node: str, ready: bool = True) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "conditions": conditions},
    }


@pytest.fixture
def bundle(tmp_path: Path) -> bytes:
    dumps = tuple(Dump(f"nodes/{n}/ip-addr.json", b"[]\n", n) for n in ("n1", "n2"))
    snapshot.save(Snapshot(dumps), str(tmp_path / "b.tgz"))
    return (tmp_path / "b.tgz").read_bytes()


@pytest.fixture
def reached(server: Any, kubeconfig: Callable[..., str], bundle: bytes) -> api.Api:
    server.answers[PODS] = (200, {"items": [pod("a1", "n1"), pod("a2", "n2", ready=False), pod("a3", "n3")]})
    server.answers[TOKENS] = (201, {"status": {"token": "for-agents"}})
    server.answers[f"{PODS}/https:a1:9797/proxy/v1/snapshot"] = (200, bundle)
    return api.connect(api.Access(kubeconfig=kubeconfig(server.url)))


def test_an_agent_speaks_for_its_own_node(reached: api.Api, server: Any) -> None:
    found = agents.find(reached)
    taken = found.snapshot("n1")
    assert [(d.origin, d.node) for d in taken.dumps] == [("nodes/n1/ip-addr.json", "n1")]
    assert server.asked[-1][2]["Netk8s-Token"] == ["for-agents"]
    assert "for-agents" not in repr(found)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ("n2", r"the agent a2 is not ready \(Running\)"),
        ("n9", "no agent runs on n9"),
        ("n3", "the agent a3: .* answered 404"),
    ],
)
def test_a_node_that_cannot_be_asked(node: str, why: str, reached: api.Api) -> None:
    with pytest.raises(CollectError, match=why):
        agents.find(reached).snapshot(node)


@pytest.mark.parametrize(
    ("status", "why"),
    [(401, "does not take our token"), (503, "does not answer"), (403, "not allowed")],
)
def test_an_agent_that_refuses(status: int, why: str, reached: api.Api, server: Any) -> None:
    server.answers[f"{PODS}/https:a1:9797/proxy/v1/snapshot"] = (status, {"message": "no"})
    with pytest.raises(CollectError, match=why):
        agents.find(reached).snapshot("n1")


@pytest.mark.parametrize("data", [b"", b"hello", b"\x1f\x8b\x08damaged"])
def test_an_answer_that_is_no_snapshot(data: bytes, reached: api.Api, server: Any) -> None:
    server.answers[f"{PODS}/https:a1:9797/proxy/v1/snapshot"] = (200, data)
    with pytest.raises(CollectError, match="a1"):
        agents.find(reached).snapshot("n1")


@pytest.mark.parametrize(
    ("items", "why"), [([], "there are no agents"), ([pod("a", "n", False)], "none of the agents is ready")]
)
def test_no_agents(items: list[Any], why: str, reached: api.Api, server: Any) -> None:
    server.answers[PODS] = (200, {"items": items})
    with pytest.raises(CollectError, match=f"{why} in namespace netk8s; install them"):
        agents.find(reached)


def test_who_may_not_have_a_token_is_told_which_role(reached: api.Api, server: Any) -> None:
    server.answers[TOKENS] = (403, {"message": "cannot create serviceaccounts/token"})
    with pytest.raises(CollectError, match="bind the Role netk8s-user"):
        agents.find(reached)


def test_a_part_is_asked_with_the_objects_that_the_agent_lacks(reached: api.Api, server: Any) -> None:
    path = f"{PODS}/https:a1:9797/proxy/v1/check"
    shared = {"a" * 64: b"services", "b" * 64: b"slices"}
    asked = [("service", "a/b"), ("service", "c")]
    server.answers[path] = (200, {"node": "n1"})
    assert agents.find(reached).part("n1", shared, b"own", asked) == b'{"node": "n1"}'
    _, query, headers = server.asked[-1]
    assert (query["service"], headers["Netk8s-Token"], headers["Content-Type"]) == (
        "a/b", ["for-agents"], ["application/gzip"],
    )  # fmt: skip
    assert headers["Netk8s-Objects"] == [f"{'a' * 64},{'b' * 64}"], "what the agent may hold is not sent to it"
    server.answers[path] = (200, {"lacking": ["b" * 64]})
    with pytest.raises(CollectError, match="a1 asks again for objects that it was sent"):
        agents.find(reached).part("n1", shared, b"own", [])
    assert server.asked[-1][2]["Netk8s-Objects"] == [f"{'a' * 64},{'b' * 64}=6"]
    with pytest.raises(CollectError, match="no agent runs on n9"):
        agents.find(reached).part("n9", {}, b"", [])
    server.answers[path] = (504, {"message": "no answer within 240 s"})
    with pytest.raises(CollectError, match="a1 does not answer"):
        agents.find(reached).part("n1", {}, b"", [])
