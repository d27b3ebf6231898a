"""Findings of the checks that were answered here, as Events of the node. Only on request: whoever may list Events reads them.

core/v1 and not events.k8s.io/v1, whose series no client counts for us. A finding is one object with a count, whatever
the number of checks; the API server forgets it by itself when it is not seen again (--event-ttl).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec import Struct

NAMESPACE = "default"
"""Where the API server has the Events of objects without a namespace, as nodes."""
PATH = f"/api/v1/namespaces/{NAMESPACE}/events"
TOLD = ("error", "warning")
AGAIN = 600.0
"""Seconds before the count of an Event is written again."""
MOST, WITHIN = 20, 600.0
"""At most so many requests within so many seconds: a node with many findings must not fill the API server's store."""
MOST_KEPT = 500
LONGEST = 1000
"""Characters of a message; core/v1 takes 1024 bytes, and most are ASCII."""
LOG = logging.getLogger("netk8s.agent")


class Sends(Protocol):
    """The API server's edge: the status of its answer. Raises OSError, TimeoutError, ValueError."""

    async def __call__(self, method: str, path: str, body: Mapping[str, Any]) -> int: ...


class _Seen(Struct):
    count: int = 0
    sent: float | None = None
    ours: bool = True
    """Whether the count is one that we began; an earlier agent's is not known."""


class Events:
    """Events of one node."""

    def __init__(self, node: str, send: Sends, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._send, self._clock = node, send, clock
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._requests: deque[float] = deque()
        self.dropped = 0
        """How many were left out for the limit; they are told when the finding is seen again."""

    async def told(self, document: bytes) -> None:
        """Exports the findings of a document of ``netk8s check``. Nothing is raised: the answer does not depend on it."""
        try:
            found = [f for f in json.loads(document)["findings"] if f["severity"] in TOLD]
            unique = {_name(self._node, str(f["code"]), str(f["summary"])): f for f in found}
        except (ValueError, KeyError, TypeError):
            return
        for name, finding in unique.items():
            try:
                await self._one(name, finding)
            except (OSError, TimeoutError, ValueError) as error:
                LOG.info("Events cannot be written now (%s)", type(error).__name__)
                return

    async def _one(self, name: str, finding: Mapping[str, Any]) -> None:
        seen = self._seen.setdefault(name, _Seen())
        self._seen.move_to_end(name)
        while len(self._seen) > MOST_KEPT:
            self._seen.popitem(last=False)
        seen.count += 1
        now = self._clock()
        if seen.sent is not None and now - seen.sent < AGAIN:
            return
        if not self._may(now):
            self.dropped += 1
            return
        if seen.sent is None:
            status = await self._send("POST", PATH, self._event(name, finding, seen.count))
            if status == 409:
                seen.ours = False
                status = await self._again(name, seen)
        else:
            status = await self._again(name, seen)
            if status == 404:
                seen.count, seen.ours = 1, True
                status = await self._send("POST", PATH, self._event(name, finding, 1))
        if status >= 300:
            raise ValueError(f"status {status}")
        seen.sent = now

    def _may(self, now: float) -> bool:
        while self._requests and now - self._requests[0] >= WITHIN:
            self._requests.popleft()
        if len(self._requests) >= MOST:
            return False
        self._requests.append(now)
        return True

    async def _again(self, name: str, seen: _Seen) -> int:
        body: dict[str, Any] = {"lastTimestamp": _now()}
        if seen.ours:
            body["count"] = seen.count
        return await self._send("PATCH", f"{PATH}/{name}", body)

    def _event(self, name: str, finding: Mapping[str, Any], count: int) -> dict[str, Any]:
        now = _now()
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": NAMESPACE},
            # The kubelet's Events of a node have its name for a uid too, so kubectl describe shows both.
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": self._node},
            "type": "Warning",
            "reason": str(finding["code"]),
            "message": " ".join(str(finding["summary"]).split())[:LONGEST],
            "source": {"component": "netk8s-agent", "host": self._node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": count,
        }


def _name(node: str, code: str, summary: str) -> str:
    """A name for each finding of a node: the same one for the same words, by whichever agent."""
    digest = hashlib.sha256(f"{node}\n{code}\n{' '.join(summary.split())}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{node[:200].rstrip('.-')}.{code.lower()}-{digest[:16]}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
