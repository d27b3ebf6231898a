"""One snapshot for all who ask at once, kept while nothing changed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from netk8s import snapshot
from netk8s.agent import holding
from netk8s.errors import CollectError
from netk8s.model import Dump, Missing, Snapshot
from tests.agent.conftest import numbered


class Kernel:
    def __init__(self) -> None:
        self.taken, self.now = 0, 0.0

    def take(self) -> Snapshot:
        self.taken += 1
        gaps = (Missing("a", "b"), Missing("c", "d", absent=True))
        return Snapshot((Dump("nodes/n/x.txt", b"state %d" % self.taken, "n"),), gaps)

    def hold(self) -> holding.Holding:
        return holding.Holding(numbered(self.take), clock=lambda: self.now)


def run(steps: Callable[[], Any]) -> None:
    asyncio.run(steps())


def test_all_who_ask_at_once_get_one() -> None:
    kernel = Kernel()

    async def steps() -> None:
        made = kernel.hold()
        found = await asyncio.gather(*(made.get() for _ in range(200)))
        assert {id(one) for one in found} == {id(found[0])}
        assert (kernel.taken, found[0].texts, found[0].size, found[0].missing) == (1, 1, 7, 1)
        assert b"nodes/n/x.txt" not in found[0].packed[:2]

    run(steps)


def test_what_changed_a_moment_ago_is_in_the_next_answer() -> None:
    kernel = Kernel()

    async def steps() -> None:
        made = kernel.hold()
        first = await made.get()
        assert await made.get() is not first
        assert kernel.taken == 2

    run(steps)


def test_who_asks_while_it_is_taken_gets_the_next() -> None:
    kernel = Kernel()
    reading, go_on = threading.Event(), threading.Event()

    def take() -> Snapshot:
        found = kernel.take()
        reading.set()
        assert go_on.wait(10)
        return found

    async def steps() -> None:
        made = holding.Holding(numbered(take))
        first = asyncio.ensure_future(made.get())
        await asyncio.to_thread(reading.wait, 10)
        later = [asyncio.ensure_future(made.get()) for _ in range(20)]
        await asyncio.sleep(0)
        go_on.set()
        begun = await first
        found = await asyncio.gather(*later)
        assert {id(one) for one in found} == {id(found[0])}
        assert found[0] is not begun
        assert kernel.taken == 2

    run(steps)


def test_what_has_not_changed_is_packed_once() -> None:
    kernel = Kernel()
    same = kernel.take()

    async def steps() -> None:
        made = holding.Holding(numbered(lambda: same), clock=lambda: kernel.now)
        first = await made.get()
        kernel.now = 30.0
        second = await made.get()
        assert second.packed is first.packed
        assert (second.taken, made.packed) == (30.0, 1)
        assert made.whole() is same

    run(steps)


def test_what_fails_is_told_to_all_and_tried_again() -> None:
    failing = [True]

    def take() -> Snapshot:
        if failing[0]:
            raise CollectError("no")
        return Snapshot((Dump("nodes/n/x.txt", b"x", "n"),))

    async def steps() -> None:
        made = holding.Holding(numbered(take))
        with pytest.raises(CollectError):
            await made.get()
        failing[0] = False
        assert (await made.get()).size == 1

    run(steps)


def test_what_could_not_be_packed_is_not_taken_for_known(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    same = kernel.take()
    failing = [True]

    def packed(found: Snapshot) -> bytes:
        if failing[0]:
            raise MemoryError
        return b"packed"

    monkeypatch.setattr(snapshot, "packed", packed)

    async def steps() -> None:
        made = holding.Holding(numbered(lambda: same), clock=lambda: kernel.now)
        with pytest.raises(MemoryError):
            await made.get()
        failing[0] = False
        assert (await made.get()).packed == b"packed"

    run(steps)


def test_what_is_packed_is_read_as_any_bundle(tmp_path: Any) -> None:
    taken = Kernel().take()
    (tmp_path / "b.tgz").write_bytes(snapshot.packed(taken))
    again = snapshot.read([str(tmp_path / "b.tgz")])
    assert [(d.origin, bytes(d.data), d.node) for d in again.dumps] == [("nodes/n/x.txt", b"state 1", "n")]
