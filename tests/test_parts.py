"""Nodes checked one by one and folded, held against the check of all of them together."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import checkup, decode, dialects, parts, snapshot, survey
from netk8s.checkup import Checkup, lines
from netk8s.model import Snapshot, World

CASES = ("broken-stale-node", "broken-missing-route", "iptables-nft-cni-ipmasq-forward-drop", "headline-nodeport-30000")
SYMPTOMS_OF_TWO = {"NK401", "NK405"}
"""Findings that take the rules of both nodes of a flow: told of the node that is at fault, not of the one that asks it."""


@functools.cache
def whole(corpus: Path, case: str) -> tuple[Snapshot, World, Checkup]:
    found = snapshot.read([str(corpus / case)])
    world = dialects.complete(decode.decode(found))
    return found, world, checkup.check(world)


@functools.cache
def apart(corpus: Path, case: str) -> Mapping[str, parts.Part]:
    """Each node's part, made of the objects and this node's dumps alone."""
    found, world, _ = whole(corpus, case)
    out = {}
    for name in world.nodes:
        own = Snapshot(tuple(dump for dump in found.dumps if dump.node in (None, name)))
        out[name] = parts.part(checkup.check(dialects.complete(decode.decode(own)), alone=True))
    return out


def fold(corpus: Path, case: str) -> parts.Fold:
    found, _, _ = whole(corpus, case)
    objects = decode.decode(Snapshot(tuple(dump for dump in found.dumps if dump.node is None)))
    return parts.Fold(survey.ports(objects, ()), [item.name for item in objects.cluster.nodes])


def folded(corpus: Path, case: str) -> Checkup:
    made = fold(corpus, case)
    for part in apart(corpus, case).values():
        made.add(part)
    return made.checkup()


def errors(found: Checkup) -> set[tuple[str, str]]:
    """(code, node) of every error."""
    wrong = (p for p in found.problems if p.finding.severity == "error")
    return {(p.finding.code, node) for p in wrong for node in p.nodes or ("",)}


@pytest.mark.parametrize("case", CASES)
def test_errors_are_those_of_the_check_of_all_nodes_together(corpus: Path, case: str) -> None:
    _, _, together = whole(corpus, case)
    one_by_one = folded(corpus, case)
    lost = {(code, node) for code, node in errors(together) - errors(one_by_one) if code not in SYMPTOMS_OF_TWO}
    assert lost == set()
    assert errors(one_by_one) <= errors(together)
    assert {code for code, _ in errors(one_by_one)} == {code for code, _ in errors(together)}
    assert one_by_one.nodes == together.nodes
    assert one_by_one.judged == tuple(sorted(together.judged))


@pytest.mark.parametrize("case", CASES)
def test_services_whose_flows_fail_are_the_same(corpus: Path, case: str) -> None:
    _, _, together = whole(corpus, case)
    one_by_one = folded(corpus, case)
    failing = [{line.port.key for line in lines(each) if line.arrive < line.asked} for each in (together, one_by_one)]
    assert failing[0] == failing[1]
    seen = [{line.port.key: line.outside for line in lines(each)} for each in (together, one_by_one)]
    assert seen[0] == seen[1]
    assert one_by_one.count("unknown") == together.count("unknown") == 0


def test_numbers_are_the_sums_of_the_parts(corpus: Path) -> None:
    found = folded(corpus, CASES[0])
    told = apart(corpus, CASES[0]).values()
    sizes = [(n.asked, n.arrive, last - first + 1) for part in told for n in part.numbers for first, last in n.ports]
    assert found.flows == sum(asked * ports for asked, _, ports in sizes)
    assert found.count("arrives") == sum(arrive * ports for _, arrive, ports in sizes)
    assert sum(found.count(fate) for fate in ("arrives", "fails", "unknown")) == found.flows
    assert sum(each.flows for line in lines(found) for each in line.exceptions) == found.flows - found.count("arrives")


def test_the_order_of_parts_means_nothing(corpus: Path) -> None:
    case = "broken-missing-route"
    backwards = fold(corpus, case)
    for part in reversed(apart(corpus, case).values()):
        backwards.add(part)
    assert errors(backwards.checkup()) == errors(folded(corpus, case))
    assert backwards.checkup().flows == folded(corpus, case).flows


def test_a_part_of_other_services_is_not_taken(corpus: Path) -> None:
    part = apart(corpus, CASES[0])["k8s-node1"]
    made = fold(corpus, CASES[0])
    with pytest.raises(ValueError, match="asked about other Services"):
        made.add(replace(part, ports="0" * 16))
    with pytest.raises(ValueError, match="pods that the API does not list"):
        made.add(replace(part, more=(("pod/default/nobody", "", 6),)))
    bad = replace(part.numbers[0], ports=((0, 10_000),))
    with pytest.raises(ValueError, match="not in the list"):
        made.add(replace(part, numbers=(bad,)))


def test_nodes_that_could_not_be_asked_are_missing(corpus: Path) -> None:
    made = fold(corpus, CASES[0])
    made.add(apart(corpus, CASES[0])["k8s-node1"])
    found = made.checkup({"k8s-node2": "no agent runs on k8s-node2"})
    (gap,) = found.missing
    assert (gap.what, gap.node) == ("node k8s-node2 (no agent runs on k8s-node2)", "k8s-node2")
    assert found.nodes == ("k8s-node1",)


def test_only_codes_that_are_told_stand_in_the_lines(corpus: Path) -> None:
    found = checkup.only(folded(corpus, CASES[0]), codes=["NK405"])
    assert {p.finding.code for p in found.problems} == {"NK405"}
    assert {code for line in lines(found) for each in line.exceptions for code in each.codes} == {"NK405"}


@pytest.mark.parametrize(
    ("places", "runs"),
    [([], ()), ([4], ((4, 4),)), ([0, 1, 2, 5, 6, 9], ((0, 2), (5, 6), (9, 9)))],
)
def test_runs(places: list[int], runs: parts.Ranges) -> None:
    assert parts._ranges(places) == runs
    assert list(parts._places(runs)) == places
