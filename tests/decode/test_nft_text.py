"""``nft list ruleset``: the same base chains as its JSON, by priorities in words."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from netk8s.decode import nft_json, nft_text
from netk8s.errors import DecodeError
from netk8s.model import At, BaseChain, Coverage, Dump

REAL = b"""# Warning: table ip nat is managed by iptables-nft, do not touch!
table ip nat {
\tset s {
\t\ttype ipv4_addr
\t\tcomment "type nat hook input priority 7;"
\t\telements = { 10.0.0.1,
\t\t\t     10.0.0.2 }
\t}

\tchain pre {
\t\ttype nat hook prerouting priority dstnat - 10; policy accept;
\t\tip daddr 10.0.0.1 comment " chain x { type filter hook input priority 0; }" jump post
\t}

\tchain post {
\t\ttype nat hook postrouting priority srcnat + 5; policy accept;
\t}

\tchain plain {
\t}
}
table bridge b {
\tchain g {
\t\ttype filter hook prerouting priority dstnat; policy accept;
\t}
}
table netdev n {
\tchain i {
\t\ttype filter hook ingress device "d0" priority filter; policy accept;
\t}

\tchain j {
\t\ttype filter hook ingress devices = { d0, lo } priority -500; policy accept;
\t}
}
"""


def chains(data: bytes) -> list[tuple[str, str, str, str, int, int]]:
    found = [fact for fact in nft_text.decode(Dump("x", data)) if isinstance(fact, BaseChain)]
    return [(c.family, c.table, c.chain, c.hook, c.priority, c.at.line) for c in found]


def test_base_chains() -> None:
    assert chains(REAL) == [
        ("ip", "nat", "pre", "prerouting", -110, 11),
        ("ip", "nat", "post", "postrouting", 105, 16),
        ("bridge", "b", "g", "prerouting", -300, 24),
        ("netdev", "n", "i", "ingress", 0, 29),
        ("netdev", "n", "j", "ingress", -500, 33),
    ]


def test_sniff() -> None:
    assert nft_text.sniff(Dump("x", REAL))
    assert not nft_text.sniff(Dump("x", b"table of contents\n"))
    assert next(nft_text.decode(Dump("x", REAL))) == Coverage("nft", At("x"))


@pytest.mark.parametrize("priority", [b"sometimes", b"99999999999", b"2147483648", b"dstnat * 2", b""])
def test_wrong_priorities(priority: bytes) -> None:
    text = b"table ip t {\n\tchain c {\n\t\ttype filter hook input priority " + priority + b"; policy accept;\n"
    with pytest.raises(DecodeError, match="priority of chain c") as error:
        chains(text)
    assert error.value.line == 3


def test_recorded_nodes_agree_with_their_json(corpus: Path) -> None:
    seen = 0
    for path in corpus.glob("*/nodes/*/nft-ruleset.txt*"):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert nft_text.sniff(Dump(str(path), data))
        text = [replace(fact, at=At("")) for fact in nft_text.decode(Dump("x", data)) if isinstance(fact, BaseChain)]
        other = path.with_name(path.name.replace(".txt", ".json"))
        if other.exists():
            data = gzip.decompress(other.read_bytes()) if other.suffix == ".gz" else other.read_bytes()
            json = [
                replace(fact, at=At("")) for fact in nft_json.decode(Dump("x", data)) if isinstance(fact, BaseChain)
            ]
            assert sorted(map(repr, text)) == sorted(map(repr, json))
            seen += 1
    assert seen
