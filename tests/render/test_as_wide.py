from __future__ import annotations

from collections.abc import Callable

from netk8s.model import Report
from netk8s.render import as_wide
from netk8s.render._page import printable


def test_every_rule_that_matched_is_there_in_full(report: Report) -> None:
    text = as_wide.render(report)
    for way in report.trace.ways:
        for hop in way.hops:
            for step in hop.steps:
                if step.rule:
                    assert printable(step.rule) in text
                if step.at:
                    assert printable(str(step.at)) in text


def test_nothing_is_folded_or_cut(build: Callable[[str], Report]) -> None:
    text = as_wide.render(build("crowd"))
    assert "without effect" not in text
    assert "the same way" not in text
    assert " more" not in text
    assert text.count("delivered to 10.244.1.") == 250


def test_ascii_and_printable(report: Report) -> None:
    assert as_wide.render(report, ascii=True).isascii()
    assert all(line.isprintable() for line in as_wide.render(report).split("\n"))
