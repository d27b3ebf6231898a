from __future__ import annotations

import pytest

from netk8s.checkup import Checkup
from netk8s.render import check


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("which", ["found", "hostile", "nothing"])
@pytest.mark.parametrize("ascii", [True, False])
def test_no_line_is_wider_and_nothing_moves_a_cursor(
    which: str, width: int, ascii: bool, request: pytest.FixtureRequest
) -> None:
    text = check.render(request.getfixturevalue(which), "text", width=width, ascii=ascii)
    assert text.endswith("\n")
    assert max(map(len, text.splitlines())) <= width
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.isascii() or not ascii


def test_a_line_per_service_with_its_exceptions_and_findings_by_severity(found: Checkup) -> None:
    text = check.render(found, "text")
    rows = [line for line in text.splitlines() if line.startswith("default/")]
    assert [row.split()[0] for row in rows] == ["default/nginx", "default/web-local"]
    assert rows[0].split()[-2:] == ["29/43", "changed"]
    assert "    unreachable in 1/3 of cases: ClusterIP from outside" in text
    assert text.index("Errors") < text.index("\n  NK206") < text.index("Warnings") < text.index("To know")
    assert "netk8s trace " in text


def test_a_service_of_which_nothing_arrives_has_one_word_for_it(found: Checkup) -> None:
    from msgspec.structs import replace

    asked = tuple(each for each in found.asked if each.fate != "arrives" and "unreachable" in each.answer.verdicts)
    asked = tuple(replace(each, problems=asked[0].problems) for each in asked)
    assert "    unreachable in 1/3 of cases: everything [" in check.render(replace(found, asked=asked), "text")


def test_nothing_to_tell(nothing: Checkup) -> None:
    assert "Findings: none." in check.render(nothing, "text")
