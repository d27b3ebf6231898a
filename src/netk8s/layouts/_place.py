"""What the layouts share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from netk8s.model import Missing

Parts = tuple[str, ...]
"""A path, split at its slashes."""


class Place(NamedTuple):
    """What a file of a report is.

    ``of_node``: it was taken on the report's node. ``partial``: a list of the objects of some namespaces only, unless the
    layout knows better. ``names_node``: its text is the node's name, and no dump.
    """

    of_node: bool = False
    partial: bool = False
    names_node: bool = False


OBJECTS = frozenset({
    "configmaps", "endpoints", "endpointslices", "gateways", "httproutes", "ingresses", "namespaces", "networkpolicies", "nodes",
    "pods", "referencegrants", "services",
})  # fmt: skip
"""The kinds of objects that netk8s reads; Secrets are none of them."""


def stem(name: str) -> str:
    """The name of a file of objects without its suffix."""
    return name.removesuffix(".json").removesuffix(".yaml")


def nameless(root: Parts, texts: Mapping[Parts, bytes]) -> str | None:
    """The node of a report that is of no node."""
    return None


def never_whole(paths: Iterable[Parts]) -> bool:
    """Of a report that does not say whether it has all namespaces."""
    return False


def nothing(paths: Iterable[Parts], node: str) -> Iterable[Missing]:
    """Of a report whose gaps the answer itself names."""
    return ()
