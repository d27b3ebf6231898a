"""A node's snapshot that is kept and read anew only where the node has changed: what an agent answers from."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType

from msgspec.structs import replace

from netk8s.collect import namespaces, node
from netk8s.collect.watch import Watch
from netk8s.errors import CollectError, UsageError
from netk8s.model import Addr, Missing, Snapshot

ROUNDS = 3
"""How often what changes while it is read is read anew."""


class Kept:
    """The snapshot of one node, as up to date as the last call of :meth:`snapshot`.

    ::

        with Kept("worker-1", leave_out=("connections",)) as kept:
            kept.snapshot()       # the first one reads everything
            kept.snapshot()       # what has not changed since is the same text as before, with its time
            kept.since(0)         # (the state's number, its snapshot); with that number later on: (number, None)
            kept.stale()          # the readers whose state is another one by now; () if it costs nothing to ask again

    ``path``: the file of the node's network namespace, None for the one we are in. ``leave_out``: readers not to ask,
    by module name (``connections`` are asked every time where they are not left out: nothing says that they are the
    same). A text that could not be taken is in ``missing`` with the reason. May be used by several threads; they wait
    for each other. Texts are held packed: a tenth of their size. Raises CollectError where the namespace cannot be entered.
    """

    def __init__(self, name: str, path: str | None = None, leave_out: Collection[str] = ()) -> None:
        self._name, self._path = name, path
        self._lock = threading.Lock()
        self._watch = Watch(path, leave_out)
        self._parts: dict[str, Snapshot] = {}
        self._number = 0
        self._stale = {reader for reader in node.readers() if reader not in leave_out}

    def stale(self) -> tuple[str, ...]:
        """The readers whose texts are to be read anew, in name order; those that are asked every time are not told."""
        with self._lock:
            self._stale |= self._watch.changed()
            return tuple(sorted(self._stale - self._watch.untold))

    def snapshot(self) -> Snapshot:
        """The texts of now, of which only those are read that may have changed."""
        found = self.since(0)[1]
        assert found is not None  # noqa: S101 - no state has the number 0
        return found

    def since(self, number: int) -> tuple[int, Snapshot | None]:
        """The number of the state of now, from 1, and its texts; None for them where that is the number given.

        Costs what the check costs where nothing has changed.
        """
        with self._lock:
            self._stale |= self._watch.changed()
            for _ in range(ROUNDS):
                if not self._stale:
                    break
                taken = node.read(self._name, self._path, sorted(self._stale))
                if "" in taken:
                    raise CollectError(taken[""].missing[0].what)
                for name, part in taken.items():
                    self._keep(name, part)
                if self._stale <= self._watch.untold:
                    self._stale = set()
                    break
                # Signatures come before texts: what changes in between is seen here, and never taken for the old state.
                self._stale = set(self._watch.changed() - self._watch.untold)
            if self._number == number:
                return number, None
            return self._number, node.joined(_opened(self._parts[name]) for name in sorted(self._parts))

    def _keep(self, name: str, part: Snapshot) -> None:
        now, before = _packed(part), self._parts.get(name)
        if before is None or _said(now) != _said(before):
            self._parts[name] = now
            self._number += 1

    def close(self) -> None:
        self._watch.close()

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _packed(part: Snapshot) -> Snapshot:
    return replace(part, dumps=tuple(replace(dump, data=zlib.compress(dump.data, 1)) for dump in part.dumps))


def _opened(part: Snapshot) -> Snapshot:
    return replace(part, dumps=tuple(replace(dump, data=zlib.decompress(dump.data)) for dump in part.dumps))


def _said(part: Snapshot) -> tuple[object, ...]:
    """What a part says, without the time at which it was read."""
    return part.missing, tuple((dump.origin, dump.source, dump.data) for dump in part.dumps)


def pods(name: str, wanted: Mapping[str, Addr], path: str | None = None, leave_out: Collection[str] = ()) -> Snapshot:
    """The texts of the network namespaces of a node's pods: ``wanted`` has their addresses by namespace/name.

    A namespace is looked for among those that the veth devices of the node's own (``path``) lead to, and entered, which
    needs CAP_SYS_ADMIN and the node's process ids (hostPID): call it only where that is allowed. A pod whose namespace
    is not found or cannot be entered is in ``missing`` with the reason. Raises CollectError where the node's own
    namespace cannot be entered.
    """
    closed = namespaces.why_closed()
    if closed:
        return not_entered(name, wanted, closed)
    parts: list[Snapshot] = []
    names = [reader for reader in node.readers() if reader not in leave_out]
    with namespaces.entered(path):
        places = namespaces.behind_veths(wanted.values())
    for pod, ip in wanted.items():
        try:
            parts += node.read(name, namespaces.the_one(ip, places.get(ip, [])), names, pod).values()
        except UsageError as error:
            parts.append(not_entered(name, [pod], error.why.partition(";")[0]))
    return node.joined(parts)


def not_entered(name: str, wanted: Iterable[str], why: str) -> Snapshot:
    """The gaps for pods of a node whose namespaces were not entered."""
    gaps = (f"nodes/{name}/pods/{pod.replace('/', '_')} ({why})" for pod in wanted)
    return Snapshot((), tuple(Missing(gap, "what this pod's own rules and routes do", node=name) for gap in gaps))
