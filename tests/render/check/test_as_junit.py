from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree as Tree

import pytest

from netk8s.checkup import Checkup
from netk8s.render import check

# The elements and attributes that the XSD of Jenkins' xUnit plugin (model/xsd/junit-10.xsd) allows, of those used here.
ALLOWED = {
    "testsuites": ({"name", "tests", "failures", "errors", "skipped"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped"}, {"testcase"}),
    "testcase": ({"name", "classname"}, {"failure", "skipped"}),
    "failure": ({"type", "message"}, set()),
    "skipped": ({"message"}, set()),
}
NEEDED = {"testsuite": {"name", "tests", "failures", "errors"}, "testcase": {"name"}}


@pytest.mark.parametrize("which", ["found", "hostile", "nothing"])
def test_the_shape_is_junits(which: str, request: pytest.FixtureRequest) -> None:
    root = Tree.fromstring(check.render(request.getfixturevalue(which), "junit"))  # noqa: S314 - our own output
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert NEEDED.get(element.tag, set()) <= set(element.attrib)
        assert {child.tag for child in element} <= children
    for suite in root:
        for name, tag in (("failures", "failure"), ("skipped", "skipped")):
            assert int(suite.get(name, "")) == len(suite.findall(f"testcase/{tag}"))
        assert int(suite.get("tests", "")) == len(suite)
    assert int(root.get("tests", "")) == len(root.findall(".//testcase"))


def test_a_flow_fails_where_an_error_was_found(found: Checkup) -> None:
    root = Tree.fromstring(check.render(found, "junit"))  # noqa: S314
    failed = Counter(case.get("classname") for case in root.iter("testcase") if case.find("failure") is not None)
    wanted: Counter[str | None] = Counter()
    for each in found.asked:
        if any(found.problems[i].finding.severity == "error" for i in each.problems):
            wanted[f"{each.question.port} tcp"] += 1
    alone = [p for p in found.problems if p.example is None and p.finding.severity == "error"]
    wanted["the cluster's nodes"] = len(alone)
    assert failed == wanted
    assert sum(failed.values())
    assert "netk8s trace" in (root.find(".//failure").text or "")  # type: ignore[union-attr]


def test_a_finding_without_a_packet_is_a_case_too(hostile: Checkup) -> None:
    root = Tree.fromstring(check.render(hostile, "junit"))  # noqa: S314
    assert len(root.findall('testsuite[@name="the cluster\'s nodes"]/testcase/failure')) == 1
