"""The JSON document, ``schema: netk8s.dev/trace/v1``."""

from __future__ import annotations

import msgspec

from netk8s import model
from netk8s.render.document import document

NAME = "json"


def render(report: model.Report, *, color: bool = False, width: int = 100, ascii: bool = False) -> str:
    """One indented JSON document. Colour and width mean nothing here."""
    text = msgspec.json.format(msgspec.json.encode(document(report)), indent=1).decode()
    if ascii:
        import json

        text = json.dumps(json.loads(text), indent=1)
    return text + "\n"
