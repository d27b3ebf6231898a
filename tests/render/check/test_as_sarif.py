from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from netk8s.checkup import Checkup
from netk8s.render import check

_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
_LOCATION = {
    "type": "object",
    "required": ["physicalLocation"],
    "properties": {
        "id": {"type": "integer", "minimum": -1},
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation"],
            "additionalProperties": False,
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "required": ["uri"],
                    "properties": {"uri": {"type": "string", "pattern": r"^[A-Za-z0-9._~%/-]+$"}},
                },
                "region": {"type": "object", "properties": {"startLine": {"type": "integer", "minimum": 1}}},
            },
        },
    },
}
# What SARIF 2.1.0 (OASIS Standard incorporating Errata 01, sections 3.13, 3.14, 3.19, 3.27, 3.28) says of what is used.
SARIF: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name", "rules"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "properties": {"shortDescription": _TEXT, "help": _TEXT},
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "ruleIndex", "level"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": -1},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": _TEXT,
                                "locations": {"type": "array", "items": _LOCATION},
                                "relatedLocations": {"type": "array", "uniqueItems": True, "items": _LOCATION},
                                "properties": {"type": "object"},
                            },
                        },
                    },
                },
            },
        },
    },
}


@pytest.mark.parametrize("which", ["found", "hostile", "nothing"])
def test_the_structure_is_sarifs(which: str, request: pytest.FixtureRequest) -> None:
    found: Checkup = request.getfixturevalue(which)
    log = json.loads(check.render(found, "sarif"))
    jsonschema.validate(log, SARIF, cls=jsonschema.Draft202012Validator)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == sorted(set(rules))
    assert [result["ruleId"] for result in run["results"]] == [p.finding.code for p in found.problems]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])


def test_a_result_points_at_file_and_line(found: Checkup) -> None:
    results = json.loads(check.render(found, "sarif"))["runs"][0]["results"]
    stale = next(result for result in results if result["ruleId"] == "NK206")
    place = stale["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "nodes/k8s-node2/iptables-save.txt"
    evidence = next(p for p in found.problems if p.finding.code == "NK206").finding.evidence[0]
    assert evidence == f"{place['artifactLocation']['uri']}:{place['region']['startLine']}"
    assert (stale["level"], stale["properties"]["proven"]) == ("error", True)
