"""The nftables ruleset as ``nft list ruleset`` and iptables-nft-save print it, and the number of its last change.

Tables of iptables-nft are taken from iptables-nft-save: nft translates each of their rules through iptables' extensions,
which takes several times as long, and leaves options out. What stands for one in nft's listing is its name alone, in
its place: tables are listed in the order they were made in, which decides between chains of one priority.

Source: linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c (nf_tables_fill_gen_info, nf_tables_fill_table_info).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.collect import _wire, iptables
from netk8s.collect._text import Gap, Source, Text, command, first_of, output
from netk8s.collect.nfnetlink import attributes
from netk8s.errors import CollectError

NEEDED_FOR = "the rules the packet meets"

_GET_TABLE, _GET_SET, _GET_GENERATION = 10 << 8 | 1, 10 << 8 | 10, 10 << 8 | 16
_TABLE_NAME = _SET_TABLE = 1
# NFPROTO_INET and so on (linux/netfilter.h).
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_SAVED = re.compile(rb"^\*(\S+)$", re.MULTILINE)
# What it says of a table that it leaves out, or prints without chains that iptables does not know.
_NOT_SAVED = re.compile(rb"^# Table `([^']+)'", re.MULTILINE)


def texts() -> Iterator[Text | Gap]:
    """iptables-nft-save of each family, and the ruleset."""
    held: dict[tuple[str, str], str] = {}
    for family in iptables.PROGRAMS:
        for text in iptables.nft_saved(family):
            yield text
            if isinstance(text, Text):
                own = "ip" if family == 4 else "ip6"
                names = set(_SAVED.findall(text.data)) - set(_NOT_SAVED.findall(text.data))
                held |= {(own, name.decode()): text.name for name in names}
    # One form is enough, and each table may be decoded once: the text has the arguments of the iptables extensions that
    # nft can translate, and its size is a fifth of the JSON's.
    if held:
        yield first_of("nft-ruleset.txt", Source("nft list table, for each", lambda: _apart(held)))
    else:
        yield first_of("nft-ruleset.txt", command("nft", "list", "ruleset"))


def tables() -> tuple[tuple[str, str], ...]:
    """(family, name) of each table, in the order they were made. Raises CollectError.

    ``nft list tables`` would read every rule first (nft 1.0.6: 5 s for 100,000).
    """
    return tuple(_named(_GET_TABLE, _TABLE_NAME))


def _named(question: int, attribute: int) -> Iterator[tuple[str, str]]:
    for _, payload in _wire.asked(_wire.NETFILTER, question, bytes(4)):
        name = attributes(payload[4:]).get(attribute, b"").rstrip(b"\0")
        yield _FAMILIES.get(payload[0], str(payload[0])), name.decode("utf-8", "replace")


def _apart(held: dict[tuple[str, str], str]) -> bytes:
    """The tables, without the rules of those that another text holds. Raises CollectError."""
    parts: list[bytes] = []
    # iptables-nft makes no sets, and iptables-nft-save 1.8.9 prints somebody else's rule without the set it looks into.
    mixed = set(_named(_GET_SET, _SET_TABLE))
    for family, name in tables():
        elsewhere = held.get((family, name))
        if elsewhere is None or (family, name) in mixed:
            parts.append(output(("nft", "list", "table", family, name)))
        else:
            text = f"# managed by iptables-nft; its chains are in {elsewhere}\ntable {family} {name} {{\n}}\n"
            parts.append(text.encode())
    return b"".join(parts)


def signature() -> bytes:
    """The generation of this namespace's ruleset, which every committed change makes another one.

    What packets add to a dynamic set is no change of it. Empty for a kernel without nftables. Raises CollectError.
    """
    try:
        answer = _wire.asked(_wire.NETFILTER, _GET_GENERATION, bytes(4), _wire.REQUEST)
        # The rest of the message names the process that asks.
        return b"".join(payload[4:12] for _, payload in answer)
    except CollectError as error:
        if "Invalid argument" in str(error):
            return b""
        raise
