"""The e2e tests need root, network namespaces, etcd, kubectl and the built control plane; they run by ``make e2e``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import build  # noqa: E402 - the folders of the tests are no packages of an installed distribution
from plane import Plane  # noqa: E402


def why_not() -> str:
    if os.environ.get("NETK8S_E2E") != "1":
        return "they run by `make e2e`"
    absent = [
        tool for tool in ("etcd", "kubectl", "nft", "nsenter", "setpriv", "openssl", "curl") if not shutil.which(tool)
    ]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return f"not built: {', '.join(build.lacking())}" if build.lacking() else ""


@pytest.fixture(
    scope="session", params=[("iptables", "nft"), ("iptables", "legacy"), ("nftables", "nft")], ids="-".join
)
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane with kube-proxy in one of the modes that this kernel runs."""
    why = why_not()
    if why:
        if os.environ.get("NETK8S_E2E") == "1":
            pytest.fail(why)
        pytest.skip(why)
    mode, backend = request.param
    with Plane(tmp_path_factory.mktemp(f"{mode}-{backend}"), mode, backend) as made:
        yield made
