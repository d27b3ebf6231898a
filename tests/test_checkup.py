"""Everything of a snapshot at once: what is asked, how findings are folded, what is left out on demand."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import checkup, decode, dialects, snapshot
from netk8s.checkup import Checkup, check, lines, only
from netk8s.drift import Difference, Drift
from netk8s.findings import SEVERITIES, symptoms
from netk8s.model import Finding, World

CASE = "broken-stale-node"


@functools.cache
def world(corpus: Path, case: str = CASE) -> World:
    return dialects.complete(decode.decode(snapshot.read([str(corpus / case)])))


@pytest.fixture(scope="module")
def found(corpus: Path) -> Checkup:
    return check(world(corpus))


def test_every_service_port_has_a_line_and_every_flow_a_fate(found: Checkup, corpus: Path) -> None:
    table = {str(line.port): line for line in lines(found)}
    services = world(corpus).cluster.services
    assert {line.port.service for line in table.values()} == {f"{s.namespace}/{s.service}" for s in services}
    assert sum(line.asked for line in table.values()) == len(found.asked)
    assert sum(found.count(fate) for fate in ("arrives", "fails", "unknown")) == len(found.asked)
    assert table["default/dns-np"].asked == table["default/dns-np"].arrive
    assert not table["default/dns-np"].exceptions
    assert (table["default/web-local"].outside, table["default/nginx"].outside) == ("kept", "changed")


def test_exceptions_are_all_that_does_not_arrive(found: Checkup) -> None:
    for line in lines(found):
        assert sum(each.flows for each in line.exceptions) == line.asked - line.arrive
    nginx = next(line for line in lines(found) if str(line.port) == "default/nginx")
    # One of three endpoints of the stale node is gone, for every client that comes by that node.
    assert {each.what for each in nginx.exceptions} == {"unreachable in 1/3 of cases"}
    assert {node for each in nginx.exceptions for node in each.nodes} == {"k8s-node2"}


@pytest.mark.parametrize("code", ["NK204", "NK408"])
def test_what_is_not_served_where_nobody_asks_is_no_error(found: Checkup, code: str) -> None:
    graded = checkup._Graded(Drift())
    said = Finding(code, "error", "", (), "", True)
    main = next(each.question for each in found.asked if each.question.dialled.ip is None and not each.question.address)
    assert graded.of(said, main).severity == "error"
    assert graded.of(said, replace(main, address="127.0.0.1")).severity == "info"
    # A node that lacks what the Service asks for does not make an error of it either.
    off = checkup._Graded(Drift((Difference("", "n", main.port.service),)))
    assert off.of(said, replace(main, address="another address (cni0)")).severity == "info"
    assert off.of(replace(said, code="NK402"), replace(main, address="127.0.0.1")).severity == "error"


def test_findings_of_one_cause_are_one_problem(found: Checkup) -> None:
    stale = [p for p in found.problems if p.finding.code == "NK206" and p.finding.severity == "error"]
    assert len(stale) == 1
    assert stale[0].services == ("default/nginx", "default/single")
    assert stale[0].nodes == ("k8s-node2",)
    assert stale[0].flows == sum(any(found.problems[i] == stale[0] for i in each.problems) for each in found.asked)
    # The worst first; of these what is wrong with a node, then what stops packets, then what is seen of it.
    order = [
        (SEVERITIES.index(p.finding.severity), p.example is not None, p.finding.code in symptoms(), -p.flows)
        for p in found.problems
    ]
    assert order == sorted(order)
    assert found.problems[0].finding.code == "NK601"
    assert {p.nodes for p in found.problems if p.finding.code == "NK605"} == {("k8s-node2",)}


def test_one_service_and_one_node(corpus: Path) -> None:
    def wanted(ports: object) -> list[tuple[str, str, int]]:
        return [("default/nginx", "", 6)]

    told: list[tuple[int, int]] = []
    found = check(world(corpus), wanted, ["k8s-node1"], lambda done, total: told.append((done, total)))
    assert {str(port) for port in found.ports} == {"default/nginx"}
    assert found.nodes == ("k8s-node1",)
    places = {stop.node for each in found.asked for stop in (each.question.at, each.question.sender) if stop}
    assert places == {"k8s-node1"}
    assert told == [(number, len(found.asked)) for number in range(len(found.asked))]
    # What is wrong with another node's rules is not met from here.
    assert not [p for p in found.problems if p.finding.code == "NK206"]


def test_fewer_problems_by_code_severity_and_what_was_there_before(found: Checkup) -> None:
    some = only(found, ["NK405"])
    assert {p.finding.code for p in some.problems} == {"NK405"}
    assert all(some.problems[i].finding.code == "NK405" for each in some.asked for i in each.problems)
    assert {p.finding.severity for p in only(found, severity="warning").problems} == {"error", "warning"}
    assert only(found, before=found).problems == ()
    fewer = only(found, severity="warning", before=only(found, ["NK101", "NK202"]))
    assert {p.finding.code for p in fewer.problems} == {"NK206", "NK405", "NK601", "NK605", "NK607"}


def test_what_the_objects_ask_for_is_no_error(corpus: Path) -> None:
    """A Service without endpoints, and nodes without an endpoint of a policy Local: each as the API has it."""
    found = check(world(corpus, "iptables-nft-matrix"), lambda ports: [
        port.key for port in ports if port.service in ("default/empty", "default/web-local")
    ])  # fmt: skip
    severities = {p.finding.code: p.finding.severity for p in found.problems}
    assert (severities["NK201"], severities["NK202"]) == ("warning", "info")
    assert "error" not in severities.values()
    assert found.count("fails")
