from __future__ import annotations

import re
from collections.abc import Callable

from netk8s.model import Report
from netk8s.render import as_mermaid

QUOTED = r'"[^"]*"'
VERTEX = re.compile(rf" +(v\d+)(?:\(\[{QUOTED}\]\)|\[{QUOTED}\]|\({QUOTED}\)|\[\[{QUOTED}\]\]|\{{\{{{QUOTED}\}}\}})")
EDGE = re.compile(rf"  (v\d+) -->(?:\|{QUOTED}\|)? (v\d+)")
HOP = re.compile(rf"  subgraph hop\d+\[{QUOTED}\]|  end")


def test_every_line_is_of_the_language(report: Report) -> None:
    first, *lines = as_mermaid.render(report).rstrip("\n").split("\n")
    assert first == "flowchart TB"
    vertices, ends = set(), set()
    for line in lines:
        if edge := EDGE.fullmatch(line):
            ends |= {edge[1], edge[2]}
        elif vertex := VERTEX.fullmatch(line):
            vertices.add(vertex[1])
        else:
            assert HOP.fullmatch(line), line
    assert ends == vertices


def test_text_cannot_break_out(build: Callable[[str], Report]) -> None:
    text = as_mermaid.render(build("hostile"))
    assert "a#34;b#92;c#96;d#60;e#62;f#38;g#59;h#35;i#124;j" in text
    for risky in ("%%", "`", "\x1b", "]l", "&"):
        assert risky not in text


def test_odds_and_changes_stand_at_the_edges(build: Callable[[str], Report]) -> None:
    text = as_mermaid.render(build("nodeport"))
    assert '-->|"33.3#37;<br/>dst 192.0.2.201:30000 → 10.244.1.5:80"|' in text
    assert 'subgraph hop0["n1, in by ens33"]' in text


def test_ascii(report: Report) -> None:
    assert as_mermaid.render(report, ascii=True).isascii()
