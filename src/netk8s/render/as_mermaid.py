"""The ways as a Mermaid flowchart, which GitHub and GitLab draw in an issue."""

from __future__ import annotations

import re
from collections.abc import Iterable

from netk8s.model import Report
from netk8s.render._graph import Graph, Vertex, graph
from netk8s.render._page import printable

NAME = "mermaid"

_SHAPES = {
    "source": ("([", "])"),
    "chain": ("[", "]"),
    "decision": ("(", ")"),
    "delivered": ("[[", "]]"),
    "failed": ("{{", "}}"),
}

# Mermaid reads quotes, brackets, backquotes, %%{…}%% and markup even within quoted text, and #35; as a character
# of its own. So everything that is not plainly harmless is written by its number.
_RISKY = re.compile(r"[^\w .:,/+=→…-]")


def render(report: Report, *, color: bool = False, width: int = 100, ascii: bool = False) -> str:
    """One flowchart with a subgraph per hop. Shapes and words carry the meaning, no colours."""
    return draw(graph(report), ascii=ascii)


def draw(drawn: Graph, *, ascii: bool = False) -> str:
    """A graph in Mermaid's language."""

    def text(lines: Iterable[str]) -> str:
        escaped = (_RISKY.sub(lambda found: f"#{ord(found[0])};", printable(line, ascii)) for line in lines)
        return '"' + "<br/>".join(escaped) + '"'

    def vertex(one: Vertex, indent: str) -> str:
        left, right = _SHAPES[one.kind]
        return f"{indent}{one.name}{left}{text(one.lines)}{right}"

    out = ["flowchart TB"]
    out += [vertex(one, "  ") for one in drawn.loose]
    for cluster in drawn.clusters:
        out.append(f"  subgraph hop{cluster.name}[{text([cluster.label])}]")
        out += [vertex(one, "    ") for one in cluster.vertices]
        out.append("  end")
    for edge in drawn.edges:
        label = f"|{text(edge.lines)}|" if edge.lines else ""
        out.append(f"  {edge.tail} -->{label} {edge.head}")
    return "\n".join(out) + "\n"
