"""Reports as text for people, documents for programs and graphs for pictures.

A format is a module ``as_<name>`` of this package with ``NAME`` and ``render(report, *, color, width, ascii)``.
Its file being there makes it a format.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from netk8s.render import _formats

if TYPE_CHECKING:
    from netk8s.model import Report

# How the contract lists them; a format it does not know follows by name.
_ORDER = ("text", "wide", "json", "yaml", "dot", "mermaid")


class Format(Protocol):
    """What a module of this package offers."""

    NAME: str

    def render(self, report: Report, *, color: bool = False, width: int = 100, ascii: bool = False) -> str:
        """The report as text that ends with a line feed.

        ``color`` allows ANSI sequences, ``width`` is the number of columns of a format that wraps,
        ``ascii`` forbids every character beyond ASCII.
        """
        ...


def formats() -> tuple[str, ...]:
    """The names of all formats, by the files that are there: no format's module is imported."""
    return _formats.names(__path__, _ORDER)


def render(report: Report, name: str, *, color: bool = False, width: int = 100, ascii: bool = False) -> str:
    """The report in the format called ``name``; KeyError when there is none of this name."""
    if name not in formats():
        raise KeyError(name)
    # Only the one module: the others import what this format does not need.
    module = cast(Format, import_module(f"{__name__}.as_{name}"))
    return module.render(report, color=color, width=width, ascii=ascii)
