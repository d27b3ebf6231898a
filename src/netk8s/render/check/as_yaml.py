"""The document of ``as_json`` in YAML."""

from __future__ import annotations

import msgspec
import yaml

from netk8s.checkup import Checkup
from netk8s.render.check.document import checked


def render(found: Checkup, *, width: int = 100, ascii: bool = False) -> str:
    """One YAML document."""
    return str(yaml.safe_dump(msgspec.to_builtins(checked(found)), sort_keys=False, allow_unicode=True, width=100))
