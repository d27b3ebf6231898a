"""The JSON document in YAML."""

from __future__ import annotations

import msgspec

from netk8s import model
from netk8s.render.document import document

NAME = "yaml"


def render(report: model.Report, *, color: bool = False, width: int = 100, ascii: bool = False) -> str:
    """The same document as ``json``, key for key. Long rules are wrapped the way YAML wraps them."""
    import yaml  # 40 ms that only this format has to pay

    value = msgspec.to_builtins(document(report))
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=not ascii, width=width))
