"""Whether a node's state is still what it was: cheap to ask, so that a snapshot need not be taken twice.

Each reader has its own way. rtnetlink tells of links, addresses, routes and rules by itself (``GROUPS``); the others have
a ``signature()``: nftables the generation that the kernel counts, the legacy tables, ipsets, IPVS, neighbours, sockets
and settings a digest of what the kernel gives, which is a fraction of the work of writing it out. A reader with
neither (tracked connections: packets change them all the time) is taken to have changed whenever it is asked.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import ExitStack
from types import TracebackType

from netk8s.collect import _wire, namespaces, node
from netk8s.errors import CollectError

_ROOM = 1 << 16


class Watch:
    """The state of one network namespace since it was last asked for.

    ``path`` is the namespace's file, None for the one we are in. ``leave_out`` names readers that are not of interest.
    Holds a few sockets until it is closed; it is not for several threads at once. Raises CollectError where the namespace
    cannot be entered.

    What packets change is no change: counters, the time that entries have left, elements that rules add to a set of
    nftables, whether a neighbour was heard of lately. That one does not answer any more is one. Of a device that is down
    the kernel does not tell everything (an alias, a bridge's settings) until it is up.
    """

    def __init__(self, path: str | None = None, leave_out: Collection[str] = ()) -> None:
        self._path = path
        self._readers = {name: reader for name, reader in node.readers().items() if name not in leave_out}
        self._listening: dict[str, socket.socket] = {}
        self._known: dict[str, bytes | None] = {}
        with ExitStack() as undo, namespaces.entered(path):
            for name, reader in self._readers.items():
                groups: tuple[int, ...] = getattr(reader, "GROUPS", ())
                if groups:
                    self._listening[name] = undo.enter_context(_wire.listener(_wire.ROUTE, groups))
                self._known[name] = _signature(reader)
            undo.pop_all()

    @property
    def untold(self) -> frozenset[str]:
        """The readers of which nothing tells whether they have changed."""
        return frozenset(
            name
            for name, reader in self._readers.items()
            if not (hasattr(reader, "signature") or hasattr(reader, "GROUPS"))
        )

    def changed(self) -> frozenset[str]:
        """The readers (:func:`netk8s.collect.node.readers`) whose texts may be others than when this was last asked.

        Those of :attr:`untold` are always among them, and so is one whose signature cannot be had. Raises CollectError
        where the namespace cannot be entered.
        """
        found = set(self.untold)
        with namespaces.entered(self._path):
            for name, reader in self._readers.items():
                if name in self._listening and _heard(self._listening[name]):
                    found.add(name)
                now = _signature(reader)
                if now is None or now != self._known[name]:
                    self._known[name] = now
                    found.add(name)
        return frozenset(found)

    def close(self) -> None:
        for one in self._listening.values():
            one.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _signature(reader: node.Reader) -> bytes | None:
    """None where it cannot be had, and so is never the same."""
    if not hasattr(reader, "signature"):
        return b""
    try:
        return bytes(reader.signature())
    except CollectError:
        return None


def _heard(sock: socket.socket) -> bool:
    """Whether anything was told since; takes it all off. What was told too fast and is lost was told too."""
    heard = False
    while True:
        try:
            sock.recv(_ROOM)
        except BlockingIOError:
            return heard
        except OSError:
            pass
        heard = True
