"""A rule read by its shape is what the plain parser makes of it, or is left to the plain parser."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netk8s import decode as formats
from netk8s import snapshot
from netk8s.decode import _iptables_shapes as shapes
from netk8s.decode import _iptables_words as words
from netk8s.decode import iptables_save
from netk8s.errors import DecodeError
from netk8s.model import Dump, Match, Option, Rule, Table, Target


def plain(line: str) -> shapes.Parsed | None:
    """The plain parser's answer; None where the rule is refused, has counters of -c, or stands for several."""
    try:
        _, matches, target, comment, counters = words.parse(line)
    except words.Malformed:
        return None
    return (matches, target, comment) if counters is None and len(iptables_save._expand(matches)) == 1 else None


def read(lines: list[str]) -> int:
    """How many lines were read by a shape; each of those as the plain parser reads it."""
    reader = shapes.Shapes()
    quick = 0
    for line in lines:
        parsed = reader.parse(line)
        if parsed is not None:
            quick += 1
            assert parsed == plain(line), line
    return quick


SEP = "-A KUBE-SEP-{0} -p tcp -m recent --set --name KUBE-SEP-{0} --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.0.0.{0}:8080"


def test_lines_of_one_shape_are_read_by_it_once_it_is_known() -> None:
    assert read([SEP.format(i) for i in range(100)]) == 100 - shapes.SEEN
    assert read(["-A X -d 10.0.0.1/32 -j ACCEPT"] * 20) == 20 - shapes.SEEN


def test_a_word_that_was_the_same_so_far_may_change() -> None:
    lines = [
        f"-A X -d 10.0.0.{i}/32 -p tcp -m tcp --dport {80 if i < 20 else 1000 + i} -j KUBE-SVC-A" for i in range(99)
    ]
    assert read(lines) == 99 - 2 * shapes.SEEN


def test_what_comes_after_the_shape_of_a_chain() -> None:
    reader = shapes.Shapes()
    for i in range(50):
        for line in (f"-A SEP-{i} -s 10.0.0.{i}/32 -j KUBE-MARK-MASQ", SEP.format(i)):
            parsed = reader.parse(line)
            assert parsed is None if i < shapes.SEEN else parsed == plain(line)


@pytest.mark.parametrize(
    "line",
    [
        "-A X -s 10.0.0.1/32,10.0.0.2/32 -d 10.0.0.3/32 -j Y",
        "-A X -s 10.0.0.1/32 -d 10.0.0.3/32,10.0.0.4 -j Y",
        "-A X -s ! -d 10.0.0.3/32 -j Y",
        "-A X -s -d -d 10.0.0.3/32 -j Y",
        "-A X -s !x -d 10.0.0.3/32 -j Y",
        '-A X -s "10.0.0.1/32" -d 10.0.0.3/32 -j Y',
        '-A X -s 10.0.0"."1/32 -d 10.0.0.3/32 -j Y',
        "-A X -s 10.0.0\\.1/32 -d 10.0.0.3/32 -j Y",
        "-A X -s 10.0.0.1/32  -d 10.0.0.3/32 -j Y",
        "-A X -s 10.0.0.1/32\t-d 10.0.0.3/32 -j Y",
        "-A X -s 10.0.0.1\u00a032 -d 10.0.0.3/32 -j Y",
        "-A X -s 10.0.0.1/32 -d 10.0.0.3/32 -j \u0663",
        "-A X -s 10.0.0.1/32 -d 10.0.0.3/32 -j ",
        "-A X -s 10.0.0.1/32 -d 10.0.0.3/32 -j DNAT",
        "-A X -s 10.0.0.1/32 -d 10.0.0.3/32 -g Y",
        "-A X ! -s 10.0.0.1/32 -d 10.0.0.3/32 -j Y",
        "-A X -s 10.0.0.1/32 -d 10.0.0.3/32 -c 1 2 -j Y",
        "-A X -s 10.0.0.1/32 -d 10.0.0.3/32 -j Y\x85",
        "-A X -s 10.0.0.1/32 -d 10.0.0.3/32 -j Y\n",
        f"-A X -s 10.0.0.1/32 -d 10.0.0.3/32 -j {'9' * 301}",
        f"-A {'9' * 301} -s 10.0.0.1/32 -d 10.0.0.3/32 -j Y",
    ],
)
def test_lines_that_only_look_alike_are_left_to_the_plain_parser(line: str) -> None:
    alike = [f"-A X{i} -s 10.0.{i}.1/32 -d 10.0.{i}.3/32 -j Y{i}" for i in range(20)]
    reader = shapes.Shapes()
    assert [reader.parse(other) is not None for other in alike][-10:] == [True] * 10
    assert reader.parse(line) is None
    assert read([*alike, *[line] * 20, *alike]) >= 32


