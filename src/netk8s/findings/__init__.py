"""What is worth telling of a trace: one coded finding per module, whose docstring is its manual.

A finding module has ``CODE``, ``SEVERITY`` (its usual one), ``SUMMARY`` and ``check(world, trace)``, which yields
:class:`netk8s.model.Finding`. Its file being here is enough. One with ``SYMPTOM`` set to True tells what is seen rather
than why, so it stands behind the causes of its severity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Protocol

from netk8s import plugins
from netk8s.model import Finding, Trace, World

SEVERITIES = ("error", "warning", "info")
"""Worst first."""
MOST_EVIDENCE = 12
"""Places that a finding names; those of thousands of endpoints tell no more than the first ones."""


class Check(Protocol):
    """What a finding module offers as ``check``."""

    def __call__(self, world: World, trace: Trace, /) -> Iterator[Finding]: ...


def modules() -> list[ModuleType]:
    """Every finding there is a module for, in the order of their codes."""
    return plugins.modules(__name__)


def check(world: World, trace: Trace) -> tuple[Finding, ...]:
    """The findings of a trace: worst first, causes before symptoms, then by code; those that say the same made one."""
    symptoms = {module.CODE for module in modules() if getattr(module, "SYMPTOM", False)}
    merged: dict[tuple[str, str], Finding] = {}
    for module in modules():
        run: Check = module.check
        for finding in run(world, trace):
            key = (finding.code, finding.summary)
            merged[key] = _united(merged[key], finding) if key in merged else finding
    return tuple(
        sorted(merged.values(), key=lambda f: (SEVERITIES.index(f.severity), f.code in symptoms, f.code, f.summary))
    )


def _united(a: Finding, b: Finding) -> Finding:
    return replace(
        a,
        severity=min(a.severity, b.severity, key=SEVERITIES.index),
        evidence=tuple(dict.fromkeys((*a.evidence, *b.evidence)))[:MOST_EVIDENCE],
        proven=a.proven or b.proven,
    )
