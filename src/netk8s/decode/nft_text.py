"""``nft list ruleset``: which native nftables chains hang on which hook (nft(8), BASE CHAINS)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.decode._nftables import priority
from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import At, BaseChain, Coverage, Dump, Fact

NAME = "nft-text"

_TABLE = re.compile(r'table (ip|ip6|inet|arp|bridge|netdev) ("[^"]*"|[^\s{]+) \{')
_CHAIN = re.compile(r'\s+chain ("[^"]*"|[^\s{]+) \{')
_TYPE = re.compile(r"\s+type \w+ hook (\w+)\b(.*)")
_PRIORITY = re.compile(r"\spriority (?:([a-z]\w{0,30})(?: ?([+-]) ?(\d{1,10}))?|([+-]?)(\d{1,10}))\s*(?:;|$)")


def sniff(dump: Dump) -> bool:
    """The first line that is no comment opens a table."""
    found = [line for line in first_lines(dump) if not line.startswith("#")]
    return bool(found) and _TABLE.match(found[0]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """One BaseChain per chain with a ``type … hook … priority …`` line, after Coverage "nft".

    Rules, sets and maps are passed over. Tables of iptables-nft are among the tables; nft 1.0.6 does not mark
    them, later ones put a comment before them. Raises DecodeError for a hook whose priority cannot be read.
    """
    yield Coverage("nft", At(dump.origin))
    table: tuple[str, str] | None = None
    chain: str | None = None
    for number, line in lines(dump):
        # Cheap first: a ruleset has a hundred thousand lines of rules and set elements, and tens of these.
        if line.startswith("table "):
            opened = _TABLE.match(line)
            if not opened:
                why = "expected `table FAMILY NAME {` as `nft list ruleset` prints it; take the dump again"
                raise DecodeError(dump.origin, number, why)
            table, chain = (opened[1], opened[2].strip('"')), None
        elif " hook " in line and (hooked := _TYPE.match(line)):
            if table is not None and chain is not None:
                yield _base_chain(table, chain, hooked, At(dump.origin, number))
        elif "chain " in line and (named := _CHAIN.match(line)):
            chain = named[1].strip('"')
        elif line.strip() == "}":
            # The end of a chain, a set, a map or the table: a `type` line after it belongs to none of them.
            chain = None


def _base_chain(table: tuple[str, str], chain: str, hooked: re.Match[str], at: At) -> BaseChain:
    found = _PRIORITY.search(hooked[2])
    number = (
        priority(table[0], found[1] or "", found[2] or found[4] or "", found[3] or found[5] or "") if found else None
    )
    if number is None:
        why = f"the priority of chain {chain} is no number or name that nft has; take `nft -y list ruleset`"
        raise DecodeError(at.origin, at.line, why)
    return BaseChain(table[0], table[1], chain, hooked[1], number, at)
