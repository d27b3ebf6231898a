"""Chains of one form are the same rules but for the names that stand for marks."""

from __future__ import annotations

import random

import pytest

from netk8s.survey._forms import Forms
from netk8s.survey._kindred import _parts

A, B, C = "KUBE-SEP-AAAAAAAAAAAAAAAA", "KUBE-SEP-BBBBBBBBBBBBBBBB", "KUBE-SVC-CCCCCCCCCCCCCCCC"


def endpoint(chain: str, host: str, to: str = "", comment: str = "a/b") -> str:
    return (
        f'-A {chain} -s {host}/32 -m comment --comment "{comment}" -j KUBE-MARK-MASQ\n'
        f'-A {chain} -p tcp -m comment --comment "{comment}" -m recent --set --name {chain} --mask 255.255.255.255 --rsource'
        f" -m tcp -j DNAT --to-destination {to or host}:8080\n"
    )


def dice(chain: str, ip: str, ends: list[str]) -> str:
    lines = [f"! -s 10.128.0.0/9 -d {ip}/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ"]
    lines += [f"-m statistic --mode random --probability 0.5 -j {end}" for end in ends]
    return "".join(f"-A {chain} {line}\n" for line in lines)


def test_endpoints_are_of_one_form() -> None:
    forms = Forms(_parts)
    one, other = forms.of(A, endpoint(A, "10.1.2.3")), forms.of(B, endpoint(B, "10.100.20.30"))
    assert one is not None
    assert other is not None
    assert one[0] is other[0]
    assert (one[1], other[1]) == ([A, "10.1.2.3"], [B, "10.100.20.30"])


def test_names_are_told_in_the_order_of_the_rules() -> None:
    forms = Forms(_parts)
    one, other = (forms.of(C, dice(C, ip, ends)) for ip, ends in (("10.96.0.1", [A, B]), ("10.96.0.100", [B, A])))
    assert one is not None
    assert other is not None
    assert one[0] is other[0]
    assert (one[1], other[1]) == ([C, "10.96.0.1", A, B], [C, "10.96.0.100", B, A])


@pytest.mark.parametrize(
    "text",
    [
        endpoint(A, "10.1.2.3", to="10.1.2.4"),
        endpoint(A, "10.1.2.3", to="10.1.2.34"),
        endpoint(A, "10.1.2.3", to="10.1.2.3-10.1.2.9"),
        endpoint(A, "10.1.2.3", comment="10.1.2.3.example"),
        endpoint(A, "10.1.2.3", comment=f"x{A}"),
        endpoint(A, "10.1.2.3", comment="KUBE-FW-AAAAAAAAAAAAAAAA"),
    ],
    ids=["another address", "it begins another", "range", "in a word", "chain in a word", "a chain of no mark"],
)
def test_what_has_names_elsewhere_is_of_no_form(text: str) -> None:
    assert Forms(_parts).of(A, text) is None


def test_another_port_mask_or_comment_is_another_form() -> None:
    forms = Forms(_parts)
    texts = [
        endpoint(A, "10.1.2.3"), endpoint(A, "10.1.2.3").replace("8080", "8081"), endpoint(A, "10.1.2.3").replace("/32", "/31"),
        endpoint(A, "10.1.2.3", comment="a/c"),
    ]  # fmt: skip
    found = [forms.of(A, text) for text in texts]
    assert len({each[0].number for each in found if each is not None}) == len(texts)


NAMES = [A, B, C, "KUBE-EXT-DDDDDDDDDDDDDDDD", "10.1.2.3", "10.1.2.34", "110.1.2.3", "1.1.1.1", "255.255.255.255"]
BETWEEN = [
    " ",
    "\n-A ",
    " -s ",
    " -d ",
    "/32",
    "/32 ",
    "/8 ",
    "-",
    ":80 ",
    ".",
    ",",
    '"',
    "x",
    "1",
    "--dport ",
    "--dport 80 ",
    "! ",
    "K",
]


@pytest.mark.parametrize("seed", range(200))
def test_rules_of_one_form_differ_in_its_names_only(seed: int) -> None:
    """Random texts, and the same with other names in place of some."""
    dice = random.Random(seed)  # noqa: S311 - not for secrets
    forms = Forms(_parts)
    shared = 0
    for _ in range(50):
        words = [dice.choice(NAMES if dice.random() < 0.4 else BETWEEN) for _ in range(dice.randrange(3, 14))]
        if dice.random() < 0.7:
            words = ["-A ", A, dice.choice((" -s ", " -d ")), dice.choice(NAMES[4:]), "/32 ", *words]
        known: dict[int, tuple[list[str], list[str]]] = {}
        for _ in range(6):
            to = {
                word: dice.choice([w for w in NAMES if w[:5] == word[:5] or (word[0].isdigit() and w[0].isdigit())])
                for word in NAMES
            }
            named = [to.get(word, word) for word in words]
            chain = to[A]
            text = "".join(named)
            found = forms.of(chain, text)
            if found is None:
                continue
            form, names = found
            parts = _parts(text)
            first = known.setdefault(form.number, (names, parts))
            shared += first[0] is not names
            assert len(first[0]) == len(names)
            assert parts[::2] == first[1][::2], "what is between words is the same"
            for mine, theirs in zip(first[1][1::2], parts[1::2], strict=True):
                if mine in form.rest:
                    assert theirs == mine
                    continue
                assert mine.partition("/")[1:] == theirs.partition("/")[1:]
                pair = (mine.partition("/")[0], theirs.partition("/")[0])
                assert pair in zip(first[0], names, strict=True)
    assert shared, "no two texts of one form: nothing was compared"
