"""The text and the lines of ``netk8s watch``."""

from __future__ import annotations

import json

import jsonschema

from netk8s.checkup import Checkup, Problem
from netk8s.model import Finding
from netk8s.news import News
from netk8s.render.document import json_schema
from netk8s.render.watched import MOST_FINDINGS, Watched, as_json, as_text

EMPTY = Checkup(("n1",), (), (), ())
WHEN = "2026-01-02T03:04:05Z"


def problem(code: str = "NK404", summary: str = "n1 does not forward") -> Problem:
    return Problem(Finding(code, "error", summary, ("x:1",), "forward"))


def test_a_line_of_json_for_each() -> None:
    found = Checkup(("n1",), (), (), (problem(),))
    first = as_json(found, None, WHEN)
    later = as_json(EMPTY, News(gone=(problem(),), ports_new=("shop/web",)), WHEN)
    for line in (first, later):
        assert line.count("\n") == 1
        jsonschema.validate(json.loads(line), json_schema(Watched), cls=jsonschema.Draft202012Validator)
    assert [f["code"] for f in json.loads(first)["findings_new"]] == ["NK404"]
    assert (json.loads(later)["first"], [f["code"] for f in json.loads(later)["findings_gone"]]) == (False, ["NK404"])
    assert json.loads(later)["services_new"] == ["shop/web"]


def test_the_text_has_only_what_is_new() -> None:
    assert "Findings: none." in as_text(EMPTY, None, WHEN)
    lines = as_text(EMPTY, News(appeared=(problem(),), gone=(problem("NK405", "gone"),)), WHEN).splitlines()
    assert lines == [
        f"{WHEN}  1 new findings, 1 gone", "  + NK404 error  n1 does not forward", "  - NK405 error  gone", "",
    ]  # fmt: skip


def test_many_findings_are_cut_in_text() -> None:
    many = News(appeared=tuple(problem(summary=f"n{i}") for i in range(MOST_FINDINGS + 2)))
    assert "  + and 2 more: -o json has all" in as_text(EMPTY, many, WHEN).splitlines()
