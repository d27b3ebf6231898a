"""Where lines break, and what may reach a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s.render import _page
from netk8s.render._page import Page, cells, printable, wrap


@given(st.text(), st.integers(8, 120), st.integers(0, 60))
def test_wrapped_text_fits_and_loses_nothing(text: str, width: int, hang: int) -> None:
    clean = printable(text)
    lines = wrap(clean, width, hang)
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(clean.split())


@given(st.text())
def test_only_printable_characters_get_through(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text, ascii=True).isprintable()
    assert printable(text, ascii=True).isascii()


def test_what_ascii_says_instead() -> None:
    assert printable("a → b … ├─ │", ascii=True) == "a -> b ... |- |"
    assert printable("ü\udcff\x1b\u202e") == "ü\\xff\\x1b\\u202e"
    assert printable("ü😀", ascii=True) == "\\xfc\\U0001f600"


def test_wide_characters_take_two_columns() -> None:
    assert cells("ab") == 2
    assert cells("服务") == 4
    assert cells("e\u0301") == 1
    assert wrap("服务服务服务", 8) == ["服务服务", "服务"]


def test_the_first_line_may_be_shorter() -> None:
    assert wrap("aaaa bbbb cccc dddd", 20, 0, 10) == ["aaaa bbbb", "cccc dddd"]


def test_paint_needs_leave() -> None:
    assert Page(80).paint("x", "bold red") == "x"
    assert Page(80, color=True).paint("x", "bold red") == "\x1b[1;31mx\x1b[0m"


@given(st.lists(st.text("ab c", max_size=12), max_size=20), st.integers(8, 40), st.integers(0, 12), st.integers(8, 40))
def test_ascii_text_breaks_where_any_other_does(words: list[str], width: int, hang: int, first: int) -> None:
    text = " ".join(words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_page, "_at_blanks", lambda *_: None)
        expected = wrap(text, width, hang, first)
    assert wrap(text, width, hang, first) == expected


def test_rows_are_paragraphs() -> None:
    rows = [("  1  ", "short"), ("  2  ", "a b " * 40), ("  3  ", " blank"), ("  4  ", "")]
    for some in (rows, rows[:1], rows[3:], [*rows[:1], ("", "\x1b[2J")], []):
        one, all_ = Page(60), Page(60)
        for first, text in some:
            one.put(text, first=first, rest="     ")
        all_.rows(some, rest="     ")
        assert all_.text() == one.text()
