"""Rules in the words of ``nft list``, read by the decoder of its dumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from netk8s import decode
from netk8s.model import At, Dump, NftChain, NftTable


def listed(family: str, table: str, chains: Mapping[str, Sequence[str]], origin: str) -> dict[str, NftChain]:
    """Chains without a hook as decoded; no line is theirs, for they are in no text that anybody has."""
    lines = [f"table {family} {table} {{"]
    for name, rules in chains.items():
        lines += [f"\tchain {name} {{", *(f"\t\t{rule}" for rule in rules), "\t}"]
    found = tables("\n".join((*lines, "}", "")), origin)
    return {name: placed(chain, origin) for name, chain in found[0].chains.items()}


def tables(text: str, origin: str) -> list[NftTable]:
    """The tables of a listing. Raises DecodeError."""
    dump = Dump(origin, text.encode("utf-8", "surrogateescape"))
    decoder = decode.recognise(dump)
    return [fact for fact in decoder.decode(dump) if isinstance(fact, NftTable)] if decoder is not None else []


def placed(chain: NftChain, origin: str) -> NftChain:
    """A chain whose rules are at no line of an origin."""
    at = At(origin)
    return replace(chain, at=at, rules=tuple(replace(rule, at=at) for rule in chain.rules))
