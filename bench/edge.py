"""The edge of a simulated cluster, a process of its own: an API server, and behind its proxy the agents of the nodes.

    python bench/edge.py NODES SERVICES ENDPOINTS --real 8

Some agents are real ones, with their own HTTPS, their own answers in processes of their own; the others give the answer of
a real one with their own names in it, after as long as that one worked. GET /stats has what went through the API server.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import resource
import ssl
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import Any

from aiohttp import ClientSession, TCPConnector, web
from simulated import Simulated

from netk8s import snapshot
from netk8s.agent import access, server
from netk8s.agent.certificate import Certificate
from netk8s.agent.holding import Holding
from netk8s.model import Dump, Snapshot

PACKED_FROM = 128 * 1024
"""Bytes from which on the API server packs an answer (apiserver, handlers/responsewriters), at gzip's level 1."""
PODS = "/api/v1/namespaces/netk8s/pods"
TOKEN = "/api/v1/namespaces/netk8s/serviceaccounts/netk8s-client/token"  # noqa: S105
KINDS = {
    "/api/v1/services": ("v1", "Service"), "/apis/discovery.k8s.io/v1/endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "/api/v1/pods": ("v1", "Pod"), "/api/v1/nodes": ("v1", "Node"), "/api/v1/namespaces": ("v1", "Namespace"),
    "/apis/networking.k8s.io/v1/networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
}  # fmt: skip


