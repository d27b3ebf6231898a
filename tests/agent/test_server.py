"""The agent's HTTPS as a client meets it: real sockets, real TLS; only the API server and the kernel are played."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import io
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from netk8s import snapshot
from netk8s.agent import access, beside, server
from netk8s.agent.certificate import Certificate
from netk8s.agent.holding import Holding
from netk8s.errors import CollectError
from netk8s.model import Dump, Snapshot
from tests.agent.conftest import numbered

TLS = ssl.create_default_context()
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


class Cluster:
    """The API server's edge: tokens are users' names, and jane may."""

    gone = False

    async def __call__(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.gone:
            raise OSError("gone")
        spec = body["spec"]
        if path == access.WHO:
            known = spec["token"] in ("jane", "joe")
            return {"authenticated": known, "audiences": spec.get("audiences"), "user": {"username": spec["token"]}}
        return {"allowed": spec["user"] == "jane"}


class Running:
    def __init__(self, port: int, cluster: Cluster, agent: server.Agent) -> None:
        self.port, self.cluster, self.agent = port, cluster, agent

    def ask(
        self,
        path: str,
        token: str = "",
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
    ) -> tuple[int, bytes]:
        asked = http.client.HTTPSConnection("127.0.0.1", self.port, context=TLS, timeout=20)
        try:
            asked.request(method, path, body, {**({"Netk8s-Token": token} if token else {}), **headers})
            answer = asked.getresponse()
            return answer.status, answer.read()
        finally:
            asked.close()

    def wrapped(self) -> ssl.SSLSocket:
        return TLS.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=20))


def one_text() -> Snapshot:
    return Snapshot((Dump("nodes/n1/ip-addr.json", b"[]\n", "n1"),))


@contextmanager
def running(
    take: Callable[[], Snapshot] = one_text, limits: server.Limits | None = None, pods: Any = None
) -> Iterator[Running]:
    started: list[Any] = []
    ready = threading.Event()
    cluster = Cluster()

    async def main() -> None:
        agent = server.Agent("n1", Holding(numbered(take)), access.Reviews(cluster), limits, pods)

        def told(port: int) -> None:
            started.extend((port, agent))
            ready.set()

        stop = asyncio.Event()
        started.extend((asyncio.get_running_loop(), stop))
        await server.serve(agent, "127.0.0.1", 0, Certificate(("n1",)), stop, told)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(20)
        loop, stop, port, agent = started
        yield Running(port, cluster, agent)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def agent() -> Iterator[Running]:
    with running() as found:
        yield found


def test_a_snapshot_for_who_may(agent: Running) -> None:
    status, data = agent.ask("/v1/snapshot", "jane")
    assert status == 200
    found = snapshot.read(["-"], stdin=io.BytesIO(data))
    assert [(d.origin, d.node) for d in found.dumps] == [("nodes/n1/ip-addr.json", "n1")]


@pytest.mark.parametrize("path", ["/v1/snapshot", "/metrics"])
def test_nobody_else(path: str, agent: Running) -> None:
    assert agent.ask(path)[0] == 401
    for token, status in (("forged", 401), ("joe", 403)):
        assert agent.ask(path, token, headers={"Authorization": f"Bearer {token}"})[0] == status
    assert agent.ask("/v1/snapshot", headers={"Authorization": "Bearer jane"})[0] == 401
    assert agent.agent.holding.held is None, "nothing is read for who may not have it"


def test_errors_are_of_the_api_servers_form(agent: Running) -> None:
    status, data = agent.ask("/v1/snapshot", "joe")
    assert json.loads(data) == {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "message": "joe may not do this: no rule",
    }  # fmt: skip
    assert status == 403


def test_health_needs_no_token(agent: Running) -> None:
    assert agent.ask("/healthz") == (200, b"ok\n")
    assert agent.ask("/readyz") == (200, b"ok\n")
    assert agent.agent.holding.packed == 1


def test_not_ready_while_nothing_can_be_taken() -> None:
    def take() -> Snapshot:
        raise CollectError("no netlink here")

    with running(take) as agent:
        status, data = agent.ask("/readyz")
        assert (status, json.loads(data)["message"]) == (500, "no netlink here")
        assert agent.ask("/healthz")[0] == 200


def test_metrics(agent: Running) -> None:
    agent.ask("/v1/snapshot", "jane")
    status, text = agent.ask("/metrics", headers={"Authorization": "Bearer jane"})
    assert status == 200
    assert b'netk8s_agent_requests_total{path="/v1/snapshot",status="200"} 1.0' in text
    assert b"netk8s_agent_snapshots_taken_total 1.0" in text


def test_the_api_server_is_gone(agent: Running) -> None:
    agent.cluster.gone = True
    assert agent.ask("/v1/snapshot", "jane")[0] == 503
    agent.cluster.gone = False
    assert agent.ask("/v1/snapshot", "jane")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/else", 404), ("POST", "/v1/snapshot", 405), ("DELETE", "/v1/trace", 405)],
)
def test_other_paths_and_methods(method: str, path: str, status: int, agent: Running) -> None:
    assert agent.ask(path, "jane", method)[0] == status


def test_a_trace(root: Path) -> None:
    whole = snapshot.read([str(root / "examples/nginx-nodeport")])
    node = Snapshot(tuple(d for d in whole.dumps if d.node == "k8s-node1"))
    objects: list[Any] = []
    for dump in whole.dumps:
        if dump.node is None:
            objects += json.loads(bytes(dump.data))["items"]
    question = {"target": "svc/default/nginx", "port": 30000, "via": "k8s-node1"}
    body = json.dumps(
        {"question": question, "objects": {"kind": "List", "apiVersion": "v1", "items": objects}}
    ).encode()
    with running(lambda: node) as agent:
        status, data = agent.ask("/v1/trace", "jane", "POST", body)
        assert status == 200, data
        assert json.loads(data)["outcomes"]
        assert agent.ask("/v1/trace", "joe", "POST", body)[0] == 403
        assert agent.ask("/v1/trace", "jane", "POST", b"{")[0] == 400
        assert agent.ask("/v1/trace", "jane", "POST", b"[1]")[0] == 400


def test_what_is_too_large() -> None:
    with running(limits=server.Limits(body=1000)) as agent:
        assert agent.ask("/v1/trace", "jane", "POST", b" " * 1001)[0] == 413
        assert agent.ask("/v1/snapshot", "x" * 20000)[0] == 400
        assert agent.ask("/v1/snapshot", "jane")[0] == 200


def test_what_is_slow_is_ended_and_holds_nobody_up() -> None:
    with running(limits=server.Limits(lifetime=0.5, handshake=0.5)) as agent:
        silent = socket.create_connection(("127.0.0.1", agent.port), timeout=20)
        dripping = agent.wrapped()
        dripping.sendall(b"GET /v1/snapshot HTTP/1.1\r\nHost: a\r\nX: ")
        assert agent.ask("/v1/snapshot", "jane")[0] == 200
        with pytest.raises(OSError):  # noqa: PT011, PT012 (which of the sends tells, and how, is the kernel's)
            for _ in range(200):
                dripping.sendall(b"x")
                time.sleep(0.05)
        assert silent.recv(1) == b""
        silent.close()
        dripping.close()


def test_no_more_connections_than_there_may_be() -> None:
    with running(limits=server.Limits(connections=2)) as agent:
        held = [agent.wrapped() for _ in range(2)]
        assert agent.agent  # both are there once a third is turned away
        with pytest.raises(OSError):  # noqa: PT011, PT012 (closed in the handshake, or behind it)
            for _ in range(20):
                agent.ask("/healthz")
                time.sleep(0.05)
        for one in held:
            one.close()


def test_200_requests_at_once() -> None:
    def slowly() -> Snapshot:
        time.sleep(0.3)
        return one_text()

    with running(slowly, server.Limits(at_once=64)) as agent, ThreadPoolExecutor(200) as pool:
        statuses = list(pool.map(lambda _: agent.ask("/v1/snapshot", "jane")[0], range(200)))
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) >= 64
        assert agent.agent.holding.packed <= 4
        assert agent.ask("/v1/snapshot", "jane")[0] == 200


def test_no_token_in_the_log(agent: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    agent.ask("/v1/snapshot", "s3cret-one")
    with agent.wrapped() as broken:
        broken.sendall(b"GET /v1/snapshot HTTP/1.1\r\nNetk8s-Token: s3cret-two\x01\r\n\r\n")
        broken.recv(65536)
    assert "s3cret" not in caplog.text


def texts(packed: bytes) -> tuple[set[str], list[str]]:
    found = snapshot.read(["-"], stdin=io.BytesIO(packed))
    return {dump.origin for dump in found.dumps}, [gap.what for gap in found.missing]


def test_pods_that_are_asked_for_lie_beside_the_node() -> None:
    asked: list[Any] = []

    def enter(wanted: Mapping[str, Any]) -> Snapshot:
        asked.append({pod: str(ip) for pod, ip in wanted.items()})
        return Snapshot((Dump("nodes/n1/pods/default_web/ip-addr.json", b"[]\n", "n1", "default/web"),))

    with running(pods=enter) as agent:
        status, body = agent.ask("/v1/snapshot?pods=default/web@10.0.0.5,dns/coredns-0@fd00::5", "jane")
        assert status == 200
        assert asked == [{"default/web": "10.0.0.5", "dns/coredns-0": "fd00::5"}]
        assert texts(body)[0] == {"nodes/n1/ip-addr.json", "nodes/n1/pods/default_web/ip-addr.json"}
        assert texts(agent.ask("/v1/snapshot", "jane")[1])[0] == {"nodes/n1/ip-addr.json"}
        assert agent.ask("/v1/snapshot?pods=default/web@10.0.0.5", "joe")[0] == 403
        assert len(asked) == 1


def test_an_agent_that_may_enter_no_pods_says_so(agent: Running) -> None:
    status, body = agent.ask("/v1/snapshot?pods=default/web@10.0.0.5", "jane")
    assert status == 200
    found, missing = texts(body)
    assert found == {"nodes/n1/ip-addr.json"}
    assert any(gap.startswith("nodes/n1/pods/default_web (this agent does not enter") for gap in missing)


@pytest.mark.parametrize(
    "words", ["", "web@10.0.0.5", "default/web", "default/web@", "../x@10.0.0.5", ",".join(["a/b@10.0.0.5"] * 17)]
)
def test_pods_that_are_none(agent: Running, words: str) -> None:
    assert agent.ask(f"/v1/snapshot?pods={words}", "jane")[0] == 400


def test_a_part_of_a_check(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects as a bundle, the question in the query: the node's part comes back, packed for who asks for that."""
    whole = snapshot.read([str(root / "examples/nginx-nodeport")])
    own = Snapshot(tuple(Dump(d.origin, d.data, "n1") for d in whole.dumps if d.node == "k8s-node1"))
    objects = snapshot.packed(Snapshot(tuple(d for d in whole.dumps if d.node is None)))
    headers = {"Content-Type": server.BUNDLE, "Accept-Encoding": "gzip"}
    with running(lambda: own) as agent:
        status, data = agent.ask("/v1/check?service=nginx", "jane", "POST", objects, headers)
        assert status == 200, data
        data_of_all = data
        part = json.loads(gzip.decompress(data))
        assert part["node"] == "n1"
        assert not part["judged"], "the API lists no node of this name"
        assert {finding["code"] for finding in part["findings"]} >= {"NK101"}
        assert not agent.agent.checking
        assert agent.ask("/v1/check?service=nobody", "jane", "POST", objects, headers)[0] == 404
        assert agent.ask("/v1/check?dump=/etc/passwd", "jane", "POST", objects, headers)[0] == 400
        status, data = agent.ask("/v1/check", "jane", "POST", b"no bundle", headers)
        assert status == 200
        assert json.loads(gzip.decompress(data))["ports"] != part["ports"], "by this the other side knows"
        assert agent.ask("/v1/check", "joe", "POST", objects, headers)[0] == 403
        digest = sha256(objects).hexdigest()
        named = {**headers, server.OBJECTS: digest}
        assert agent.ask("/v1/check", "joe", "POST", b"", named)[0] == 403
        assert json.loads(agent.ask("/v1/check", "jane", "POST", b"", named)[1]) == {"lacking": [digest]}
        brought = {**headers, server.OBJECTS: f"{digest}={len(objects)}"}
        first = agent.ask("/v1/check?service=nginx", "jane", "POST", objects, brought)
        again = agent.ask("/v1/check?service=nginx", "jane", "POST", b"", named)
        assert gzip.decompress(first[1]) == gzip.decompress(again[1]) == gzip.decompress(data_of_all)
        assert agent.ask("/v1/check", "jane", "POST", b"other", brought)[0] == 400
        plain = gzip.decompress(again[1])
        known = {**named, server.KNOWN: sha256(plain).hexdigest()}
        asked: list[object] = []
        monkeypatch.setattr(beside, "answer", lambda *words: asked.append(words))
        assert agent.ask("/v1/check?service=nginx", "jane", "POST", b"", known) == (304, b"")
        assert asked == [], "nothing changed that it is made of"
        assert agent.ask("/v1/check?service=nginx", "joe", "POST", b"", known)[0] == 403


def test_who_waits_for_a_check_is_not_cut_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly(*_: object) -> beside.Answered:
        await asyncio.sleep(2.5)
        return beside.Answered(200, b"{}")

    monkeypatch.setattr(beside, "answer", slowly)
    with running(limits=server.Limits(seconds=1.0, lifetime=1.0, checking=20.0)) as agent:
        assert agent.ask("/v1/check", "jane", "POST", b"x", {"Content-Type": server.BUNDLE}) == (200, b"{}")
        # A question of the other sort has the time that every request has.
        assert agent.ask("/v1/check", "jane", "POST", b"{}")[0] == 504
