"""netk8s against the kernel on random IPVS setups in user-mode Linux: a fixed slice, in one boot."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from . import uml
from .generate_ipvs import SCHEDULERS, IpvsGenerator
from .ipvs_differential import describe, runs

CASES = int(os.environ.get("NETK8S_FUZZ_IPVS", "20"))
SEED = int(os.environ.get("NETK8S_FUZZ_SEED", "20260303"))


@pytest.mark.lab
def test_random_setups_and_connections(tmp_path: Path) -> None:
    why = uml.available()
    if why and os.environ.get("NETK8S_REQUIRE_LAB") == "1":
        pytest.fail(f"user-mode Linux must run here (NETK8S_REQUIRE_LAB=1): {why}")
    if why:
        pytest.skip(f"user-mode Linux: {why}")
    cases = list(runs(SEED, CASES, tmp_path))
    kinds = Counter(case.kind for case in cases)
    wrong = [case for case in cases if case.difference]
    text = "\n".join(describe(case) for case in wrong[:2])
    assert not wrong, f"{len(wrong)} of {len(cases)} cases differ from the kernel (seed {SEED}); the first:\n{text}"
    # Direct routing and tunnels lead to where no dump says what happens; the rest is known.
    assert kinds["right"] >= len(cases) * 3 // 4, kinds


def test_a_seed_is_a_case() -> None:
    first, second = (IpvsGenerator(7) for _ in range(2))
    assert [first.setup() for _ in range(5)] == [second.setup() for _ in range(5)]


def test_the_vocabulary_is_met() -> None:
    generator = IpvsGenerator(1)
    setups = [generator.setup() for _ in range(150)]
    servers = "".join(setup.servers for setup in setups)
    words = (*(f"-s {name}" for name in SCHEDULERS), "-p 300", "-M ", "-b sh-fallback", "-b sh-port", "-f 1", " -6 ")
    for word in (*words, "-w 0", "-w 3", "-g ", "-i ", "-m ", "-u ", "-t [", ":0 "):
        assert word in servers, word
    assert {setup.sysctls["net.ipv4.vs.conntrack"] for setup in setups} == {"0", "1"}
    sets = "".join(setup.sets for setup in setups)
    for name in ("CLUSTER-IP", "NODE-PORT-LOCAL-TCP", "LOAD-BALANCER-SOURCE-CIDR", "LOOP-BACK", "6-IPVS-IPS"):
        assert f"add KUBE-{name} " in sets, name
