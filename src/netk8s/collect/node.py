"""The node this runs on, as texts: everything that the readers of this package give of one network namespace.

A reader is a module of this package with ``NEEDED_FOR`` and ``texts()``: its file being there registers it. Nothing is
changed by reading. What cannot be taken is said with the reason and is never an empty text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Protocol, cast

from netk8s import plugins
from netk8s.collect import namespaces
from netk8s.collect._text import Gap, Text
from netk8s.errors import CollectError
from netk8s.model import Dump, Missing, Snapshot


class Reader(Protocol):
    """What a module of this package offers that reads the node's state."""

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
    dumps: list[Dump] = []
    missing: list[Missing] = []
    try:
        with namespaces.entered(path):
            for name, reader in readers().items():
                if name in leave_out:
                    continue
                for text in reader.texts():
                    origin = f"nodes/{node}/{text.name}"
                    if isinstance(text, Gap):
                        missing.append(Missing(f"{origin} ({text.why})", reader.NEEDED_FOR, text.absent))
                    else:
                        now = datetime.now(UTC).isoformat(timespec="milliseconds")
                        dumps.append(Dump(origin, text.data, node, source=text.source, taken=now))
    except CollectError as error:
        missing.append(Missing(f"nodes/{node} ({error})", "every answer about this node"))
    return Snapshot(tuple(dumps), tuple(missing))
