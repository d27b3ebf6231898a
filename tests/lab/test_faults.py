"""Faults done to running clusters: each is found by its own code first, nothing false is told, real connections agree.

Every flow of every fault, in each mode, is asked by hand (``python -m lab.faults``); here some flows of each.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .faults import BACKENDS, FAULTS, IPTABLES, NFTABLES, NOTHING, Fault, held
from .kube_nft import LAYOUTS

FLOWS = 6
FLOWS_IN_NFTABLES_MODE = 3
OF_IPTABLES = [fault for fault in FAULTS if IPTABLES[0] in fault.modes and not fault.by_hand]
OF_NFTABLES = [fault for fault in FAULTS if IPTABLES[0] not in fault.modes and not fault.by_hand]
"""Those of both are the kernel's or somebody else's, whatever kube-proxy writes."""


@pytest.mark.lab
@pytest.mark.parametrize("fault", OF_IPTABLES, ids=lambda fault: fault.name)
def test_a_fault_is_found_and_real_connections_agree(fault: Fault, tmp_path: Path) -> None:
    """The legacy backend for every second fault: kube-proxy's rules are the same, what reads them is not."""
    right(fault, IPTABLES[OF_IPTABLES.index(fault) % 2], tmp_path, FLOWS)


@pytest.mark.lab
@pytest.mark.parametrize("fault", OF_NFTABLES, ids=lambda fault: fault.name)
def test_a_fault_of_nftables_mode(fault: Fault, tmp_path: Path) -> None:
    """In each of the layouts by turns."""
    layout = fault.layouts[OF_NFTABLES.index(fault) % len(fault.layouts)]
    right(fault, NFTABLES[0], tmp_path, FLOWS_IN_NFTABLES_MODE, layout)


def right(fault: Fault, backend: str, folder: Path, flows: int, layout: str = LAYOUTS[-1]) -> None:
    found = held(fault, backend, folder, flows, layout)
    assert not found.wrong, "\n".join(found.wrong)
    assert not found.false, "\n".join(found.false)
    assert found.flows >= flows
    assert not found.errors or found.failing


def test_the_page_on_faults_has_them_all(root: Path) -> None:
    page = (root / "docs/faults.md").read_text(encoding="utf-8")
    told = [fault for fault in FAULTS if fault.codes != NOTHING]
    assert [line for line in page.splitlines() if line.startswith("- ")] == [
        f"- {fault.name}: {', '.join(fault.codes.split())}{where(fault)}" for fault in told
    ]
    for modes, words in ((IPTABLES, "in iptables mode"), (NFTABLES, "in nftables mode")):
        many = sum(modes[0] in fault.modes for fault in told)
        assert f"{many} kinds {words}" in page


def where(fault: Fault) -> str:
    """What the page says of the modes that a fault is of."""
    if fault.modes == BACKENDS:
        return ""
    if fault.modes == IPTABLES:
        return " (iptables)"
    return " (nftables)" if fault.layouts == LAYOUTS else f" (nftables {' and '.join(fault.layouts)})"
