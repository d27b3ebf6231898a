"""Faults done to clusters in IPVS mode, inside user-mode Linux: some flows of some of them; all by hand (``lab.faults_ipvs``)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import uml
from .faults import NOTHING
from .faults_ipvs import FAULTS, outcomes

FLOWS = 4
HERE = (
    "no entry in KUBE-LOOP-BACK",
    "a rule of routing for virtual addresses leads nowhere",
)
"""Kinds that IPVS alone has to do with, and what was told wrong once."""


@pytest.mark.lab
def test_faults_are_found_and_real_connections_agree(tmp_path: Path) -> None:
    why = uml.available()
    if why and os.environ.get("NETK8S_REQUIRE_LAB") == "1":
        pytest.fail(f"user-mode Linux must run here (NETK8S_REQUIRE_LAB=1): {why}")
    if why:
        pytest.skip(f"user-mode Linux: {why}")
    chosen = [fault for fault in FAULTS if fault.name in HERE]
    assert len(chosen) == len(HERE)
    for name, result in outcomes(chosen, tmp_path, FLOWS).items():
        assert not result.error, f"{name}: {result.error}"
        assert not result.value["wrong"], f"{name}: {result.value['wrong']}"
        assert not result.value["false"], f"{name}: {result.value['false']}"
        assert result.value["flows"] >= FLOWS
        assert result.value["failing"], name


def test_the_page_on_faults_has_them_all(root: Path) -> None:
    page = (root / "docs/faults.md").read_text(encoding="utf-8")
    told = [fault for fault in FAULTS if fault.codes != NOTHING]
    assert [line for line in page.splitlines() if line.startswith("* ")] == [
        f"* {fault.name}: {', '.join(fault.codes.split())}" for fault in told
    ]
    assert f"{len(told)} kinds in IPVS mode" in page
