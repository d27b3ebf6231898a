"""A pod for each node that is asked: what it is like, and that it is gone on every way out."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netk8s import snapshot
from netk8s.errors import CollectError
from netk8s.live import agentless, agents
from netk8s.live.api import Access, Refused
from netk8s.model import Dump, Snapshot

PODS = "/api/v1/namespaces/default/pods"
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


class Kube:
    """An API server's pods, and the kubelets behind it: every pod has ``status`` as soon as it is there."""

    access = Access()

    def __init__(self, tmp_path: Path) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.status: dict[str, Any] = READY
        self.may_delete = True
        self.refuses: dict[str, CollectError] = {}
        self.on: dict[str, Callable[[], None]] = {}
        self.tmp_path = tmp_path

    def get(self, path: str, query: Any = None, **more: Any) -> bytes:
        return self.request("GET", path, query, **more)

    def request(
        self,
        method: str,
        path: str,
        query: Any = None,
        *,
        body: bytes | None = None,
        headers: Any = None,
        timeout: Any = None,
    ) -> bytes:
        what = "PROXY" if "/proxy/" in path else method
        if method == "POST" and path.endswith("selfsubjectaccessreviews"):
            return json.dumps({"status": {"allowed": self.may_delete}}).encode()
        self.on.get(what, lambda: None)()
        if what in self.refuses:
            raise self.refuses[what]
        if method == "POST":
            made = json.loads(body or b"")
            self.made.append(made)
            self.pods[made["metadata"]["name"]] = made
            return b"{}"
        if path == PODS:
            return json.dumps({"items": list(self.pods.values())}).encode()
        name = path.removeprefix(f"{PODS}/").partition("/")[0]
        if what == "PROXY":
            return self._answer(path, headers)
        if name not in self.pods:
            raise Refused(404, "not there")
        if method == "DELETE":
            del self.pods[name]
            self.deleted.append(name)
            return b"{}"
        return json.dumps({**self.pods[name], "status": self.status}).encode()

    def _answer(self, path: str, headers: Any) -> bytes:
        """The agent in the pod: it has its token's digest, and its node's name from the kubelet."""
        name, port = path.partition("https:")[2].partition("/")[0].split(":")
        spec = self.pods[name]["spec"]
        args = spec["containers"][0]["args"]
        assert args[:3] == ["agent", "--listen", f"$(NODE_IP):{port}"]
        if args[4] != hashlib.sha256(headers[agents.HEADER].encode()).hexdigest():
            raise Refused(401, "another token")
        path = str(self.tmp_path / f"{name}.tgz")
        node = spec["nodeName"]
        snapshot.save(Snapshot((Dump(f"nodes/{node}/ip-addr.json", b"[]\n", node),)), path)
        return Path(path).read_bytes()


@pytest.fixture
def kube(tmp_path: Path) -> Kube:
    return Kube(tmp_path)


def made(kube: Kube, said: list[str], **wish: Any) -> agentless.Agentless:
    wish = {"image": "registry/agent:1", "ready": 0.2, **wish}
    return agentless.Agentless(kube, "default", agentless.Wish(**wish), said.append)  # type: ignore[arg-type]


def test_one_pod_for_one_node_and_it_is_gone_when_the_node_is_read(kube: Kube) -> None:
    said: list[str] = []
    nodes = made(kube, said)
    assert [dump.origin for dump in nodes.snapshot("n1").dumps] == ["nodes/n1/ip-addr.json"]
    assert [pod["spec"]["nodeName"] for pod in kube.made] == ["n1"]
    name = kube.made[0]["metadata"]["name"]
    assert (kube.pods, kube.deleted) == ({}, [name])
    assert said == [f"pod default/{name} is started on n1", f"pod default/{name} is removed from n1"]
    nodes.close()
    assert kube.deleted == [name]


def test_the_pod_may_no_more_than_it_must(kube: Kube) -> None:
    body = agentless.pod("p", "n1", 20001, "the-token", agentless.Wish("registry/agent:1"))
    spec, container = body["spec"], body["spec"]["containers"][0]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert (container["securityContext"]["privileged"], container["securityContext"]["readOnlyRootFilesystem"]) == (
        False,
        True,
    )
    assert (spec["automountServiceAccountToken"], spec["hostNetwork"], spec["restartPolicy"]) == (False, True, "Never")
    assert spec["activeDeadlineSeconds"] == agentless.LIFE
    assert "hostPID" not in spec
    assert "the-token" not in json.dumps(body)
    assert container["image"] == "registry/agent:1"
    more = agentless.pod("p", "n1", 20001, "t", agentless.Wish("i", net_raw=True))
    assert more["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] == ["NET_ADMIN", "NET_RAW"]


WAITING = {
    "phase": "Pending",
    "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}],
}
ENDED = {"phase": "Running", "containerStatuses": [{"state": {"terminated": {"exitCode": 5, "reason": "Error"}}}]}
CREATING = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (WAITING, "does not start: ImagePullBackOff: no such image"),
        (ENDED, "does not start: Error"),
        ({"phase": "Failed", "reason": "OutOfpods", "message": "full"}, "does not start: OutOfpods: full"),
        (CREATING, r"not ready within 0.2 s: ContainerCreating"),
        ({"phase": "Pending"}, "not ready within 0.2 s: the kubelet of n1 has not taken it"),
        ({"phase": "Running"}, "not ready within 0.2 s: the agent in it is not ready"),
    ],
)
def test_a_pod_that_does_not_come_up_is_removed(status: dict[str, Any], why: str, kube: Kube) -> None:
    kube.status = status
    with pytest.raises(CollectError, match=why):
        made(kube, []).snapshot("n1")
    assert (len(kube.made), kube.pods) == (1, {})


