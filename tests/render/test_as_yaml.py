from __future__ import annotations

import json

import yaml

from netk8s.model import Report
from netk8s.render import as_json, as_yaml


def test_yaml_is_the_json_document(report: Report) -> None:
    text = as_yaml.render(report)
    assert yaml.safe_load(text) == json.loads(as_json.render(report))
    assert text.startswith("schema: netk8s.dev/trace/v1\n")


def test_ascii(report: Report) -> None:
    text = as_yaml.render(report, ascii=True)
    assert text.isascii()
    assert yaml.safe_load(text) == json.loads(as_json.render(report))
