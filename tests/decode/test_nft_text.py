"""``nft list ruleset``: the same facts as its JSON, and the rules' own words with their lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from netk8s.decode import _nft_words, _nftables, nft_json, nft_text
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, NftElement, NftExpr, NftStatement, NftTable, NftVerdict

HERE = Path(__file__).parent
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


def tables(data: bytes) -> list[NftTable]:
    return [fact for fact in nft_text.decode(Dump("x", data)) if isinstance(fact, NftTable)]


def chains(data: bytes) -> list[tuple[str, str, str, str, int, int]]:
    return [
        (t.family, t.name, c.name, c.hook, c.priority, c.at.line) for t in tables(data) for c in t.chains.values() if c.hook
    ]  # fmt: skip


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


def test_sets_and_rules_have_their_lines() -> None:
    table = tables(REAL)[0]
    assert list(table.sets["s"].elements) == [NftElement("10.0.0.1"), NftElement("10.0.0.2")]
    (rule,) = table.chains["pre"].rules
    assert rule.at == At("x", 12)
    assert rule.comment == " chain x { type filter hook input priority 0; }"
    assert rule.statements[-1] == NftStatement("verdict", (), (NftVerdict("jump", "post"),))


def test_elements_that_cannot_be_read_have_a_line() -> None:
    text = b"table ip t {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1 } }\n\t}\n}\n"
    with pytest.raises(DecodeError, match="an element of s") as error:
        list(tables(text)[0].sets["s"].elements)
    assert error.value.line == 4


def test_handles_and_counters_are_no_part_of_a_rule() -> None:
    text = b"table ip t { # handle 1\n\tchain c { # handle 2\n\t\tcounter packets 5 bytes 6 drop # handle 3\n\t}\n}\n"
    (rule,) = tables(text)[0].chains["c"].rules
    assert rule.raw == "counter drop"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("1d2h3m4s5ms", 93784), ("3h", 10800), ("30", 30), ("soon", None), ("1m-", None)],
)
def test_times(text: str, seconds: int | None) -> None:
    assert _nft_words.seconds(text) == seconds


def test_what_is_not_understood_is_unknown_and_the_rest_is_read() -> None:
    statements, comment = _nft_words.rule('ip saddr 10.0.0.1 osf ttl { loose } name "Linux" counter accept comment "x"')
    assert [s.kind for s in statements] == ["match", "unknown", "counter", "verdict"]
    assert comment == "x"


@pytest.mark.parametrize(
    ("words", "signs"),
    [
        ("meta mark set mark or 0x4000", "meta mark set meta mark | 0x4000"),
        ("meta mark set mark and 0xff xor 0x4000", "meta mark set meta mark & 0xff ^ 0x4000"),
        ("ct mark set ct mark lshift 2", "ct mark set ct mark << 2"),
    ],
)
def test_bits_by_words_as_by_signs(words: str, signs: str) -> None:
    """iptables-nft's MARK targets are listed in words: read as anything else, a node would not masquerade."""
    (found,), _ = _nft_words.rule(words)
    assert found.kind == "mangle"
    assert ((found,), "") == _nft_words.rule(signs)


@pytest.mark.parametrize(
    "text", ["(" * 100, "{" * 100, "ct " * 50, "meta mark & " * 60, "dnat to", "@", "add @s {", '"']
)
def test_any_words_end(text: str) -> None:
    statements, _ = _nft_words.rule(text)
    assert statements


def test_an_ipv6_destination_with_a_port() -> None:
    (found,), _ = _nft_words.rule("dnat ip6 to [fd00::1]-[fd00::5]:80-90 random,persistent")
    assert found == NftStatement(
        "dnat",
        ("ip6", "random", "persistent"),
        (NftExpr("range", (), ("fd00::1", "fd00::5")), NftExpr("range", (), (80, 90))),
    )


