from __future__ import annotations

import json
from collections.abc import Callable

import pytest


@pytest.mark.parametrize("kind", ["trace", "decode", "compare", "diff", "links", "watch"])
def test_a_schema_is_printed_as_json(netk8s: Callable, kind: str) -> None:
    ran = netk8s("schema", kind)
    assert (ran.status, ran.err) == (0, "")
    assert json.loads(ran.out)["properties"]["schema"]["enum"] == [f"netk8s.dev/{kind}/v1"]
