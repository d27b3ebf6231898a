"""The checkup for a person: a line per Service port with its exceptions, then the findings, the worst first."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.checkup import Checkup, Exceptional, Line, lines
from netk8s.problems import Problem
from netk8s.render._page import Page, cells
from netk8s.render.check.document import summary
from netk8s.render.compared import clients, several, words
from netk8s.render.document import protocol_name

_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}
_TITLES = {"error": "Errors", "warning": "Warnings", "info": "To know (-o json has all of it)"}
MOST_PLACES = 3


def render(found: Checkup, *, width: int = 100, ascii: bool = False) -> str:
    """The checkup within ``width`` columns."""
    page = Page(width, ascii=ascii)
    for sentence in sentences(found):
        page.put(sentence)
    if found.ports:
        page.blank()
        _table(page, list(lines(found)))
    for severity in _STYLES:
        problems = [problem for problem in found.problems if problem.finding.severity == severity]
        if problems:
            page.title(_TITLES[severity])
            for problem in problems:
                _problem(page, problem, full=severity != "info")
    if found.stands_for:
        page.blank()
        alike = "; ".join(f"{node} for {', '.join(names)}" for node, names in found.stands_for)
        page.put(f"Where nodes are alike for a Service, one was asked for all: {alike}.")
    if found.notes:
        page.title("Taken for granted, because no dump says it")
        page.bullets(found.notes)
    if found.missing:
        page.title("Missing")
        page.bullets(f"{gap.what}: needed for {gap.needed_for}" for gap in found.missing)
    return page.text()


def sentences(found: Checkup) -> Iterator[str]:
    """The summary: what was asked, what arrives, what was found."""
    total = summary(found)
    nodes = f"{len(total.nodes)} node{_s(len(total.nodes))}"
    yield f"{nodes}, {total.service_ports} Service port{_s(total.service_ports)}, {total.flows} flows asked:"
    unknown = f", of {total.unknown} it is not known" if total.unknown else ""
    yield f"  {total.arrive} arrive, {total.fail} do not or not always{unknown}."
    counts = ((total.errors, "error"), (total.warnings, "warning"), (total.infos, "info"))
    told = [f"{count} {name}{_s(count) if name != 'info' else ''}" for count, name in counts if count]
    yield f"  Findings: {', '.join(told) or 'none'}."


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def title(line: Line) -> str:
    """``default/web:http tcp``."""
    return f"{line.port} {protocol_name(line.port.protocol)}"


def dialled(line: Line) -> str:
    """``ClusterIP:80, NodePort:30000``: each kind of address with its port once."""
    return ", ".join(dict.fromkeys(f"{d.kind}:{d.port}" for d in line.port.dialled))


def exception(line: Line, each: Exceptional) -> str:
    """``NodePort from outside [NK404]``."""
    if each.flows == line.asked:
        where = "everything"
    else:
        where = "; ".join(f"{kind} from {', '.join(clients(who))}" for kind, who in each.dialled)
    codes = f" [{' '.join(each.codes)}]" if each.codes else ""
    return f"{where}{codes}"


def _table(page: Page, rows: list[Line]) -> None:
    cellular = [("SERVICE", "DIALLED", "ENDS", "ARRIVE", "CLIENT OUTSIDE")]
    for line in rows:
        cellular.append(
            (title(line), dialled(line), str(len(line.port.endpoints)), f"{line.arrive}/{line.asked}", line.outside)
        )
    cellular = [tuple(page.clean(cell) for cell in cells_) for cells_ in cellular]  # type: ignore[misc]
    widths = [max(cells(row[i]) for row in cellular) for i in range(5)]
    room = page.width - sum(widths[2:]) - 4 * 2
    widths[0] = min(widths[0], max(room // 2, room - widths[1]))
    widths[1] = min(widths[1], room - widths[0])
    for number, row in enumerate(cellular):
        texts = [_cut(cell, size) for cell, size in zip(row, widths, strict=True)]
        page.raw("  ".join(text + " " * (size - cells(text)) for text, size in zip(texts, widths, strict=True)))
        for each in rows[number - 1].exceptions if number else ():
            page.put(exception(rows[number - 1], each), first=f"    {each.what}: ", rest="      ")


def _cut(text: str, size: int) -> str:
    return text if cells(text) <= size else text[: max(size - 2, 1)] + ".."


def _problem(page: Page, problem: Problem, *, full: bool) -> None:
    one = problem.finding
    unproven = "" if one.proven else " [not proven: rests on an assumption]"
    more = f" (one of {problem.flows} flows)" if problem.flows > 1 else ""
    text = " ".join(one.summary.split()) + more + unproven
    page.put(text, first=f"  {one.code}  ", rest="    ", lead=_STYLES[one.severity])
    if not full:
        return
    if len(problem.services) > 1:
        page.put(several(problem.services), first="    services:   ")
    if len(problem.nodes) > 1:
        page.put(several(problem.nodes), first="    nodes:      ")
    if one.evidence:
        page.put(several(one.evidence, MOST_PLACES), first="    seen at:    ")
    if one.remedy:
        page.put(" ".join(one.remedy.split()), first="    what to do: ")
    if problem.example is not None:
        page.put(f"netk8s trace {' '.join(words(problem.example))}", first="    e.g.:       ")
