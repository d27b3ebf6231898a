"""What ``netk8s watch`` prints: the state it begins with, then only what is new, as text or as a line of JSON each."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from netk8s.checkup import Checkup
from netk8s.news import News
from netk8s.problems import Problem
from netk8s.render._page import Page
from netk8s.render.check.as_text import sentences
from netk8s.render.check.document import Finding, Summary, finding, summary
from netk8s.render.compared import Difference, difference, several, table
from netk8s.render.document import utf8

SCHEMA: Literal["netk8s.dev/watch/v1"] = "netk8s.dev/watch/v1"

MOST_FINDINGS = 20
_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One change, or the state at the beginning. A and B of a difference are before and after."""

    schema: Literal["netk8s.dev/watch/v1"] = SCHEMA
    time: Annotated[str, Meta(description="When it was seen, RFC 3339 in UTC")]
    first: Annotated[bool, Meta(description="True: the beginning; every finding counts as new then")]
    summary: Summary
    findings_new: list[Finding]
    findings_gone: list[Finding]
    differences: list[Difference]
    services_new: list[str]
    services_gone: list[str]


def as_json(found: Checkup, since: News | None, time: str) -> str:
    """One line. ``since`` None: the beginning."""
    told = News(appeared=found.problems) if since is None else since
    document = Watched(
        time=time, first=since is None, summary=summary(found), findings_new=[finding(p) for p in told.appeared],
        findings_gone=[finding(p) for p in told.gone], differences=[difference(row) for row in told.rows],
        services_new=[utf8(name) for name in told.ports_new], services_gone=[utf8(name) for name in told.ports_gone],
    )  # fmt: skip
    return msgspec.json.encode(document).decode() + "\n"


def as_text(found: Checkup, since: News | None, time: str, *, width: int = 100, ascii: bool = False) -> str:
    """The summary at the beginning, later what is new: ``+`` a finding came, ``-`` it went."""
    page = Page(width, ascii=ascii)
    if since is None:
        for sentence in sentences(found):
            page.put(sentence)
        return page.text()
    counts = (
        (len(since.appeared), "new findings"), (len(since.gone), "gone"), (sum(row.number for row in since.rows), "flows changed"),
        (len(since.ports_new), "Service ports new"), (len(since.ports_gone), "Service ports gone"),
    )  # fmt: skip
    page.put(f"{time}  {', '.join(f'{count} {what}' for count, what in counts if count)}")
    for mark, problems in (("+", since.appeared), ("-", since.gone)):
        for problem in problems[:MOST_FINDINGS]:
            _problem(page, mark, problem)
        if len(problems) > MOST_FINDINGS:
            page.put(f"{mark} and {len(problems) - MOST_FINDINGS} more: -o json has all", first="  ")
    for what, ports in (("new", since.ports_new), ("gone", since.ports_gone)):
        if ports:
            page.put(several(ports), first=f"  Service ports {what}: ", rest="    ")
    if since.rows:
        page.blank()
        table(page, since.rows)
        page.put("A is before, B is after.")
    return page.text() + "\n"


def _problem(page: Page, mark: str, problem: Problem) -> None:
    one = problem.finding
    page.put(" ".join(one.summary.split()), first=f"  {mark} {one.code} {one.severity}  ", rest="      ")
