"""The report with nothing folded and every rule in full, for a pager that scrolls sideways or for ``grep``."""

from __future__ import annotations

from netk8s.model import Report
from netk8s.render._page import UNLIMITED, Page
from netk8s.render.as_text import prose

NAME = "wide"


def render(report: Report, *, color: bool = False, width: int = 100, ascii: bool = False) -> str:
    """Like ``text`` with every rule that matched, as the dump has it, on lines as long as they are."""
    return prose(report, Page(UNLIMITED, color=color, ascii=ascii), full=True)
