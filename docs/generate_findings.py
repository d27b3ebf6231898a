#!/usr/bin/env python3
"""Write docs/findings.md from the manuals that the findings themselves are: their modules' docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from netk8s import findings

PAGE = Path(__file__).with_name("findings.md")
HEADINGS = ("What it sees", "Why it matters", "Example", "What to do")
INTRODUCTION = """# Findings

<!-- Written by docs/generate_findings.py (`make docs`) from the findings' own manuals. Edit those. -->

A finding is one thing worth telling about a trace. Its code is never given to another. `netk8s explain CODE` prints
the same manual. In an answer each finding names its evidence and says whether it is proven or rests on an assumption.
"""


def modules() -> Iterator[tuple[str, ModuleType]]:
    """(code, module) in the order of the codes."""
    for name in sorted(info.name for info in pkgutil.iter_modules(findings.__path__)):
        if found := re.match(r"nk\d{3}(?=_)", name):
            yield found[0].upper(), importlib.import_module(f"{findings.__name__}.{name}")


def manual(module: ModuleType) -> tuple[str, str]:
    """(title, the rest with its headings as headings of a page)."""
    title, _, rest = inspect.cleandoc(module.__doc__ or "").partition("\n")
    headings = "|".join(HEADINGS)
    # A heading stands on a line of its own: bare, with a colon, underlined, or as Markdown has it.
    rest = re.sub(rf"^#* *({headings}):?\n[-=~]{{3,}} *$", r"\1", rest, flags=re.M)
    rest = re.sub(rf"^#* *({headings}):? *\n+", r"### \1\n\n", rest, flags=re.M)
    # reST's way to announce a literal block and to quote a word
    rest = re.sub(r"::$", ":", rest, flags=re.M).replace("``", "`")
    return title.strip(), rest.strip()


def page() -> str:
    parts, contents = [], []
    for code, module in modules():
        title, rest = manual(module)
        title = re.sub(rf"^{code}[:.]? *", "", title).rstrip(".")
        contents.append(f"| [{code}](#{code.lower()}) | {title} |")
        parts.append(f'## <a id="{code.lower()}"></a>{code}: {title}\n\n{rest}\n')
    table = "\n".join(["| code | what |", "|---|---|", *contents])
    return "\n".join([INTRODUCTION, table, "", *parts])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
