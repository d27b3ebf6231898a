"""The lab needs root and network namespaces. Where they are not, its tests are skipped with the reason, or fail when
NETK8S_REQUIRE_LAB=1 says that here they must run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .agent import available
from .cluster import Cluster
from .topology import two_nodes

_why: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: needs root and makes network namespaces of its own")


@pytest.fixture(autouse=True)
def _lab_needs_root(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("lab") is None:
        return
    if not _why:
        _why.append(available())
    if _why[0]:
        if os.environ.get("NETK8S_REQUIRE_LAB") == "1":
            pytest.fail(f"the lab must run here (NETK8S_REQUIRE_LAB=1): {_why[0]}")
        pytest.skip(f"lab: {_why[0]}")


@pytest.fixture(params=["nft", "legacy"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Two nodes with kube-proxy's rules, once with each backend."""
    with Cluster(two_nodes()) as made:
        made.load_kube_rules(request.param)
        yield made
