"""The nftables ruleset as ``nft list ruleset`` prints it, and the number of its last change.

Source: linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c (nf_tables_fill_gen_info).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.collect import _wire
from netk8s.collect._text import Gap, Text, command, first_of
from netk8s.errors import CollectError

NEEDED_FOR = "the rules the packet meets"

_GET_GENERATION = 10 << 8 | 16


def texts() -> Iterator[Text | Gap]:
    # One form is enough, and each table may be decoded once: the text has the arguments of the iptables extensions that
    # nft can translate, and its size is a fifth of the JSON's.
    yield first_of("nft-ruleset.txt", command("nft", "list", "ruleset"))


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