def test_a_comment_may_say_anything_a_quote_can_hold() -> None:
    lines = [
        f'-A X -m comment --comment "{word}" -j Y' for word in ("a b", "-j DROP", "!", "", "-m x -p y", "a,b", "٣")
    ]
    assert read(lines * 20) > 100
    reader = shapes.Shapes()
    for i in range(20):
        reader.parse(f'-A X -m comment --comment "a {i}" -j Y{i}')
    assert reader.parse('-A X -m comment --comment "-j DROP" -j Z') == (
        (Match("comment", (Option("--comment", ("-j DROP",)),)),),
        Target("Z"),
        "-j DROP",
    )
    assert reader.parse('-A X -m comment --comment "a\\"b" -j Y') is None
    assert reader.parse('-A X -m comment --comment "a""b" -j Y') is None


def test_a_protocol_brings_its_module() -> None:
    """ "-p icmp --icmp-type" has no -m: which module owns the option hangs on the protocol's name."""
    lines = [f"-A X -s 10.0.0.{i}/32 -p tcp --dport {i} -j Y" for i in range(1, 30)]
    assert (
        read([*lines, "-A X -s 10.0.0.1/32 -p icmp --dport 1 -j Y", "-A X -s 10.0.0.1/32 -p udp --dport 1 -j Y"]) == 21
    )


def test_what_is_never_a_shape() -> None:
    for line in ("", "-A", "-A X -j", "-A X stray", "-A X -c 1 2", "-A X -j Y -c 1 2", "-A X -s a,b", "-A X -i a\0b"):
        assert shapes.learn([line]) is None
        assert read([line] * 40) == 0, line


def test_kinds_without_number_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_MOST_KINDS", 10)
    assert read([f"-A X -m m{i} -j Y" for i in range(50) for _ in range(20)]) == 9 * 12


# ---------------------------------------------------------------- recordings


def dumps(folder: Path) -> list[Path]:
    return sorted({*folder.glob("*/nodes/*/ip*tables*save*"), *folder.glob("*/nodes/*/ip*tables*save*.gz")})


def facts(dump: Dump) -> list[object]:
    """Everything a dump decodes to; an error with its words and its place."""
    out: list[object] = []
    try:
        for fact in iptables_save.decode(dump):
            if isinstance(fact, Table):
                for name, chain in fact.chains.items():
                    out.append((fact.family, fact.name, name, chain.policy, chain.at, len(chain.rules)))
                    out.extend(chain.rules)
    except DecodeError as error:
        out.append(str(error))
    return out


def assert_alike(dump: Dump) -> int:
    """How many rules a dump has, if the facts are the same with shapes and without."""
    quick = facts(dump)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes.Shapes, "parse", lambda reader, line: None)
        slow = facts(dump)
    assert quick == slow
    return sum(isinstance(fact, Rule) for fact in quick)


def test_the_example_s_dumps(root: Path) -> None:
    found = dumps(root / "examples")
    assert sum(assert_alike(one) for path in found for one in snapshot.read([str(path)]).dumps) > 300


def test_recorded_dumps(corpus: Path) -> None:
    found = [path for path in dumps(corpus) if "scale" not in str(path)]
    count = 0
    for path in found:
        for dump in snapshot.read([str(path)]).dumps:
            if formats.recognise(dump) is iptables_save:
                count += assert_alike(dump)
                lines = [line for line in bytes(dump.data).decode().splitlines() if line.startswith("-A ")]
                if len(lines) > 200:
                    assert read(lines * 2) > len(lines)
    assert count > 5000


