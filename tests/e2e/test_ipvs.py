"""The headline question live in IPVS mode: the whole control plane inside user-mode Linux, where this kernel has no IPVS.

What is asserted of a live cluster is :mod:`test_live`'s; here it is run there, and it is made sure that it was IPVS. About five
minutes: everything shares one processor of a kernel that runs as a process.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import build
import pytest
from conftest import why_not
from lab import uml

MEMORY_MB, SECONDS = 3000, 1200.0


@pytest.mark.e2e
def test_live_offline_and_real_connections_agree_in_ipvs_mode(tmp_path: Path) -> None:
    why = why_not() or uml.available()
    if why and os.environ.get("NETK8S_E2E") == "1":
        pytest.fail(why)
    if why:
        pytest.skip(why)
    cache = str(build.path("kube-proxy").parents[1])
    case = uml.Case("ipvs", "e2e.uml_plane:ipvs", {"cache": cache})
    ran = uml.boot([case], tmp_path, SECONDS, MEMORY_MB)["ipvs"]
    assert not ran.error, ran.error
    servers, document = ran.value["servers"], json.loads(ran.value["trace"])
    assert servers.count("-a -t 192.168.52.201:30000 -r ") == 3
    steps = [step for path in document["paths"] for hop in path["hops"] for step in hop["steps"]]
    assert [step for step in steps if step["action"].startswith("IPVS rr: 3 real servers in turn")]
    assert "Using ipvs Proxier" in ran.value["proxy"]
    assert {outcome["odds_exact"] for outcome in document["outcomes"]} == {"1/3"}
