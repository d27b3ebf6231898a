"""``nft -j list ruleset``: which native nftables chains hang on which hook (libnftables-json(5))."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._json import JsonObject, kind, outer_keys, values
from netk8s.errors import DecodeError
from netk8s.model import At, BaseChain, Coverage, Dump, Fact

NAME = "nft-json"
COMMAND = "nft -j list ruleset"


def sniff(dump: Dump) -> bool:
    """An outer JSON object with the key ``nftables``."""
    return "nftables" in outer_keys(dump, "{")


def decode(dump: Dump) -> Iterator[Fact]:
    """One BaseChain per chain with a hook, after Coverage "nft"; tables of iptables-nft are among them.

    Rules are not decoded here. Raises DecodeError.
    """
    for at, value in values(dump, COMMAND):
        if not isinstance(value, dict) or not isinstance(value.get("nftables"), list):
            why = f"expected an object with the array `nftables`, as `{COMMAND}` prints it, found {kind(value)}"
            raise DecodeError(at.origin, at.line, why)
        yield Coverage("nft", at)
        for item in JsonObject(value, at).children("nftables"):
            # `nft -j monitor` and the echo of commands wrap each object in {"add": …}.
            chain = item.child("chain") if "chain" in item.members else None
            if chain is not None and chain.members.get("hook") is not None:
                yield _base_chain(chain, at)


def _base_chain(chain: JsonObject, at: At) -> BaseChain:
    number = chain.number("prio", -(1 << 31), (1 << 31) - 1)
    if number is None:
        raise chain.wrong("prio", "the priority of the hook")
    return BaseChain(
        family=chain.need("family"),
        table=chain.need("table"),
        chain=chain.need("name"),
        hook=chain.need("hook"),
        priority=number,
        at=at,
    )
