"""JUnit XML, as build servers read it: a test suite per Service port, a test case per flow.

A flow fails where a finding of severity error was made of it, and is skipped where its answer is not known. Findings
without a packet are a suite of their own. The shape is that of the XSD that Jenkins' xUnit plugin and Apache Ant share.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as Tree

from netk8s.checkup import Asked, Checkup, Line, lines
from netk8s.problems import Problem
from netk8s.render._page import printable
from netk8s.render.check.as_text import exception, title
from netk8s.render.compared import words


def render(found: Checkup, *, width: int = 100, ascii: bool = False) -> str:
    """One XML document."""
    root = Tree.Element("testsuites", name="netk8s check")
    by_port: dict[object, list[Asked]] = {}
    for each in found.asked:
        by_port.setdefault(each.question.port.key, []).append(each)
    for line in lines(found):
        flows = [_flow(found, each) for each in by_port.get(line.port.key, [])]
        _suite(root, title(line), flows if found.told is None else list(_alike(found, line)))
    alone = [_alone(problem) for problem in found.problems if problem.example is None]
    if alone:
        _suite(root, "the cluster's nodes", alone)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    Tree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Tree.tostring(root, encoding="unicode") + "\n"


def _suite(root: Tree.Element, name: str, cases: list[Tree.Element]) -> None:
    suite = Tree.SubElement(root, "testsuite", name=printable(name))
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", "0")
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    for case in cases:
        case.set("classname", printable(name))
        suite.append(case)


def _flow(found: Checkup, each: Asked) -> Tree.Element:
    q = each.question
    where = f" through {q.at.node}" if q.at is not None and q.sender is None else ""
    sender = f" on {q.sender.node}" if q.sender is not None else ""
    at = f" of {q.at.node}" if q.at is not None and q.sender is not None else ""
    address = f" {q.dialled.ip}" if q.dialled.ip is not None else ""
    case = Tree.Element("testcase", name=printable(f"{q.kind}{address}{at} from {q.client}{where}{sender}"))
    errors = [found.problems[i] for i in each.problems if found.problems[i].finding.severity == "error"]
    if errors:
        _failure(case, errors, f"\nnetk8s trace {' '.join(words(q))}")
    elif each.fate == "unknown":
        why = next((because.text for because in each.answer.because if because.text), "not known")
        Tree.SubElement(case, "skipped", message=printable(why))
    return case


def _alike(found: Checkup, line: Line) -> Iterator[Tree.Element]:
    """Of a cluster whose nodes were asked by themselves: what arrives, and a case for all flows that fail alike."""
    if line.arrive:
        yield Tree.Element("testcase", name=printable(f"{line.arrive} of {line.asked} flows arrive"))
    errors = {p.finding.code: p for p in reversed(found.problems) if p.finding.severity == "error"}
    for each in line.exceptions:
        case = Tree.Element("testcase", name=printable(f"{each.what}: {exception(line, each)}"))
        mine = [errors[code] for code in each.codes if code in errors]
        if mine:
            _failure(case, mine, f"\nnetk8s trace {' '.join(words(each.example))}")
        elif each.what == "unknown":
            Tree.SubElement(case, "skipped", message="not known")
        yield case


def _alone(problem: Problem) -> Tree.Element:
    case = Tree.Element("testcase", name=printable(f"{problem.finding.code} {problem.finding.summary}"))
    if problem.finding.severity == "error":
        _failure(case, [problem], "")
    return case


def _failure(case: Tree.Element, problems: list[Problem], more: str) -> None:
    first = problems[0].finding
    failure = Tree.SubElement(case, "failure", type=first.code, message=printable(first.summary))
    told = [
        f"{one.code}: {one.summary}\nseen at: {', '.join(one.evidence)}\nwhat to do: {one.remedy}"
        for one in (problem.finding for problem in problems)
    ]
    failure.text = "\n".join(printable(line) for line in ("\n".join(told) + more).split("\n"))
