"""Two snapshots of one cluster, flow by flow. What was recorded of both is in tests/corpus."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, snapshot
from netk8s.comparison import AFFINITY, ENDPOINTS, ODDS, SOURCE, VERDICT, compare, difference
from netk8s.model import World
from netk8s.survey import Answer, Because, Result

# ---------------------------------------------------------------- two snapshots


@functools.cache
def world(corpus: Path, case: str) -> World:
    return dialects.complete(decode.decode(snapshot.read([str(corpus / case)])))


def test_a_snapshot_and_itself_do_not_differ(corpus: Path) -> None:
    found = compare(world(corpus, "headline-nodeport-30000"), world(corpus, "headline-nodeport-30000"))
    assert found.asked > 20
    assert (found.flows, found.rows, found.only_a, found.only_b, found.unknown) == ((), (), (), (), 0)


def test_what_only_one_has_is_told(corpus: Path) -> None:
    whole = world(corpus, "headline-nodeport-30000")
    nodes = {name: node for name, node in whole.nodes.items() if name != "k8s-master"}
    services = tuple(s for s in whole.cluster.services if s.service != "nginx")
    part = replace(whole, nodes=nodes, cluster=replace(whole.cluster, services=services))
    found = compare(whole, part)
    assert "node k8s-master" in found.only_a
    assert "default/nginx" in found.only_a
    assert found.only_b == ()
    asked = {d.question.port.service for d in found.flows}
    assert "default/nginx" not in asked


def test_progress_is_told(corpus: Path) -> None:
    ticks: list[tuple[int, int]] = []
    here = world(corpus, "headline-nodeport-30000")
    found = compare(here, here, lambda ports: [p.key for p in ports if p.service == "default/nginx"],
                    lambda done, total: ticks.append((done, total)))  # fmt: skip
    assert [done for done, _ in ticks] == list(range(found.asked))


# ---------------------------------------------------------------- two answers


def answer(*results: Result) -> Answer:
    return Answer(results, (Because("so"),))


def delivered(ip: str = "10.0.0.1", **more: Any) -> Result:
    return Result(
        "delivered", ip_address(ip), 80, odds=more.pop("odds", Fraction(1)), seen=more.pop("seen", "kept"), **more
    )


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        ([delivered()], [delivered()], ""),
        ([delivered()], [Result("refused", odds=Fraction(1))], VERDICT),
        ([delivered()], [delivered("10.0.0.2")], ENDPOINTS),
        ([delivered()], [delivered(sticky=True)], AFFINITY),
        (
            [delivered(odds=Fraction(1, 2)), delivered("10.0.0.2", odds=Fraction(1, 2))],
            [delivered(odds=Fraction(1, 3)), delivered("10.0.0.2", odds=Fraction(2, 3))],
            ODDS,
        ),
        ([delivered(source=ip_address("10.0.0.9"))], [delivered(source=ip_address("10.0.0.8"))], SOURCE),
        (
            # The same endpoint by two ways, with two sources seen, is no difference in odds.
            [delivered(odds=Fraction(1, 2)), delivered(odds=Fraction(1, 2), source=ip_address("10.0.0.8"))],
            [delivered()],
            SOURCE,
        ),
    ],
)
def test_what_two_answers_differ_in(a: Iterable[Result], b: Iterable[Result], kind: str) -> None:
    assert difference(answer(*a), answer(*b)) == kind
    assert difference(answer(*b), answer(*a)) == kind
