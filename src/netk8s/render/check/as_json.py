"""The JSON document, ``schema: netk8s.dev/check/v1``."""

from __future__ import annotations

import msgspec

from netk8s.checkup import Checkup
from netk8s.render.check.document import checked


def render(found: Checkup, *, width: int = 100, ascii: bool = False) -> str:
    """One indented JSON document."""
    return msgspec.json.format(msgspec.json.encode(checked(found)), indent=1).decode() + "\n"
