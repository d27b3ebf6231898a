"""The node this runs on, as texts: everything that the readers of this package give of one network namespace.

A reader is a module of this package with ``NEEDED_FOR`` and ``texts()``: its file being there registers it. Nothing is
changed by reading. What cannot be taken is said with the reason and is never an empty text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol, cast

from netk8s import plugins
from netk8s.collect import namespaces
from netk8s.collect._text import Gap, Text
from netk8s.errors import CollectError
from netk8s.model import Dump, Missing, Snapshot


class Reader(Protocol):
    """What a module of this package offers that reads the node's state.

    It may have more: ``signature() -> bytes``, what is cheap to ask and changes with the texts, and ``GROUPS``, the groups
    of rtnetlink that tell of changes (see :mod:`netk8s.collect.watch`).
    """

    NEEDED_FOR: str

    def texts(self) -> Iterator[Text | Gap]:
        """The texts of the network namespace we are in. Raises nothing: what is not there is a Gap."""
        ...


def readers() -> dict[str, Reader]:
    """Every reader there is a module for, by the module's name."""
    found = {m.__name__.rpartition(".")[2]: m for m in plugins.modules(__package__ or "") if hasattr(m, "texts")}
    return {name: cast(Reader, module) for name, module in found.items()}


def take(node: str, path: str | None = None, leave_out: Collection[str] = ()) -> Snapshot:
    """The texts of a network namespace (``path``: its file; None: where we are) as those of ``node``.

    ``leave_out`` names readers that are not asked. What cannot be taken is in ``missing`` with the reason, a namespace
    that is gone or closed to us too.
    """
    return joined(read(node, path, [name for name in readers() if name not in leave_out]).values())


def read(node: str, path: str | None, names: Iterable[str], pod: str | None = None) -> dict[str, Snapshot]:
    """What each of these readers gives, by its name; "" has why the namespace could not be entered.

    ``pod``: the namespace is that of this pod (namespace/name) on the node.
    """
    found: dict[str, Snapshot] = {}
    folder = f"nodes/{node}" if pod is None else f"nodes/{node}/pods/{pod.replace('/', '_')}"
    try:
        with namespaces.entered(path):
            for name in names:
                found[name] = _of(readers()[name], node, folder, pod)
    except CollectError as error:
        whose = "this node" if pod is None else "this pod's own rules and routes"
        found[""] = Snapshot((), (Missing(f"{folder} ({error})", f"every answer about {whose}"),))
    return found


def joined(parts: Iterable[Snapshot]) -> Snapshot:
    """All the texts and gaps of several snapshots in one."""
    parts = list(parts)
    return Snapshot(tuple(d for part in parts for d in part.dumps), tuple(m for part in parts for m in part.missing))


def _of(reader: Reader, node: str, folder: str, pod: str | None) -> Snapshot:
    dumps: list[Dump] = []
    missing: list[Missing] = []
    for text in reader.texts():
        origin = f"{folder}/{text.name}"
        if isinstance(text, Gap):
            missing.append(Missing(f"{origin} ({text.why})", reader.NEEDED_FOR, text.absent))
        else:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            dumps.append(Dump(origin, text.data, node, pod, source=text.source, taken=now))
    return Snapshot(tuple(dumps), tuple(missing))
