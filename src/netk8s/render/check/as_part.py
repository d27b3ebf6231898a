"""One node's part of a cluster's checkup, for ``netk8s check`` that folds many of them."""

from __future__ import annotations

import msgspec

from netk8s.checkup import Checkup
from netk8s.parts import part


def render(found: Checkup, *, width: int = 100, ascii: bool = False) -> str:
    """One line of JSON: a :class:`netk8s.parts.Part`."""
    return msgspec.json.encode(part(found)).decode() + "\n"
