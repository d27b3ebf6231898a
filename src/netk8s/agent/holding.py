"""The node's snapshot: taken when somebody asks, once for all who ask at the same time, and kept while it is fresh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from netk8s import snapshot
from netk8s.model import Snapshot

FRESH = 1.0
"""Seconds that a snapshot is given out again without a look at the kernel."""


@dataclass(frozen=True, slots=True)
class Held:
    """A snapshot, packed. ``mark`` is what told the kernel's state from another when it was taken."""

    packed: bytes
    texts: int
    size: int
    missing: int
    taken: float
    seconds: float
    mark: object


class Holding:
    """At most one snapshot in memory, and at most one that is being taken."""

    def __init__(
        self,
        take: Callable[[], Snapshot],
        *,
        mark: Callable[[], object] | None = None,
        longest: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``mark`` is a cheap look at the kernel: while it gives an equal value the snapshot is good for ``longest`` seconds.

        Without one, a snapshot is good for FRESH seconds.
        """
        self._take, self._mark, self._longest, self._clock = take, mark, longest, clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="collect")
        self._running: asyncio.Task[Held] | None = None
        self.held: Held | None = None
        self.taken = 0
        """How many snapshots were taken."""

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
        held = self.held
        mark = self._mark() if self._mark is not None else None
        if held is not None and mark is not None and mark == held.mark and begun - held.taken < self._longest:
            return held
        found = self._take()
        size = sum(len(dump.data) for dump in found.dumps)
        lacking = sum(not gap.absent for gap in found.missing)
        packed = snapshot.packed(found)
        # The mark is from before: a change while the snapshot was taken makes the next one anew.
        self.held = Held(packed, len(found.dumps), size, lacking, begun, self._clock() - begun, mark)
        self.taken += 1
        return self.held
