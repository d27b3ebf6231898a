"""Faults done to running clusters: each is found by its own code first, nothing false is told, real connections agree.

Every flow of every fault, in both backends, is asked by hand (``python -m lab.faults``); here some flows of each.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .faults import FAULTS, NOTHING, Fault, held

FLOWS = 6


@pytest.mark.lab
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_and_real_connections_agree(fault: Fault, tmp_path: Path) -> None:
    """The legacy backend for every second fault: kube-proxy's rules are the same, what reads them is not."""
    backend = ("nft", "legacy")[FAULTS.index(fault) % 2]
    found = held(fault, backend, tmp_path, FLOWS)
    assert not found.wrong, "\n".join(found.wrong)
    assert not found.false, "\n".join(found.false)
    assert found.flows >= FLOWS
    assert not found.errors or found.failing


def test_the_page_on_faults_has_them_all(root: Path) -> None:
    page = (root / "docs/faults.md").read_text(encoding="utf-8")
    told = [fault for fault in FAULTS if fault.codes != NOTHING]
    assert [line for line in page.splitlines() if line.startswith("- ")] == [
        f"- {fault.name}: {', '.join(fault.codes.split())}" for fault in told
    ]
    assert f"{len(told)} kinds, in namespaces" in page
