"""The generated dump is what a kernel prints that holds such rules."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def generate(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", root / "bench" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("default/kubernetes:https", "tcp"), "NPX46M4PTMTKRN6Y"),
        (("kube-system/kube-dns:dns", "udp"), "TCOU7JCQXEZGVUNU"),
        (("kube-system/kube-dns:dns", "udp", "10.244.0.2:53"), "YIL6JZP7A3QYXJU2"),
    ],
)
def test_chains_have_the_names_that_kube_proxy_gives_them(
    generate: ModuleType, words: tuple[str, ...], name: str
) -> None:
    assert generate.chain_hash(*words) == name


@pytest.mark.parametrize(
    ("left", "printed"), [(2, "0.50000000000"), (3, "0.33333333349"), (6, "0.16666666651"), (7, "0.14285714272")]
)
def test_probabilities_are_printed_as_the_kernel_keeps_them(generate: ModuleType, left: int, printed: str) -> None:
    assert generate.probability(left) == printed


def test_there_are_65_rules_for_15_endpoints_and_23_around_them(generate: ModuleType) -> None:
    rules = [line for line in generate.rules(20, 15, 20000) if line.startswith("-A ")]
    assert len(rules) == 20 * 65 + 23


def test_every_endpoint_has_a_route(generate: ModuleType, tmp_path: Path) -> None:
    generate.write(tmp_path, services=100, endpoints=5)
    routes = json.loads((tmp_path / "nodes" / generate.NODE / "ip-route.json").read_text())
    networks = {route["dst"].rpartition(".")[0] for route in routes}
    hosts = {generate.endpoint(number, which, 5).rpartition(".")[0] for number in range(100) for which in range(5)}
    assert len(hosts) == 3
    assert hosts <= networks


@pytest.mark.lab
def test_a_kernel_prints_the_generated_dump_back(generate: ModuleType, tmp_path: Path) -> None:
    dump = generate.write(tmp_path, services=30, endpoints=4)
    script = f'iptables-nft-restore < "{dump}" && iptables-nft-save'
    run = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=True)

    def rules(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("#")]

    assert rules(run.stdout) == rules(dump.read_text())
