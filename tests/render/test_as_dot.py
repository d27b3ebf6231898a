"""The graph is read back by a small parser of the part of the DOT language that is used."""

from __future__ import annotations

import re
from collections.abc import Callable

from netk8s.model import Report
from netk8s.render import as_dot

TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|(->|[\[\]{};=,])|([A-Za-z_][A-Za-z_0-9]*))', re.S)


def tokens(text: str) -> list[tuple[str, str]]:
    out, at = [], 0
    text = text.rstrip()
    while at < len(text):
        found = TOKEN.match(text, at)
        assert found, text[at : at + 60]
        kind = "string" if found[1] is not None else "mark" if found[2] else "word"
        out.append((kind, found[found.lastindex or 0]))
        at = found.end()
    return out


def read(text: str) -> tuple[set[str], list[tuple[str, str]]]:
    """The vertices that are declared and the edges between them."""
    found = tokens(text)
    assert [word for _, word in found[:3]] == ["digraph", "netk8s", "{"]
    depth, vertices, edges = 0, set(), []
    for at, (kind, word) in enumerate(found):
        if kind == "mark":
            depth += {"{": 1, "}": -1}.get(word, 0)
            assert depth > 0 or at == len(found) - 1
            if word == "->":
                edges.append((found[at - 1][1], found[at + 1][1]))
        elif kind == "word" and found[at + 1][1] == "[" and found[at - 1][1] != "->" and word != "node":
            vertices.add(word)
    assert depth == 0
    return vertices, edges


def test_it_is_a_graph_whose_edges_join_what_it_declares(report: Report) -> None:
    vertices, edges = read(as_dot.render(report))
    assert vertices
    assert edges
    assert {end for edge in edges for end in edge} == vertices


def test_text_cannot_break_out(build: Callable[[str], Report]) -> None:
    text = as_dot.render(build("hostile"))
    strings = [word for kind, word in tokens(text) if kind == "string"]
    assert any('a\\"b\\\\c`d<e>f&amp;g' in string for string in strings)
    assert "\x1b" not in text
    assert all(kind == "string" or "DROP" not in word for kind, word in tokens(text))


def test_odds_and_changes_stand_at_the_edges(build: Callable[[str], Report]) -> None:
    text = as_dot.render(build("nodeport"))
    assert '[label="33.3%\\ndst 192.0.2.201:30000 → 10.244.1.5:80"]' in text
    assert '[label="mark 0x0 → 0x4000"]' in text
    assert 'label="n1, in by ens33"' in text


def test_ascii(report: Report) -> None:
    assert as_dot.render(report, ascii=True).isascii()
