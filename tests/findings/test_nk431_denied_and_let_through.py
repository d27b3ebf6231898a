"""NK431: NetworkPolicies deny the connection, and it goes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from netk8s.findings import nk431_denied_and_let_through as nk431


@pytest.mark.parametrize(
    ("name", "proven"),
    [
        ("fires-nobody-enforces", True),
        ("fires-rules-let-through", True),
        ("fires-source-rewritten", True),
        ("fires-hidden-enforcement", False),
    ],
)
def test_it_is_proven_where_dumps_show_all_there_is(name: str, proven: bool, asked: Callable[[str], Any]) -> None:
    (finding,) = asked(f"NK431/{name}").of("NK431")
    assert (finding.severity, finding.proven) == ("warning", proven)
    assert finding.evidence[0].startswith("cluster/networkpolicies.json")


def test_without_all_dumps_of_the_node_nothing_is_proven(asked: Callable[[str], Any]) -> None:
    answer = asked("NK431/fires-nobody-enforces")
    node = answer.world.nodes["worker-1"]
    for lacking in ("nft", "link"):
        nodes = {"worker-1": replace(node, covered=node.covered - {lacking})}
        (finding,) = nk431.check(replace(answer.world, nodes=nodes), answer.trace)
        assert not finding.proven
        assert finding.summary.endswith("nobody enforces policies on worker-1, as far as its dumps show")
    (finding,) = nk431.check(replace(answer.world, nodes={}), answer.trace)
    assert not finding.proven
    assert finding.summary.endswith("no dump of worker-1 tells whether it is stopped there")


def test_what_the_policies_leave_open_is_no_finding(asked: Callable[[str], Any]) -> None:
    answer = asked("NK431/fires-nobody-enforces")
    none = replace(answer.world, cluster=replace(answer.world.cluster, policies=()))
    assert list(nk431.check(none, answer.trace)) == []
