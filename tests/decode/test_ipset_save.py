"""``ipset save``: sets with their entries as printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from netk8s.decode import ipset_save
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, IpSet

# Printed by ipset 7.17.
REAL = b"""create a hash:ip family inet hashsize 1024 maxelem 65536 comment bucketsize 12 initval 0xe7ae206a
add a 1.2.3.4 comment "hello world"
create t hash:net,iface family inet hashsize 1024 maxelem 65536 timeout 60 bucketsize 12 initval 0x92e65e07
add t 10.0.0.0/8,eth0 timeout 20 nomatch
create l list:set size 8
add l a
create p bitmap:port range 0-65535
"""


def test_sets() -> None:
    coverage, *found = ipset_save.decode(Dump("x", REAL))
    assert coverage == Coverage("ipset", At("x"))
    sets = {fact.name: fact for fact in found if isinstance(fact, IpSet)}
    assert list(sets) == ["a", "t", "l", "p"]
    assert (sets["a"].kind, sets["a"].entries, sets["a"].at) == (
        "hash:ip",
        ('1.2.3.4 comment "hello world"',),
        At("x", 1),
    )
    assert sets["a"].options[:2] == ("family", "inet")
    assert (sets["t"].entries, sets["t"].at.line) == (("10.0.0.0/8,eth0 timeout 20 nomatch",), 3)
    assert (sets["p"].options, sets["p"].entries) == (("range", "0-65535"), ())


def test_sniff() -> None:
    assert ipset_save.sniff(Dump("x", REAL))
    assert not ipset_save.sniff(Dump("x", b"create table t (id int);"))
    assert not ipset_save.sniff(Dump("x", b""))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"add gone 1.2.3.4", "which no `create` line"),
        (b"add a", "expected `create"),
        (b"create a hash:ip", "created twice"),
        (b"ipset v7.17: Kernel error", "expected `create"),
    ],
)
def test_wrong_lines(line: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why) as error:
        list(ipset_save.decode(Dump("x", REAL + line + b"\n")))
    assert error.value.line == 8


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/ipset-save.txt"):
        recorded = Dump(str(path), path.read_bytes())
        assert ipset_save.sniff(recorded)
        found = [fact for fact in ipset_save.decode(recorded) if isinstance(fact, IpSet)]
        text = path.read_text()
        assert sum(len(fact.entries) for fact in found) == text.count("\nadd ")
        assert len(found) == text.count("create ")
