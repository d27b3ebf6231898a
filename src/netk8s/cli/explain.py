"""``netk8s explain``: the manual of a finding, which is its module's docstring."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netk8s.cli import Streams


@click.command("explain", short_help="Print the manual of a finding.")
@click.argument("code", required=False)
@click.pass_obj
def command(streams: Streams, code: str | None) -> int:
    """Print the manual of the finding CODE (NK101), or list all findings."""
    manuals = {str(module.CODE): module for module in _findings()}
    if code is None:
        for name, module in sorted(manuals.items()):
            streams.print(f"{name}  {module.SEVERITY:<7}  {module.SUMMARY}\n")
        return 0
    if code.upper() not in manuals:
        from netk8s.errors import NotFound

        raise NotFound(code, nearest(code.upper(), sorted(manuals)), f"there is no finding {code}")
    module = manuals[code.upper()]
    text = inspect.cleandoc(module.__doc__ or "").rstrip()
    streams.print(f"{module.CODE} ({module.SEVERITY}): {module.SUMMARY}\n\n{text}\n")
    return 0


def nearest(code: str, known: list[str]) -> list[str]:
    """The codes that were most likely meant, best first."""
    import difflib

    digits = "".join(c for c in code if c.isdigit())
    wanted = f"NK{digits.zfill(3)}" if digits else code
    return difflib.get_close_matches(wanted, known, n=5, cutoff=0.6)


def _findings() -> list[ModuleType]:
    from netk8s import plugins

    return [module for module in plugins.modules("netk8s.findings") if hasattr(module, "CODE")]
