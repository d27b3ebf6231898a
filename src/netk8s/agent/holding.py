"""The node's snapshot: taken when somebody asks, once for all who ask at the same time, and kept while it is fresh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct
from msgspec.structs import replace

from netk8s import snapshot
from netk8s.model import Snapshot

FRESH = 1.0
"""Seconds that a snapshot is given out again without a look at the kernel."""


class Held(Struct, frozen=True):
    """A snapshot and its bundle; ``taken`` by the clock, ``seconds``: what taking and packing took."""

    snapshot: Snapshot
    packed: bytes
    size: int
    missing: int
    taken: float
    seconds: float


class Holding:
    """At most one snapshot in memory, and at most one that is being taken.

    ``take`` gives the state of now, and the same bytes where it has not changed (:class:`netk8s.collect.kept.Kept`).
    """

    def __init__(self, take: Callable[[], Snapshot], clock: Callable[[], float] = time.monotonic) -> None:
        self._take, self._clock = take, clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="collect")
        self._running: asyncio.Task[Held] | None = None
        self.held: Held | None = None
        self.packed = 0
        """How often a snapshot was another than the one before."""

    async def get(self) -> Held:
        """A snapshot that is fresh. Raises what taking one raises."""
        if self._running is None:
            self._running = asyncio.ensure_future(self._fresh())
            self._running.add_done_callback(self._ended)
        return await asyncio.shield(self._running)

    def _ended(self, _: asyncio.Task[Held]) -> None:
        self._running = None

    async def _fresh(self) -> Held:
        held = self.held
        if held is not None and self._clock() - held.taken < FRESH:
            return held
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._in_worker)

    def _in_worker(self) -> Held:
        begun = self._clock()
        found = self._take()
        held = self.held
        if held is not None and _same(held.snapshot, found):
            self.held = replace(held, taken=begun, seconds=self._clock() - begun)
            return self.held
        size = sum(len(dump.data) for dump in found.dumps)
        lacking = sum(not gap.absent for gap in found.missing)
        packed = snapshot.packed(found)
        self.held = Held(found, packed, size, lacking, begun, self._clock() - begun)
        self.packed += 1
        return self.held


def _same(one: Snapshot, other: Snapshot) -> bool:
    """Whether both say the same, though a text may have been read anew."""
    if len(one.dumps) != len(other.dumps) or one.missing != other.missing:
        return False
    pairs = zip(one.dumps, other.dumps, strict=True)
    return all(a.origin == b.origin and (a.data is b.data or a.data == b.data) for a, b in pairs)
