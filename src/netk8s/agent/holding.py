"""The node's snapshot: looked after when somebody asks, once for all who ask at the same time, and kept while it is true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct
from msgspec.structs import replace

from netk8s import snapshot
from netk8s.agent import memory, state
from netk8s.model import Snapshot


class Held(Struct, frozen=True):
    """A snapshot as a bundle, with its number, its count of texts and their size.

    ``taken`` by the clock, ``seconds``: what taking and packing took. ``state``: a digest of the texts, see
    :func:`netk8s.agent.state.digest`.
    """

    number: int
    packed: bytes
    texts: int
    size: int
    missing: int
    taken: float
    seconds: float
    state: str = ""


class Holding:
    """At most one snapshot in memory, packed, and at most one that is being taken.

    ``take`` gives the state of now with its number, None where it has the number that it is asked with
    (:meth:`netk8s.collect.kept.Kept.since`).
    """

    def __init__(
        self, take: Callable[[int], tuple[int, Snapshot | None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._take, self._clock = take, clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="collect")
        self._running: asyncio.Task[Held] | None = None
        self._next: asyncio.Task[Held] | None = None
        self.held: Held | None = None
        self.packed = 0
        """How often a snapshot was another than the one before."""

    async def get(self) -> Held:
        """The state of a moment after this call. Raises what taking it raises.

        Who asks while it is being taken waits for the next time: a change that the caller knows of may have come just
        behind what has been read by then.
        """
        if self._next is None:
            self._next = asyncio.ensure_future(self._after(self._running))
        return await asyncio.shield(self._next)

    def whole(self) -> Snapshot:
        """The state of now with its texts, for what is to be packed otherwise. Raises what taking one raises."""
        found = self._take(0)[1]
        assert found is not None  # noqa: S101 - no state has the number 0
        return found

    async def _after(self, before: asyncio.Task[Held] | None) -> Held:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._in_worker)
        finally:
            self._running = None

    def _in_worker(self) -> Held:
        try:
            return self._taken()
        finally:
            memory.give_back()

    def _taken(self) -> Held:
        begun, held = self._clock(), self.held
        number, found = self._take(held.number if held is not None else 0)
        if found is None:
            assert held is not None  # noqa: S101 - no state has the number 0
            self.held = replace(held, taken=begun, seconds=self._clock() - begun)
            return self.held
        size = sum(len(dump.data) for dump in found.dumps)
        lacking = sum(not gap.absent for gap in found.missing)
        packed = snapshot.packed(found)
        self.held = Held(
            number, packed, len(found.dumps), size, lacking, begun, self._clock() - begun, state.digest(found)
        )
        self.packed += 1
        return self.held
