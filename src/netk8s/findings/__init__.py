"""What is worth telling of a trace: one coded finding per module, whose docstring is its manual.

A finding module has ``CODE``, ``SEVERITY`` (its usual one), ``SUMMARY`` and either ``check(world, trace)`` or, where no
packet is needed, ``drift(found)``; both yield :class:`netk8s.model.Finding`. Its file being here is enough. One with
``SYMPTOM`` set to True tells what is seen rather than why, so it stands behind the causes of its severity. One with
``WANTED`` finds what the API's objects may ask for, and says how severe it is where they do. One with ``UNASKED`` may find
how a proxy mode works, and says how severe that is at an address that only ``netk8s check`` asks for, as it does for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from msgspec.structs import replace

from netk8s import plugins
from netk8s.drift import Drift
from netk8s.model import Finding, Trace, World

SEVERITIES = ("error", "warning", "info")
"""Worst first."""
MOST_EVIDENCE = 12
"""Places that a finding names; those of thousands of endpoints tell no more than the first ones."""


def modules() -> list[ModuleType]:
    """Every finding there is a module for, in the order of their codes."""
    return plugins.modules(__name__)


def check(world: World, trace: Trace) -> tuple[Finding, ...]:
    """The findings of a trace: worst first, causes before symptoms, then by code; those that say the same made one."""
    return _merged(
        finding for module in modules() if hasattr(module, "check") for finding in module.check(world, trace)
    )


def drifted(found: Drift) -> tuple[Finding, ...]:
    """The findings of what the API wants against what the nodes have, in the same order."""
    return _merged(finding for module in modules() if hasattr(module, "drift") for finding in module.drift(found))


def symptoms() -> frozenset[str]:
    """The codes that tell what is seen rather than why."""
    return frozenset(module.CODE for module in modules() if getattr(module, "SYMPTOM", False))


def _merged(found: Iterable[Finding]) -> tuple[Finding, ...]:
    merged: dict[tuple[str, str], Finding] = {}
    for finding in found:
        key = (finding.code, finding.summary)
        merged[key] = _united(merged[key], finding) if key in merged else finding
    seen = symptoms()
    return tuple(
        sorted(merged.values(), key=lambda f: (SEVERITIES.index(f.severity), f.code in seen, f.code, f.summary))
    )


def _united(a: Finding, b: Finding) -> Finding:
    return replace(
        a,
        severity=min(a.severity, b.severity, key=SEVERITIES.index),
        evidence=tuple(dict.fromkeys((*a.evidence, *b.evidence)))[:MOST_EVIDENCE],
        proven=a.proven or b.proven,
    )