@pytest.mark.parametrize(
    ("where", "error", "why"),
    [
        ("POST", Refused(403, "not allowed: cannot create pods"), "--agentless needs create, get and delete of pods"),
        (
            "POST",
            Refused(403, 'not allowed: violates PodSecurity "baseline"'),
            "name a namespace that lets it be, with --agent-names",
        ),
        ("POST", CollectError("no answer within 30 s"), "no answer within 30 s"),
        ("GET", Refused(403, "not allowed: cannot get pods"), "cannot get pods"),
        ("PROXY", Refused(403, "not allowed: cannot get pods/proxy"), "cannot get pods/proxy"),
        ("PROXY", Refused(503, "no route"), "does not answer"),
        ("PROXY", RuntimeError("a bug"), "a bug"),
    ],
)
def test_no_error_leaves_a_pod(where: str, error: Exception, why: str, kube: Kube) -> None:
    kube.refuses = {where: error}  # type: ignore[dict-item]
    nodes = made(kube, [])
    with pytest.raises(type(error) if isinstance(error, RuntimeError) else CollectError, match=why):
        nodes.snapshot("n1")
    nodes.close()
    assert kube.pods == {}


def test_an_answer_that_never_came_may_have_made_the_pod(kube: Kube) -> None:
    class Lost(Kube):
        def request(self, method: str, path: str, *rest: Any, **more: Any) -> bytes:
            answer = super().request(method, path, *rest, **more)
            if method == "POST" and path == PODS:
                raise CollectError("the connection broke")
            return answer

    lost = Lost(kube.tmp_path)
    with pytest.raises(CollectError, match="broke"):
        made(lost, []).snapshot("n1")
    assert (len(lost.made), lost.pods) == (1, {})


def test_nothing_is_made_that_may_not_be_removed(kube: Kube) -> None:
    kube.may_delete = False
    with pytest.raises(CollectError, match="pods may not be deleted here, so none is made; --agentless needs create"):
        made(kube, []).snapshot("n1")
    assert kube.made == []


def test_what_cannot_be_removed_is_said_with_what_to_do(kube: Kube) -> None:
    said: list[str] = []
    kube.refuses = {"DELETE": Refused(500, "etcd is gone")}
    nodes = made(kube, said)
    nodes.snapshot("n1")
    name = kube.made[0]["metadata"]["name"]
    assert said[1:] == [
        f"pod default/{name} on n1 could not be removed (etcd is gone); it ends by itself within 5 minutes; "
        f"remove it with `kubectl -n default delete pod {name}`"
    ]


def test_what_an_earlier_run_left_goes_first_and_other_runs_pods_stay(kube: Kube) -> None:
    def left(name: str, until: str) -> None:
        kube.pods[name] = {"metadata": {"name": name, "labels": {agentless.UNTIL: until}}}

    left("old", str(int(time.time()) - 1))
    left("running", str(int(time.time()) + 60))
    left("strange", "soon")
    said: list[str] = []
    made(kube, said).snapshot("n1")
    assert set(kube.pods) == {"running", "strange"}
    assert said[0] == "removing pod default/old, which an earlier run left"


def test_what_is_on_its_way_when_it_is_closed_goes_too(kube: Kube) -> None:
    """Closed while one pod is waited for, and another one's making has not been answered."""
    kube.status = CREATING
    waited_for, making, go_on = threading.Event(), threading.Event(), threading.Event()
    kube.on["GET"] = lambda: waited_for.set() if kube.made else None
    nodes = made(kube, [], ready=60.0)
    failed: list[str] = []

    def ask(node: str) -> None:
        try:
            nodes.snapshot(node)
        except CollectError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=ask, args=("n1",))]
    threads[0].start()
    assert waited_for.wait(10)

    def slow() -> None:
        making.set()
        go_on.wait(10)

    kube.on["POST"] = slow
    threads.append(threading.Thread(target=ask, args=("n2",)))
    threads[1].start()
    assert making.wait(10)
    removals = threading.Semaphore(0)
    kube.on["DELETE"] = removals.release
    closing = threading.Thread(target=nodes.close)
    closing.start()
    assert removals.acquire(timeout=10)
    assert removals.acquire(timeout=10)
    go_on.set()
    for thread in (closing, *threads):
        thread.join(20)
        assert not thread.is_alive()
    assert len(kube.made) == 2
    assert kube.pods == {}
    assert len(failed) == 2
    with pytest.raises(CollectError, match="given up"):
        nodes.snapshot("n3")
