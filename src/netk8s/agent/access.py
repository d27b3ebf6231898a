"""Who asks, and whether he may: both are asked of the API server, and its answer is kept for some seconds."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

AUDIENCE = "netk8s.dev"
KEPT = 10.0
"""Seconds that a decision is kept: so long may a right that was taken away last."""
MOST_KEPT = 1024
LONGEST_TOKEN = 16 * 1024
TIMEOUT = 10.0

WHO = "/apis/authentication.k8s.io/v1/tokenreviews"
WHETHER = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class Decision(Struct, frozen=True):
    """200: he may; 401: nobody knows him; 403: he may not; 503: the API server could not be asked."""

    status: int
    user: str = ""
    why: str = ""


class Right(Struct, frozen=True):
    """What is asked for: a resource of the group netk8s.dev, or a path that is none."""

    attributes: Mapping[str, Mapping[str, str]]
    audiences: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return repr((self.attributes, self.audiences))


def snapshots_of(node: str) -> Right:
    """``get snapshots.netk8s.dev`` by the node's name, by a token made for the agents alone."""
    wanted = {"group": "netk8s.dev", "resource": "snapshots", "verb": "get", "name": node}
    return Right({"resourceAttributes": wanted}, (AUDIENCE,))


METRICS = Right({"nonResourceAttributes": {"path": "/metrics", "verb": "get"}})
"""As for every other component's metrics: a token of the API server's own audience."""


class Asked(Protocol):
    """The API server: an object of a kind is created, its status comes back. Raises OSError, TimeoutError, ValueError."""

    async def __call__(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]: ...


class Decides(Protocol):
    """Decisions on tokens. ``reached``: whether the API server answered when it was asked last, None for not asked."""

    reached: bool | None

    async def decide(self, token: str, right: Right) -> Decision: ...


class Reviews:
    """Decisions of the API server."""

    def __init__(self, ask: Asked) -> None:
        self._ask = ask
        self._kept: OrderedDict[bytes, tuple[float, Decision]] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[Decision]] = {}
        self.reached: bool | None = None
        """Whether the API server answered when it was asked last."""

    async def decide(self, token: str, right: Right) -> Decision:
        """Whether the token's bearer has the right. Many askers with one token are one question."""
        if not token:
            return Decision(401, why="a token is needed")
        if len(token) > LONGEST_TOKEN or not token.isascii() or not token.isprintable():
            return Decision(401, why="that is no token")
        key = hashlib.sha256(f"{right.key}\n{token}".encode()).digest()
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept[0] < KEPT:
            return kept[1]
        running = self._running.get(key)
        if running is None:
            running = asyncio.ensure_future(self._reviewed(token, right))
            self._running[key] = running
            running.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(running)

    def _keep(self, key: bytes, done: asyncio.Future[Decision]) -> None:
        self._running.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        decision = done.result()
        if decision.status == 503:
            return
        self._kept[key] = (time.monotonic(), decision)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    async def _reviewed(self, token: str, right: Right) -> Decision:
        try:
            decision = await self._asked(token, right)
        except (OSError, TimeoutError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.reached = False
            why = f"the API server cannot be asked whether this token holds ({type(error).__name__})"
            return Decision(503, why=why)
        self.reached = True
        return decision

    async def _asked(self, token: str, right: Right) -> Decision:
        spec = {"token": token, **({"audiences": list(right.audiences)} if right.audiences else {})}
        kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        status = await self._ask(WHO, {**kind, "spec": spec})
        if status.get("authenticated") is not True:
            return Decision(401, why="the API server does not know this token, or it has expired")
        # An authenticator that knows no audiences leaves them out; then the token is not made for us.
        if right.audiences and not set(right.audiences) & set(status.get("audiences") or ()):
            return Decision(401, why=f"the token is not made for the audience {right.audiences[0]}")
        user = status["user"]
        asked = {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            **right.attributes,
        }
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        answer = await self._ask(WHETHER, {**kind, "spec": asked})
        name = str(user.get("username", ""))
        if answer.get("allowed") is not True:
            return Decision(
                403, name, f"{name} may not do this: {' '.join(str(answer.get('reason') or 'no rule').split())}"
            )
        return Decision(200, name)


class OneToken:
    """For an agent that is there for one asker: it takes the token with this SHA-256 digest, and no API server is asked."""

    reached: bool | None = None

    def __init__(self, digest: str) -> None:
        self._digest = digest.lower()

    async def decide(self, token: str, right: Right) -> Decision:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        if hmac.compare_digest(digest, self._digest):
            return Decision(200, "whoever started this agent")
        return Decision(401, why="this agent takes one token, and that is another")


class ApiServer:
    """The API server, asked with the agent's own service account. Its token is read anew: the kubelet replaces it."""

    def __init__(self, url: str, token_file: str, ca_file: str) -> None:
        self._url, self._token_file = url.rstrip("/"), token_file
        self._tls = ssl.create_default_context(cafile=ca_file)

    async def __call__(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        answered, found = await self._sent("POST", path, body, "application/json")
        if answered >= 300:
            raise ValueError(f"status {answered}")
        status: Mapping[str, Any] = json.loads(found)["status"]
        return status

    async def send(self, method: str, path: str, body: Mapping[str, Any]) -> int:
        """The status of an answer; a PATCH is a merge. Raises OSError, TimeoutError, ValueError."""
        import aiohttp

        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            return (await self._sent(method, path, body, kind))[0]
        except aiohttp.ClientError as error:
            raise OSError(type(error).__name__) from None

    async def _sent(self, method: str, path: str, body: Mapping[str, Any], kind: str) -> tuple[int, bytes]:
        import aiohttp

        token = Path(self._token_file).read_text(encoding="ascii").strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        waits = aiohttp.ClientTimeout(total=TIMEOUT, connect=5.0)
        async with (
            aiohttp.ClientSession(timeout=waits, trust_env=False) as session,
            session.request(
                method, f"{self._url}{path}", data=json.dumps(body).encode(), headers=headers, ssl=self._tls
            ) as answer,
        ):
            return answer.status, await answer.read()
