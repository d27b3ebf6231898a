"""``nft -j list ruleset``: the chains that hang on a hook."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from netk8s.decode import nft_json
from netk8s.errors import DecodeError
from netk8s.model import At, BaseChain, Coverage, Dump

REAL = b"""{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
{"table": {"family": "bridge", "name": "b", "handle": 1}},
{"chain": {"family": "bridge", "table": "b", "name": "f", "type": "filter", "hook": "forward", "prio": -200}},
{"chain": {"family": "bridge", "table": "b", "name": "g", "handle": 2}},
{"rule": {"family": "bridge", "table": "b", "chain": "g", "expr": []}}]}
"""


def test_base_chains() -> None:
    assert list(nft_json.decode(Dump("x", REAL))) == [
        Coverage("nft", At("x")),
        BaseChain("bridge", "b", "f", "forward", -200, At("x")),
    ]


def test_an_empty_ruleset_is_covered() -> None:
    empty = Dump("x", b'{"nftables": [{"metainfo": {}}]}')
    assert nft_json.sniff(empty)
    assert list(nft_json.decode(empty)) == [Coverage("nft", At("x", 1))]


@pytest.mark.parametrize(
    "value",
    [[], {"nftables": 1}, {"nftables": [1]}, {"nftables": [{"chain": {"hook": "input"}}]}],
)
def test_wrong_shapes(value: object) -> None:
    with pytest.raises(DecodeError):
        list(nft_json.decode(Dump("x", json.dumps(value).encode())))


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/nft-ruleset.json*"):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert nft_json.sniff(Dump(str(path), data))
        found = [fact for fact in nft_json.decode(Dump(str(path), data)) if isinstance(fact, BaseChain)]
        assert len(found) == data.count(b'"hook": "')
