from __future__ import annotations

from html.parser import HTMLParser

import pytest

from netk8s.checkup import Checkup
from netk8s.render import check


class Page(HTMLParser):
    """What a browser would make of a page: its elements and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data


@pytest.mark.parametrize("which", ["found", "hostile", "nothing"])
def test_nothing_is_fetched_and_nothing_runs(which: str, request: pytest.FixtureRequest) -> None:
    page = Page(check.render(request.getfixturevalue(which), "html"))
    assert not {"script", "link", "img", "iframe", "object", "base", "a", "form"} & {tag for tag, _ in page.tags}
    attributes = {name for _, attrs in page.tags for name in attrs}
    assert attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "open", "colspan"}
    policy = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert "default-src 'none'" in str(policy[0])


def test_hostile_text_is_text(hostile: Checkup) -> None:
    text = check.render(hostile, "html")
    assert "<script>alert(1)</script> & ]]>" in Page(text).said
    assert all(line.isprintable() for line in text.split("\n"))


def test_the_page_says_what_the_text_says(found: Checkup) -> None:
    said = Page(check.render(found, "html")).said
    for problem in found.problems:
        assert problem.finding.summary in said
    assert "29/43" in said
    assert "unreachable in 1/3 of cases: ClusterIP from outside" in said
