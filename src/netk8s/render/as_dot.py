"""The ways as a Graphviz graph: ``netk8s trace … -o dot | dot -Tsvg``."""

from __future__ import annotations

from collections.abc import Iterable

from netk8s.model import Report
from netk8s.render._graph import Graph, Vertex, graph
from netk8s.render._page import printable

NAME = "dot"

_LOOKS = {
    "source": "shape=ellipse",
    "chain": "shape=box",
    "decision": "shape=box, style=rounded",
    "delivered": "shape=box, style=bold",
    "failed": "shape=octagon, style=bold",
}


def render(report: Report, *, color: bool = False, width: int = 100, ascii: bool = False) -> str:
    """One digraph with a cluster per hop. Shapes and words carry the meaning, no colours."""
    return draw(graph(report), ascii=ascii)


def draw(drawn: Graph, *, ascii: bool = False) -> str:
    """A graph in Graphviz' language."""

    def text(lines: Iterable[str]) -> str:
        # Within quotes only the quote ends the string, and the backslash before it would escape it. Graphviz
        # reads HTML entities even there.
        marks = str.maketrans({"\\": "\\\\", '"': '\\"', "&": "&amp;"})
        escaped = (printable(line, ascii).translate(marks) for line in lines)
        return '"' + "\\n".join(escaped) + '"'

    def vertex(one: Vertex, indent: str) -> str:
        return f"{indent}{one.name} [{_LOOKS[one.kind]}, label={text(one.lines)}];"

    out = ["digraph netk8s {", f"  label={text([drawn.title])};", '  node [fontname="monospace"];']
    out += [vertex(one, "  ") for one in drawn.loose]
    for cluster in drawn.clusters:
        out += [f"  subgraph cluster_{cluster.name} {{", f"    label={text([cluster.label])};"]
        out += [vertex(one, "    ") for one in cluster.vertices]
        out.append("  }")
    for edge in drawn.edges:
        label = f" [label={text(edge.lines)}]" if edge.lines else ""
        out.append(f"  {edge.tail} -> {edge.head}{label};")
    return "\n".join([*out, "}"]) + "\n"