class Edge:
    def __init__(self, cluster: Simulated, real: int, pace: float | None) -> None:
        self.cluster, self.real, self.pace = cluster, min(real, cluster.nodes), pace
        self.counts: Counter[str] = Counter()
        self.ports: dict[int, int] = {}
        self._lists: dict[str, _List] = {}
        self._held: dict[int, set[str]] = {}
        self._model: asyncio.Future[tuple[bytes, float]] | None = None
        self._client: ClientSession | None = None
        self.most = self._now = 0

    # ------------------------------------------------------------ the API server

    def application(self) -> web.Application:
        made = web.Application(client_max_size=1 << 30)
        made.router.add_get("/stats", self.stats)
        made.router.add_post(TOKEN, self.token)
        made.router.add_get(PODS, self.agents)
        made.router.add_route("*", PODS + r"/https:{pod}:9797/proxy/{path:.*}", self.proxy)
        for path in KINDS:
            made.router.add_get(path, self.listed)
        return made

    async def stats(self, request: web.Request) -> web.Response:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        more = {
            "children_seconds": used.ru_utime + used.ru_stime,
            "children_peak": used.ru_maxrss << 10,
            "at_once": self.most,
        }
        return web.json_response({**self.counts, **more})

    async def token(self, request: web.Request) -> web.Response:
        self._count("other", await request.read(), b"")
        return web.json_response({"status": {"token": "for-agents"}}, status=201)

    async def agents(self, request: web.Request) -> web.Response:
        return self._page(request, self._listed_once("agents", lambda: map(self._agent_pod, range(self.cluster.nodes))))

    def _agent_pod(self, node: int) -> bytes:
        ready = [{"type": "Ready", "status": "True"}]
        fields = [{"fieldsV1": {f"f:field{i}": {} for i in range(60)}}]
        name = self.cluster.name(node)
        body = {"metadata": {"name": f"agent-{node}", "namespace": "netk8s", "managedFields": fields}, "spec": {"nodeName": name},
                "status": {"phase": "Running", "conditions": ready}}  # fmt: skip
        return json.dumps(body).encode()

    async def listed(self, request: web.Request) -> web.Response:
        api, kind = KINDS[request.path]
        objects = {"Service": self.cluster.service_objects, "EndpointSlice": self.cluster.slice_objects,
                   "Pod": self.cluster.pod_objects, "Node": self.cluster.node_objects,
                   "Namespace": lambda: iter(()), "NetworkPolicy": lambda: iter(())}[kind]  # fmt: skip

        def items() -> Iterator[bytes]:
            return (json.dumps({"apiVersion": api, "kind": kind, **each}).encode() for each in objects())

        return self._page(request, self._listed_once(kind, items))

    def _listed_once(self, kind: str, items: Callable[[], Iterator[bytes]]) -> _List:
        return self._lists.setdefault(kind, _List(items()))

    def _page(self, request: web.Request, found: _List) -> web.Response:
        limit = int(request.query.get("limit", 500))
        if limit < found.size:
            plain = gzip.compress(found.beginning(limit), 1)
        else:
            plain = found.page(int(request.query.get("continue") or 0))
        data = gzip.decompress(plain)
        packed = len(data) > PACKED_FROM and "gzip" in request.headers.get("Accept-Encoding", "")
        body = plain if packed else data
        self._count("lists", b"", body)
        headers = {"Content-Encoding": "gzip"} if packed else {}
        return web.Response(body=body, content_type="application/json", headers=headers)

    def _count(self, what: str, sent: bytes, answered: bytes) -> None:
        self.counts[f"{what}_requests"] += 1
        self.counts[f"{what}_up"] += len(sent)
        self.counts[f"{what}_down"] += len(answered)

    # ------------------------------------------------------------ the way to the agents

    async def proxy(self, request: web.Request) -> web.Response:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            body, node = await request.read(), int(request.match_info["pod"].rpartition("-")[2])
            path = request.match_info["path"]
            status, answer, encoding = await self._of_agent(request, node, path, body)
            self._count("check" if path == "v1/check" else "snapshot", body, answer)
        finally:
            self._now -= 1
        return web.Response(status=status, body=answer, headers={"Content-Encoding": encoding} if encoding else {})

    async def _of_agent(self, request: web.Request, node: int, path: str, body: bytes) -> tuple[int, bytes, str]:
        if self._model is None:
            self._model = asyncio.get_running_loop().create_future()
        if node < self.real:
            begun = _children()
            status, answer, encoding = await self._really(request, node, path, body)
            if path == "v1/check" and node == self.real - 1 and status == 200 and not answer.startswith(b'{"lacking"'):
                plain = gzip.decompress(answer) if encoding == "gzip" else answer
                if not self._model.done():
                    self._model.set_result((plain, _children() - begun))
            return status, answer, encoding
        if path == "v1/snapshot":
            return 200, await asyncio.to_thread(self._packed, node), ""
        if lacking := self._lacking(request, node):
            return 200, json.dumps({"lacking": lacking}).encode(), ""
        plain, seconds = await asyncio.shield(self._model)
        answer = self._renamed(plain, node)
        if request.headers.get(server.KNOWN) == sha256(answer).hexdigest():
            # As a real one whose node is as it was.
            return 304, b"", ""
        await asyncio.sleep(seconds if self.pace is None else self.pace)
        self.counts["replayed"] += 1
        return 200, gzip.compress(answer, 6), "gzip"

    def _lacking(self, request: web.Request, node: int) -> list[str]:
        """What an agent that is no real one lacks of the objects; the bytes are let go, for they are the same of all."""
        held, lacking = self._held.setdefault(node, set()), []
        for word in request.headers.get(server.OBJECTS, "").split(","):
            digest, _, length = word.partition("=")
            if length:
                held.add(digest)
            elif digest not in held:
                lacking.append(digest)
        return lacking

    def _renamed(self, answer: bytes, node: int) -> bytes:
        cluster, model = self.cluster, self.real - 1
        for text in (cluster.name, cluster.ip, lambda n: cluster.pods(n).rpartition(".")[0]):
            answer = answer.replace(text(model).encode() + b'"', text(node).encode() + b'"')
            answer = answer.replace(text(model).encode() + b" ", text(node).encode() + b" ")
            answer = answer.replace(text(model).encode() + b"/", text(node).encode() + b"/")
            answer = answer.replace(text(model).encode() + b".", text(node).encode() + b".")
        return answer

    async def _really(self, request: web.Request, node: int, path: str, body: bytes) -> tuple[int, bytes, str]:
        assert self._client is not None  # noqa: S101 - made by main()
        names = (server.HEADER, server.OBJECTS, server.KNOWN, "Content-Type", "Accept-Encoding", "Accept")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        url = f"https://127.0.0.1:{self.ports[node]}/{path}"
        async with self._client.request(
            request.method, url, params=request.query, data=body, headers=headers
        ) as answer:
            data = await answer.read()
            if path == "v1/check" and not data.startswith(b'{"lacking"'):
                self.counts["really"] += 1
            return answer.status, data, answer.headers.get("Content-Encoding", "")

    def _dumps(self, node: int) -> Snapshot:
        name = self.cluster.name(node)
        return Snapshot(
            tuple(Dump(f"nodes/{name}/{file}", data, name) for file, data in self.cluster.texts(node).items())
        )

    def _packed(self, node: int) -> bytes:
        return snapshot.packed(self._dumps(node))

    async def _reviewed(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self._count("reviews", json.dumps(body).encode(), b"")
        if path == access.WHO:
            return {"authenticated": True, "audiences": [access.AUDIENCE], "user": {"username": "somebody"}}
        return {"allowed": True}

    async def agent(self, node: int, stop: asyncio.Event, certificate: Certificate) -> None:
        reviews = access.Reviews(self._reviewed)
        made = server.Agent(
            self.cluster.name(node), Holding(lambda known: (1, None if known else self._dumps(node))), reviews
        )
        await server.serve(made, "127.0.0.1", 0, certificate, stop, lambda port: self.ports.update({node: port}))

    async def run(self) -> None:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        stop, certificate = asyncio.Event(), Certificate(("agents",))
        running = [asyncio.ensure_future(self.agent(node, stop, certificate)) for node in range(self.real)]
        async with ClientSession(connector=TCPConnector(ssl=trust, limit=0), auto_decompress=False) as client:
            self._client = client
            runner = web.AppRunner(self.application(), access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
            await site.start()
            while len(self.ports) < self.real:
                await asyncio.sleep(0.05)
            print(runner.addresses[0][1], flush=True)
            await asyncio.to_thread(sys.stdin.read)
            stop.set()
            await asyncio.gather(*running)
            await runner.cleanup()


class _List:
    """A kind's objects in pages of 500, made as they are asked for, kept packed."""

    size = 500

    def __init__(self, items: Iterator[bytes]) -> None:
        self._items, self._pages, self._first = items, list[bytes](), list[bytes]()
        self._sizes: list[int] = []
        self._next: list[bytes] | None = None
        self._ended = False

    def beginning(self, limit: int) -> bytes:
        """What says how many there are: all of them are made for it."""
        while not self._ended:
            self._more()
        left = sum(self._sizes) - limit
        return _text(self._first[:limit], "0" if left else "", left)

    def page(self, number: int) -> bytes:
        while number >= len(self._pages) and not self._ended:
            self._more()
        return self._pages[number]

    def _more(self) -> None:
        found = list(islice(self._items, self.size)) if self._next is None else self._next
        self._next = list(islice(self._items, self.size))
        self._first = self._first or found[:1]
        self._ended = not self._next
        self._sizes.append(len(found))
        again = "" if self._ended else str(len(self._pages) + 1)
        self._pages.append(gzip.compress(_text(found, again, None), 1))


def _text(items: list[bytes], again: str, left: int | None) -> bytes:
    metadata = {
        "resourceVersion": "1",
        **({"continue": again} if again else {}),
        **({"remainingItemCount": left} if left else {}),
    }
    return b'{"kind":"List","metadata":%s,"items":[%s]}' % (json.dumps(metadata).encode(), b",".join(items))


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("nodes", "services", "endpoints"):
        parser.add_argument(name, type=int)
    parser.add_argument("--real", type=int, default=8)
    parser.add_argument("--pace", type=float, help="seconds that the answer of an agent that is no real one takes")
    args = parser.parse_args()
    asyncio.run(Edge(Simulated(args.nodes, args.services, args.endpoints), args.real, args.pace).run())


if __name__ == "__main__":
    main()
