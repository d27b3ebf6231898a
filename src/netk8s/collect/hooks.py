"""The functions at each netfilter hook in the order they are called, as ``nft list hooks`` prints them."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.collect import iptables
from netk8s.collect._text import Gap, Text, command, first_of

NEEDED_FOR = "which of two tables of one priority is asked first"
NAME = "nft-hooks.txt"


def signature() -> bytes:
    """That of the tables that are registered there. Raises CollectError."""
    return iptables.signature()


def texts() -> Iterator[Text | Gap]:
    """One text. nft prints nothing where the kernel has nothing to tell it from, and says so with no word."""
    found = first_of(NAME, command("nft", "list", "hooks"))
    if isinstance(found, Text) and not found.data.strip():
        why = "the kernel lists no hooks: it is built without nfnetlink_hook, or nothing is registered"
        found = Gap(NAME, why, absent=True)
    elif isinstance(found, Gap) and "syntax error" in found.why:
        found = Gap(NAME, "this nft does not know `list hooks` (nft 1.0.1)", absent=True)
    yield found
