"""What is run inside user-mode Linux for :mod:`test_ipvs`: the same control plane and the same tests, in IPVS mode.

That kernel has IPVS, and iptables-legacy only. kube-proxy is the real one, so are etcd and kube-apiserver.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

import test_live  # noqa: E402 - the folders of the tests are no packages of an installed distribution
from plane import Plane  # noqa: E402

PATIENCE = 6.0


def ipvs(folder: Path, cache: str) -> dict[str, str]:
    """What a node's tools and netk8s say, after the tests of :mod:`test_live` that a slow machine can run."""
    os.environ["NETK8S_E2E_CACHE"] = cache
    began = time.monotonic()

    def told(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s {what}", flush=True)

    with Plane(folder, "ipvs", "legacy", PATIENCE) as plane:
        told("the cluster is there")
        test_live.test_live_offline_and_real_connections_agree(plane, folder)
        told("live, offline and connections agree")
        test_live.test_a_scaled_deployment_is_seen_by_the_next_trace(plane)
        told("scaled")
        test_live.test_a_redacted_bundle_traces_the_same_and_tells_no_name(plane, folder)
        told("redacted")
        return {
            "servers": plane.run("k8s-node1", ["ipvsadm", "-Sn"]).stdout,
            "trace": plane.netk8s(*test_live.QUESTION, "-o", "json").stdout,
            "proxy": plane.log("kube-proxy-k8s-node1"),
        }
