"""HTTPS: what may be asked, by whom, how much at once and for how long."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address

from aiohttp import web
from msgspec import Struct

from netk8s import snapshot
from netk8s.agent import access, beside
from netk8s.agent.certificate import Certificate
from netk8s.agent.events import Events
from netk8s.agent.holding import Held, Holding
from netk8s.agent.metrics import TYPE, Metrics
from netk8s.agent.objects import Objects
from netk8s.collect.kept import not_entered
from netk8s.collect.node import joined
from netk8s.errors import CollectError
from netk8s.model import Addr, Snapshot

HEADER = "Netk8s-Token"
BUNDLE = "application/gzip"
OBJECTS = "Netk8s-Objects"
"""Names the pieces of the bundle, see :mod:`netk8s.agent.objects`."""
KNOWN = "Netk8s-Known"
"""The digest of an answer that who asks has already."""
MOST_ANSWERS = 64
"""Of which the digests are remembered."""
MOST_PODS = 16
NOT_ALLOWED = "this agent does not enter the network namespaces of pods; the overlay pod-namespaces lets it"
_POD = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}/[a-z0-9][a-z0-9.-]{0,252}")
LOG = logging.getLogger("netk8s.agent")
PATIENCE = web.RequestKey("patience", asyncio.Timeout)
_QUIET = logging.getLogger("netk8s.agent.http")
"""aiohttp quotes what it cannot parse, which may be a token; so it says nothing."""
_QUIET.disabled = True


class Limits(Struct, frozen=True):
    """What one agent bears. ``lifetime``: seconds of one connection, whatever it does but wait for a check.

    ``checking``: seconds of a check once it was read.
    """

    connections: int = 256
    at_once: int = 64
    answers: int = 2
    body: int = 8 << 20
    seconds: float = 60.0
    checking: float = beside.CHECK_SECONDS
    lifetime: float = 90.0
    handshake: float = 5.0


class Agent:
    """One node's agent: its parts, and the handlers of its paths."""

    def __init__(
        self,
        node: str,
        holding: Holding,
        reviews: access.Decides,
        limits: Limits | None = None,
        pods: Callable[[Mapping[str, Addr]], Snapshot] | None = None,
        events: Events | None = None,
    ) -> None:
        """``pods``: what enters the network namespaces of these pods, None where that is not allowed.

        ``events``: what tells findings to the API server, None where nobody asked for that.
        """
        self.node, self.holding, self.reviews = node, holding, reviews
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.objects = Objects()
        self._said: OrderedDict[str, str] = OrderedDict()
        self._pods, self._events = pods, events
        self._telling: asyncio.Task[None] | None = None
        self._running = 0
        self.checking: set[object] = set()
        """The connections that wait for a check."""
        self._answering = asyncio.Semaphore(self.limits.answers)

    def application(self) -> web.Application:
        made = web.Application(client_max_size=self.limits.body, middlewares=[self._guard])
        made.router.add_get("/v1/snapshot", self.snapshot, allow_head=False)
        made.router.add_post("/v1/trace", self.trace)
        made.router.add_post("/v1/check", self.check)
        made.router.add_get("/healthz", self.health, allow_head=False)
        made.router.add_get("/readyz", self.ready, allow_head=False)
        made.router.add_get("/metrics", self.measured, allow_head=False)
        return made

    # ------------------------------------------------------------ around every request

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        begun = time.monotonic()
        answer: web.StreamResponse
        path = request.match_info.route.resource.canonical if request.match_info.route.resource else "other"
        user = ""
        self._running += 1
        self.metrics.running.set(self._running)
        try:
            if self._running > self.limits.at_once and path.startswith("/v1/"):
                answer = _error(503, "too many requests at once; ask again", retry=1)
            else:
                async with asyncio.timeout(self.limits.seconds) as patience:
                    request[PATIENCE] = patience
                    decision = await self._decision(request, path)
                    if decision is not None and decision.status != 200:
                        answer = _error(decision.status, decision.why)
                    else:
                        user = decision.user if decision is not None else ""
                        answer = await handler(request)
        except web.HTTPException as error:
            answer = _error(error.status, error.reason)
        except TimeoutError:
            answer = _error(504, f"not done within {self.limits.seconds:g} s")
        except CollectError as error:
            answer = _error(500, str(error))
        finally:
            self._running -= 1
            self.metrics.running.set(self._running)
        # One request a connection: its lifetime is bounded, and a proxy must not be cut off in its second.
        answer.force_close()
        seconds = time.monotonic() - begun
        self.metrics.requests.labels(path, str(answer.status)).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        if path not in ("/healthz", "/readyz"):
            LOG.info("%s %s %d %.3fs %s", request.method, path, answer.status, seconds, user)
        return answer

    async def _decision(self, request: web.Request, path: str) -> access.Decision | None:
        """None where nobody has to say who he is."""
        if path.startswith("/v1/"):
            found = await self.reviews.decide(request.headers.get(HEADER, ""), access.snapshots_of(self.node))
        elif path == "/metrics":
            bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
            found = await self.reviews.decide(bearer, access.METRICS)
        else:
            return None
        self.metrics.reviews.labels(str(found.status)).inc()
        self.metrics.api.set(1 if self.reviews.reached else 0)
        return found

    # ------------------------------------------------------------ the paths

    async def _held(self) -> Held:
        before = self.holding.held
        try:
            held = await self.holding.get()
        except Exception:
            self.metrics.failed.inc()
            raise
        if held is not before:
            self.metrics.took(held.texts, held.size, held.missing, held.seconds)
        return held

    async def snapshot(self, request: web.Request) -> web.StreamResponse:
        """The node's snapshot as a bundle; with ``?pods=NAMESPACE/NAME@IP,…`` that of these pods' namespaces beside it."""
        data = (await self._held()).packed
        if "pods" in request.query:
            try:
                wanted = _pods_of(request.query["pods"])
            except ValueError as error:
                return _error(400, str(error))
            async with self._answering:
                data = await asyncio.to_thread(self._with_pods, wanted)
        return web.Response(body=data, content_type=BUNDLE)

    def _with_pods(self, wanted: Mapping[str, Addr]) -> bytes:
        found = self._pods(wanted) if self._pods is not None else not_entered(self.node, wanted, NOT_ALLOWED)
        return snapshot.packed(joined((self.holding.whole(), found)))

    async def trace(self, request: web.Request) -> web.StreamResponse:
        """A trace on this node's state: ``{"question": {"target": …, "port": …}, "objects": {…kubectl's List…}}``."""
        return await self._beside(request, "trace")

    async def check(self, request: web.Request) -> web.StreamResponse:
        """A check of this node's state, as a trace is asked.

        Or a bundle of the API's objects (``Content-Type: application/gzip``), the question in the query: then the answer
        is this node's part of a cluster's check (``netk8s check -o part``). Of pieces that the header ``Netk8s-Objects``
        names without bringing them, those that the agent does not hold are the answer: ``{"lacking": [DIGEST, …]}``.
        """
        if request.content_type != BUNDLE:
            return await self._beside(request, "check")
        try:
            words = beside.command("check", self.node, _question(request), "part")
        except ValueError as error:
            return _error(400, str(error))
        # No request is held for longer than it takes to read it, but by those that may ask.
        try:
            cluster, lacking = self.objects.whole(request.headers.get(OBJECTS, ""), await request.read())
        except ValueError as error:
            return _error(400, str(error))
        if lacking:
            return web.json_response({"lacking": lacking})
        request[PATIENCE].reschedule(asyncio.get_running_loop().time() + self.limits.checking)
        self.checking.add(request.protocol)
        try:
            known = request.headers.get(KNOWN, "")
            return await self._answered("check", words, cluster, self.limits.checking, known)
        finally:
            self.checking.discard(request.protocol)

    async def _beside(self, request: web.Request, verb: str) -> web.StreamResponse:
        try:
            asked = json.loads(await request.read() or b"{}")
            objects = asked.get("objects")
            words = beside.command(verb, self.node, asked.get("question") or {})
        except (ValueError, AttributeError, RecursionError) as error:
            return _error(400, f"expected a question as JSON: {error}")
        data = json.dumps(objects).encode() if objects is not None else b""
        return await self._answered(verb, words, beside.objects_packed(data), beside.SECONDS)

    async def _answered(
        self, verb: str, words: list[str], cluster: bytes, seconds: float, known: str = ""
    ) -> web.StreamResponse:
        """An answer, 304 where it is the one of the digest ``known``: without work where what it is made of is the same."""
        async with self._answering:
            held = await self._held()
            asked = "\n".join((*words, sha256(cluster).hexdigest(), held.state))
            if known and self._said.get(asked) == known:
                return web.Response(status=304)
            found = await beside.answer(words, held.packed, cluster, seconds)
        if found.status != 200:
            return _error(found.status, found.why)
        digest = self._said[asked] = sha256(found.document).hexdigest()
        self._said.move_to_end(asked)
        if len(self._said) > MOST_ANSWERS:
            self._said.popitem(last=False)
        self.metrics.answered(found.document)
        # One after the other, and no answer waits for it: what is not told now is when it is found again.
        if verb == "check" and self._events is not None and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._events.told(found.document))
        if digest == known:
            return web.Response(status=304)
        answer = web.Response(body=found.document, content_type="application/json")
        answer.enable_compression()
        return answer

    async def health(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """Ready when a snapshot could be taken once: without that the agent is of no use."""
        if self.holding.held is None:
            await self._held()
        return web.Response(text="ok\n")

    async def measured(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self.metrics.text(), headers={"Content-Type": TYPE})


def _question(request: web.Request) -> dict[str, object]:
    """A query's words, several of one name as a list."""
    found = {name: request.query.getall(name) for name in request.query}
    return {name: words if len(words) > 1 else words[0] for name, words in found.items()}


def _pods_of(text: str) -> dict[str, Addr]:
    """Pods and their addresses by the words of a request. Raises ValueError."""
    words = text.split(",")
    if len(words) > MOST_PODS:
        raise ValueError(f"at most {MOST_PODS} pods are entered for one request")
    found: dict[str, Addr] = {}
    for word in words:
        pod, _, ip = word.rpartition("@")
        if not _POD.fullmatch(pod):
            raise ValueError("pods: expected NAMESPACE/NAME@IP, with commas between")
        found[pod] = ip_address(ip)
    return found


def _error(status: int, why: str, retry: int = 0) -> web.Response:
    """An error as the API server says them, so that what asks through it reads one form."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": why}
    headers = {"Retry-After": str(retry)} if retry else None
    return web.json_response(body, status=status, headers=headers)


async def serve(
    agent: Agent, host: str, port: int, certificate: Certificate, stop: asyncio.Event, ready: Callable[[int], None]
) -> None:
    """Listens until ``stop`` is set, then lets what runs come to its end. ``ready`` is told the port."""
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(
        agent.application(), access_log=None, logger=_QUIET, keepalive_timeout=5.0, handle_signals=False,
        shutdown_timeout=10.0,
    )  # fmt: skip
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - setup() makes it
    handler = runner.server

    def connected() -> asyncio.Protocol:
        return handler() if len(handler.connections) < agent.limits.connections else _TooMany()

    listening = await loop.create_server(
        connected, host, port, ssl=certificate.context, ssl_handshake_timeout=agent.limits.handshake,
        ssl_shutdown_timeout=agent.limits.handshake, backlog=128,
    )  # fmt: skip
    ending = asyncio.ensure_future(_end_old(handler, agent.limits.lifetime, agent.checking))
    agent.metrics.certificate_ends(certificate.ends)
    ready(listening.sockets[0].getsockname()[1])
    try:
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 600)
            if certificate.renew_when_due(datetime.now(UTC)):
                agent.metrics.certificate_ends(certificate.ends)
                LOG.info("a new certificate, good until %s", certificate.ends.isoformat(timespec="seconds"))
    finally:
        ending.cancel()
        listening.close()
        await runner.cleanup()


class _TooMany(asyncio.Protocol):
    """A connection more than there may be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _end_old(handler: web.Server, lifetime: float, spared: Collection[object]) -> None:
    """Ends connections that have been there for too long, however slowly they still say something."""
    since: dict[object, float] = {}
    while True:
        await asyncio.sleep(min(1.0, lifetime / 2))
        now = time.monotonic()
        since = {one: since.get(one, now) for one in handler.connections}
        for one in handler.connections:
            if now - since[one] > lifetime and one not in spared and one.transport is not None:
                one.transport.abort()
