"""What ``netk8s check`` prints. A format is a module ``as_<name>`` of this package with ``render(found, *, width, ascii)``.

Its file being there makes it a format.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from netk8s.render import _formats

if TYPE_CHECKING:
    from netk8s.checkup import Checkup

_ORDER = ("text", "json", "yaml", "junit", "sarif", "prometheus", "html")


class Format(Protocol):
    """What a module of this package offers."""

    def render(self, found: Checkup, *, width: int = 100, ascii: bool = False) -> str:
        """The checkup as text that ends with a line feed. ``width`` and ``ascii`` are for people's text."""
        ...


def formats() -> tuple[str, ...]:
    """The names of all formats, by the files that are there."""
    return _formats.names(__path__, _ORDER)


def render(found: Checkup, name: str, *, width: int = 100, ascii: bool = False) -> str:
    """The checkup in the format called ``name``; KeyError when there is none of this name."""
    if name not in formats():
        raise KeyError(name)
    module = cast(Format, import_module(f"{__name__}.as_{name}"))
    return module.render(found, width=width, ascii=ascii)
