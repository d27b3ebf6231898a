"""Whose folder or archive it is: reports of other tools hold a node's or a cluster's texts under names of their own.

A layout is a module of this package with the names of :class:`Layout`. It knows names only; what a text says is found out
from the text itself, by its decoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, cast

from netk8s import plugins
from netk8s.errors import DecodeError
from netk8s.layouts._place import Parts, Place
from netk8s.model import Missing


class Layout(Protocol):
    """What a module of this package offers. Paths are those of files and folders, split at the slashes."""

    NAME: str
    FOLDERS: frozenset[str] | None
    """The folders below the layout's root that hold anything to read. None: any may."""
    MANY: bool
    """Whether several of them may be read together: each is of a node of its own."""

    def root(self, parts: Parts) -> Parts | None:
        """Where the layout begins, if this path is one that only this layout has."""
        ...

    def place(self, parts: Parts) -> Place | None:
        """What a file is, by its path below the root. None: nothing to read."""
        ...

    def node(self, root: Parts, texts: Mapping[Parts, bytes]) -> str | None:
        """The name of the node that the report is of, from the texts whose place has ``names_node``."""
        ...

    def whole(self, paths: Iterable[Parts]) -> bool:
        """Whether its lists of the cluster's objects, files at ``paths`` below the root, are of all namespaces."""
        ...

    def lacks(self, paths: Iterable[Parts], node: str) -> Iterable[Missing]:
        """What such a report does not hold, when the files below its root that are not empty are ``paths``."""
        ...


class Read(NamedTuple):
    """A file to read: its path, and whose it is."""

    parts: Parts
    node: str | None
    partial: bool


def layouts() -> tuple[Layout, ...]:
    """Every layout there is a module for."""
    return tuple(cast(Layout, module) for module in plugins.modules(__name__))


class Reports:
    """The reports that show in a folder or archive, path by path."""

    def __init__(self) -> None:
        self.roots: dict[Parts, Layout] = {}

    def seen(self, parts: Parts) -> None:
        """Takes note of a path."""
        for layout in layouts():
            root = layout.root(parts)
            if root is not None:
                self.roots.setdefault(root, layout)

    def around(self, parts: Parts) -> tuple[Parts, Layout] | None:
        """The innermost report that a path is in."""
        for length in range(len(parts) - 1, -1, -1) if self.roots else ():
            if (layout := self.roots.get(parts[:length])) is not None:
                return parts[:length], layout
        return None

    def enters(self, folder: Parts) -> bool:
        """Whether a folder is to be looked into, as far as is known by now."""
        found = self.around(folder)
        if found is None or folder in self.roots or any(root[: len(folder)] == folder for root in self.roots):
            return True
        root, layout = found
        return layout.FOLDERS is None or folder[len(root)] in layout.FOLDERS

    def wants(self, parts: Parts) -> bool:
        """Whether a file is to be read, as far as is known by now."""
        found = self.around(parts)
        return found is None or found[1].place(parts[len(found[0]) :]) is not None

    def sorted_out(
        self, texts: Mapping[Parts, bytes], origin: str, node: str | None
    ) -> tuple[list[Read], list[Missing]]:
        """The files to read of all reports, and what these lack.

        ``node`` names the node of a report, where there is but one of a node. Raises DecodeError for several reports that
        do not go together, and for those that hold nothing to read.
        """
        for layout in layouts():
            same = sorted("/".join(root) or "." for root, found in self.roots.items() if found is layout)
            if len(same) > 1 and not layout.MANY:
                raise DecodeError(
                    origin, 0, f"holds {len(same)} of {layout.NAME} ({', '.join(same[:5])}); give one of them"
                )
        of: dict[Parts, dict[Parts, Place]] = {root: {} for root in self.roots}
        for parts in sorted(texts):
            found = self.around(parts)
            place = found[1].place(parts[len(found[0]) :]) if found is not None else None
            if found is not None and place is not None:
                of[found[0]][parts] = place
        named = [root for root, places in of.items() if any(place.of_node for place in places.values())]
        read: list[Read] = []
        missing: list[Missing] = []
        for root, places in sorted(of.items()):
            layout = self.roots[root]
            telling = {p[len(root) :]: texts[p] for p, place in places.items() if place.names_node}
            name = (node if named == [root] else None) or layout.node(root, telling)
            below = [p[len(root) :] for p, place in places.items() if not place.names_node]
            whole = layout.whole(below)
            for parts, place in places.items():
                if not place.names_node:
                    read.append(Read(parts, name if place.of_node else None, place.partial and not whole))
            full = [path for path in below if texts[(*root, *path)][:256].strip()]
            missing += layout.lacks(full, name or "")
        if not read:
            names = ", ".join(sorted({layout.NAME for layout in self.roots.values()}))
            raise DecodeError(
                origin, 0, f"is of {names} and holds nothing that netk8s reads; give the dumps themselves"
            )
        return read, missing


__all__ = ["Layout", "Parts", "Place", "Read", "Reports", "layouts"]