# ---------------------------------------------------------------- hypothesis

EXAMPLES = [
    SEP.format("7"),
    "-A KUBE-SEP-A -s 10.0.0.1/32 -j KUBE-MARK-MASQ",
    '-A KUBE-SVC-A ! -s 10.128.0.0/9 -d 10.96.0.1/32 -p tcp -m comment --comment "a/b:c cluster IP" -m tcp --dport 80 -j M',
    "-A KUBE-SVC-A -m recent --rcheck --seconds 10800 --reap --name N --mask 255.255.255.255 --rsource -j N",
    "-A KUBE-SVC-A -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-A",
    '-A KUBE-SVC-A -m comment --comment "a/b -> 10.0.0.1:80" -j KUBE-SEP-A',
    "-A X -m conntrack ! --ctstate RELATED,ESTABLISHED -m recent --name a --rcheck --seconds 10800 --reap -j DROP",
    "-A X -m set ! --match-set foo src,dst -p icmp -m icmp --icmp-type 3/4 -j REJECT --reject-with icmp-port-unreachable",
    "-A X -p tcp -m tcp --tcp-flags SYN,RST SYN -m multiport --dports 80,443,1024:2048 -j TCPMSS --clamp-mss-to-pmtu",
    "-A X -m a -m b --one 1 2 3 --two -g Y",
    "-A X -p icmp --icmp-type 8 -i eth0 -j LOG --log-prefix -x --log-level 3",
    "-A X -p tcp --dport ! 80 -s ! 10.0.0.1 -j Y",
]
PLAIN = st.from_regex(r"[a-z0-9./:,+-]{1,8}", fullmatch=True)
ODD = st.sampled_from(
    ["!", '"', "-", "--", "-1", "-x", "\\", '""', "9" * 301, "٣", "\x00", "\x0000", "-m", "-j", "-g", "-c", "a,b", "DNAT", "a b",
     "LOG", "RETURN", "tcp", "icmp", "comment", "-s", "-p", "!x", "\x1c", "\x85", 'a"b', "", "'", "--dport", "-A", "4294967296"]
)  # fmt: skip


@st.composite
def alike(draw: st.DrawFn) -> list[str]:
    """Lines of a few shapes, most with some other words and some with odd ones or odd spacing."""
    lines: list[str] = []
    for example in draw(st.lists(st.sampled_from(EXAMPLES), min_size=1, max_size=3)):
        parts = example.split(" ")
        places = draw(st.lists(st.integers(1, len(parts) - 1), min_size=1, max_size=3))
        for _ in range(draw(st.integers(3, 8))):
            made = list(parts)
            for place in places:
                made[place] = draw(PLAIN if draw(st.integers(0, 3)) else ODD)
            lines.append(draw(st.sampled_from([" "] * 9 + ["  ", "\t"])).join(made))
    return lines


@given(lines=alike(), mixed=st.randoms(use_true_random=False), seen=st.integers(1, 3))
@settings(max_examples=500)
def test_a_shape_reads_what_the_plain_parser_reads(lines: list[str], mixed: object, seen: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SEEN", seen)
        read([*lines, *lines])
        mixed.shuffle(lines)  # type: ignore[attr-defined]
        read([*lines, *lines])


@given(lines=alike(), counted=st.sampled_from(["", "[1:60] "]), bad=st.booleans())
@settings(max_examples=150)
def test_a_dump_s_facts_and_errors_are_those_of_the_plain_parser(lines: list[str], counted: str, bad: bool) -> None:
    good = lines if bad else [line for line in lines if plain(line) is not None]
    rules = "".join(
        f"{counted}{line}\n" for line in sorted(good, key=lambda line: line.split()[1:2]) if "\n" not in line
    )
    chains = "".join(
        f":{name} - [0:0]\n" for name in sorted({line.split()[1] for line in good if len(line.split()) > 1})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SEEN", 2)
        assert_alike(Dump("x", f"*nat\n{chains}{rules}COMMIT\n".encode()))
