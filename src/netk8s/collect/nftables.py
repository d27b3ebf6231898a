"""The nftables ruleset as ``nft list ruleset`` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.collect._text import Gap, Text, command, first_of

NEEDED_FOR = "the rules the packet meets"


def texts() -> Iterator[Text | Gap]:
    # One form is enough, and each table may be decoded once: the text has the arguments of the iptables extensions that
    # nft can translate, and its size is a fifth of the JSON's.
    yield first_of("nft-ruleset.txt", command("nft", "list", "ruleset"))
