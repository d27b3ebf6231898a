"""SARIF 2.1.0 (OASIS Standard), as code hosts show it beside the files that it points into."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from netk8s import __version__
from netk8s.checkup import Checkup
from netk8s.problems import Problem
from netk8s.render.compared import words
from netk8s.render.document import utf8

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(found: Checkup, *, width: int = 100, ascii: bool = False) -> str:
    """One log with one run. A rule is a finding's code, a result a finding."""
    codes = sorted({problem.finding.code for problem in found.problems})
    rules = [
        {"id": code, "shortDescription": {"text": code}, "help": {"text": f"netk8s explain {code}"}} for code in codes
    ]
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "netk8s", "version": __version__, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(problem, codes) for problem in found.problems],
            }
        ],
    }
    return json.dumps(log, indent=1, ensure_ascii=False) + "\n"


def _result(problem: Problem, codes: list[str]) -> dict[str, Any]:
    one = problem.finding
    places = list(filter(None, map(_location, one.evidence)))
    properties: dict[str, Any] = {
        "services": [utf8(name) for name in problem.services], "nodes": [utf8(name) for name in problem.nodes],
        "flows": problem.flows, "proven": one.proven, "remedy": utf8(one.remedy),
    }  # fmt: skip
    if problem.example is not None:
        properties["trace"] = words(problem.example)
    return {
        "ruleId": one.code,
        "ruleIndex": codes.index(one.code),
        "level": _LEVELS[one.severity],
        "message": {"text": utf8(f"{one.summary}. {one.remedy}")},
        # The first place is the one that counts, the others go with it.
        "locations": places[:1],
        "relatedLocations": [{**place, "id": number} for number, place in enumerate(places[1:], 1)],
        "properties": properties,
    }


def _location(evidence: str) -> dict[str, Any] | None:
    """A place ("file:line"), None for evidence that is an object and no place in a file."""
    origin, _, line = evidence.rpartition(":")
    if not origin or not line.isdecimal():
        return None
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(utf8(origin))}}
    if int(line):
        physical["region"] = {"startLine": int(line)}
    return {"physicalLocation": physical}
