"""One page for a browser: no script, nothing fetched, everything that a dump says escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from netk8s.checkup import Checkup, Line, lines
from netk8s.problems import Problem
from netk8s.render._page import printable
from netk8s.render.check.as_text import dialled, exception, sentences, title
from netk8s.render.compared import words

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25em .6em;border-bottom:1px solid #ddd;
vertical-align:top}code,pre{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}
.error{border-left:.4em solid #b00020}.warning{border-left:.4em solid #c77700}.info{border-left:.4em solid #0061a4}
details{margin:.5em 0;padding:.3em .8em;background:#f7f7f7}summary{cursor:pointer}.odd td{color:#555}
@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}details{background:#222}.odd td{color:#aaa}
th,td{border-color:#444}}
"""
# The page may show text of whoever may create a Service: should a browser ever run any, this forbids it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(found: Checkup, *, width: int = 100, ascii: bool = False) -> str:
    """One HTML document."""
    total = " ".join(text.strip() for text in sentences(found))
    body = [
        f"<h1>netk8s check</h1><p>{_text(total)}</p>",
        "<h2>Findings</h2>",
        *(_problem(problem) for problem in found.problems),
        "" if found.problems else "<p>none</p>",
        "<h2>Services</h2>",
        "<table><thead><tr><th>Service<th>Dialled<th>Endpoints<th>Arrive<th>Client outside</thead><tbody>",
        *(_line(line) for line in lines(found)),
        "</tbody></table>",
        _list("Nodes that stand for others", [f"{a} for {', '.join(b)}" for a, b in found.stands_for]),
        _list("Taken for granted, because no dump says it", found.notes),
        _list("Missing", [f"{gap.what}: needed for {gap.needed_for}" for gap in found.missing]),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>netk8s check</title><style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _text(text: str) -> str:
    return escape(printable(text))


def _list(title_: str, items: Iterable[str]) -> str:
    rows = "".join(f"<li>{_text(item)}</li>" for item in items)
    return f"<h2>{title_}</h2><ul>{rows}</ul>" if rows else ""


def _problem(problem: Problem) -> str:
    one = problem.finding
    rows = [("Services", ", ".join(problem.services)), ("Nodes", ", ".join(problem.nodes)),
            ("Flows", str(problem.flows or "")), ("Seen at", "\n".join(one.evidence)), ("What to do", one.remedy),
            ("Trace", f"netk8s trace {' '.join(words(problem.example))}" if problem.example is not None else "")]  # fmt: skip
    told = "".join(
        f"<tr><th>{name}<td>{'<code>' if name in ('Seen at', 'Trace') else ''}{_lines(text)}"
        for name, text in rows
        if text
    )
    unproven = "" if one.proven else " <em>(rests on an assumption)</em>"
    opened = " open" if one.severity == "error" else ""
    return (
        f'<details class="{one.severity}"{opened}><summary><b>{one.code}</b> {one.severity}: '
        f"{_text(one.summary)}{unproven}</summary><table>{told}</table></details>"
    )


def _lines(text: str) -> str:
    return "<br>".join(_text(line) for line in text.split("\n"))


def _line(line: Line) -> str:
    cells = (title(line), dialled(line), len(line.port.endpoints), f"{line.arrive}/{line.asked}", line.outside)
    row = "<tr>" + "".join(f"<td>{_text(str(cell))}" for cell in cells)
    for each in line.exceptions:
        row += f'<tr class="odd"><td><td colspan="4">{_text(f"{each.what}: {exception(line, each)}")}'
    return row