def _same(text: list[NftTable], parsed: list[NftTable], words: bool) -> int:
    """Holds the rules and elements of two decoders against each other; the number of rules."""
    count = 0
    assert [(t.family, t.name) for t in text] == [(t.family, t.name) for t in parsed]
    for one, other in zip(text, parsed, strict=True):
        assert list(one.chains) == list(other.chains)
        assert set(one.sets) == set(other.sets)
        for name, found in one.sets.items():
            assert sorted(map(repr, found.elements)) == sorted(map(repr, other.sets[name].elements))
            assert found.map == other.sets[name].map
        for name, chain in one.chains.items():
            there = other.chains[name]
            assert (chain.type, chain.hook, chain.priority, chain.policy) == (
                there.type, there.hook, there.priority, there.policy,
            )  # fmt: skip
            assert len(chain.rules) == len(there.rules)
            for rule, meant in zip(chain.rules, there.rules, strict=True):
                if any(s.kind == "xt" for s in meant.statements):
                    continue  # iptables' own extensions: the text translates some, JSON names them only
                count += 1
                assert rule.statements == meant.statements, rule.raw
                assert rule.comment == meant.comment
                if words:
                    assert rule.raw.split() == meant.raw.split()
    return count


def test_every_statement_is_the_same_as_in_json_and_in_its_words() -> None:
    """A ruleset with every statement that nft 1.0.6 took, listed both ways from one kernel."""
    text = tables((HERE / "nft" / "every-statement.txt").read_bytes())
    data = (HERE / "nft" / "every-statement.json").read_bytes()
    parsed = [fact for fact in nft_json.decode(Dump("x", data)) if isinstance(fact, NftTable)]
    assert _same(text, parsed, words=False) > 130
    told = {r.raw for c in parsed[0].chains.values() for r in c.rules}
    listed = {r.raw for c in text[0].chains.values() for r in c.rules}
    # Times within a set statement, and of an expectation, are left out: nothing here looks at them.
    assert {rule for rule in listed - told if "timeout" not in rule and "expiration" not in rule} == set()
    unknown = {r.raw for c in text[0].chains.values() for r in c.rules for s in r.statements if s.kind == "unknown"}
    assert unknown == set()


def test_recorded_nodes_agree_with_their_json(corpus: Path) -> None:
    seen = 0
    for path in corpus.glob("*/nodes/*/nft-ruleset.txt*"):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert nft_text.sniff(Dump(str(path), data))
        other = path.with_name(path.name.replace(".txt", ".json"))
        if other.exists():
            text = tables(data)
            data = gzip.decompress(other.read_bytes()) if other.suffix == ".gz" else other.read_bytes()
            parsed = [fact for fact in nft_json.decode(Dump("x", data)) if isinstance(fact, NftTable)]
            seen += _same(text, parsed, words=True)
    assert seen > 8000


def test_both_forms_of_a_table_become_one() -> None:
    text = tables((HERE / "nft" / "every-statement.txt").read_bytes())
    data = (HERE / "nft" / "every-statement.json").read_bytes()
    parsed = [fact for fact in nft_json.decode(Dump("y", data)) if isinstance(fact, NftTable)]
    for order in ([*text, *parsed], [*parsed, *text]):
        (table,) = _nftables.merged(order)
        assert table.sets["dyn"].dynamic, "the flag that JSON leaves out"
        rule = table.chains["base"].rules[0]
        assert rule.raw == "ct state established,related accept"
        assert rule.at.origin == "x"
        assert rule.at.line > 0
        assert len(table.chains) == len(text[0].chains)
    with pytest.raises(DecodeError, match="a second nftables table inet t"):
        _nftables.merged([*text, *text])


def test_iptables_extensions_are_taken_from_the_form_that_spells_them_out() -> None:
    text = b"table ip nat {\n\tchain C {\n\t\tmeta mark & 0x1 == 0x1  counter packets 1 bytes 2 masquerade\n\t}\n}\n"
    json = (
        b'{"nftables":[{"chain":{"family":"ip","table":"nat","name":"C"}},{"rule":{"family":"ip","table":"nat","chain":'
        b'"C","expr":[{"xt":{"type":"match","name":"mark"}},{"xt":{"type":"target","name":"MASQUERADE"}}]}}]}'
    )
    parsed = [fact for fact in nft_json.decode(Dump("y", json)) if isinstance(fact, NftTable)]
    (table,) = _nftables.merged([*parsed, *tables(text)])
    assert [s.kind for s in table.chains["C"].rules[0].statements] == ["match", "counter", "masquerade"]
