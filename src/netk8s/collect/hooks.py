"""The functions at each netfilter hook in the order they are called, as ``nft list hooks`` prints them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from netk8s.collect import _wire, iptables, nftables
from netk8s.collect._text import Gap, Text, command, first_of
from netk8s.errors import CollectError

NEEDED_FOR = "which of two tables of one priority is asked first"
NAME = "nft-hooks.txt"

_GET_HOOKS, _NUMBER = 12 << 8, 1


def signature() -> bytes:
    """What tells of tables that come and go: their rules are not of interest here. Raises CollectError."""
    names = " ".join(f"{family}{table}" for family in iptables.PROGRAMS for table in iptables.legacy_tables(family))
    return nftables.signature() + names.encode()


def texts() -> Iterator[Text | Gap]:
    """One text. nft prints nothing where the kernel has nothing to tell it from, and says so with no word."""
    if not supported():
        yield Gap(NAME, "the kernel lists no hooks: it is built without nfnetlink_hook", absent=True)
        return
    found = first_of(NAME, command("nft", "list", "hooks"))
    if isinstance(found, Text) and not found.data.strip():
        found = Gap(NAME, "no function is registered at any hook", absent=True)
    elif isinstance(found, Gap) and "syntax error" in found.why:
        found = Gap(NAME, "this nft does not know `list hooks` (nft 1.0.1)", absent=True)
    yield found


def supported() -> bool:
    """Whether the kernel may list its hooks. nft reads every rule before it asks that, which takes long for nothing."""
    body = struct.pack("!BBH", socket.AF_INET, 0, 0) + _wire.attribute(_NUMBER, struct.pack("!I", 0))
    try:
        list(_wire.asked(_wire.NETFILTER, _GET_HOOKS, body))
    except CollectError as error:
        return "Invalid argument" not in str(error)
    return True
