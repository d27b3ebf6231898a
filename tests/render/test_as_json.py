from __future__ import annotations

import json

from netk8s.model import Report
from netk8s.render import as_json


def test_one_document_with_a_line_feed_at_its_end(report: Report) -> None:
    text = as_json.render(report)
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")
    assert json.loads(text)["schema"] == "netk8s.dev/trace/v1"
    assert text.encode()  # no lone surrogate gets out


def test_ascii_is_the_same_document(report: Report) -> None:
    text = as_json.render(report, ascii=True)
    assert text.isascii()
    assert json.loads(text) == json.loads(as_json.render(report))
