"""The iptables-save dumps of a snapshot, to be changed."""

from __future__ import annotations

import re

from msgspec.structs import replace

from netk8s import decode
from netk8s.errors import NotKnown
from netk8s.model import Dump, Snapshot, World
from netk8s.whatif._save import Save

_SAVED = re.compile(rb"(?m)^\*(?:nat|filter|mangle|raw|security)[ \t\r]*$")


class Saves:
    """The dumps by node and family, taken apart when something is changed in them."""

    def __init__(self, snapshot: Snapshot, world: World) -> None:
        self._snapshot = snapshot
        self._default = next(iter(world.nodes)) if len(world.nodes) == 1 else decode.UNNAMED
        self._found: dict[tuple[str, int], list[Dump]] = {}
        tables = {(t.at.origin, t.family) for node in world.nodes.values() for t in node.tables}
        for dump in snapshot.dumps:
            if dump.pod is None:
                for family in (4, 6):
                    if (dump.origin, family) in tables:
                        self._found.setdefault((dump.node or self._default, family), []).append(dump)
        self._open: dict[str, Save] = {}

    def of(self, node: str, family: int) -> list[Save]:
        """Those of a node and family. Raises NotKnown where a dump is no output of iptables-save."""
        out = []
        for dump in self._found.get((node, family), ()):
            if dump.origin not in self._open:
                if _SAVED.search(bytes(dump.data[: 1 << 16])) is None:
                    raise NotKnown(
                        f"{dump.origin}: rules can only be changed in what iptables-save prints, with its *table lines"
                    )
                self._open[dump.origin] = Save(dump)
            out.append(self._open[dump.origin])
        return out

    def snapshot(self) -> Snapshot:
        """The snapshot with the changed texts, itself where none is."""
        if not self._open:
            return self._snapshot
        dumps = tuple(self._open[d.origin].text() if d.origin in self._open else d for d in self._snapshot.dumps)
        return replace(self._snapshot, dumps=dumps)
