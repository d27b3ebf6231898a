"""What is to be changed, as the command line says it."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Wanted(Struct, frozen=True):
    """What is to be changed, in the words of the command line.

    ``external`` and ``internal``: [NAMESPACE/]NAME=POLICY. ``affinity``: [NAMESPACE/]NAME=None or =ClientIP[:SECONDS].
    ``endpoints``: IP[:PORT]. ``pods``: NAMESPACE/NAME. ``drained``: names of nodes. ``sysctls``: [NODE:]NAME=VALUE.
    ``rules``: [NODE:] and a command of iptables or nft.
    """

    external: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    affinity: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    drained: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


def near(name: str, known: Iterable[str]) -> list[str]:
    """The nearest of some names."""
    from difflib import get_close_matches

    return get_close_matches(name, list(known), n=3, cutoff=0.5)
