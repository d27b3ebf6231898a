"""Findings of one cause are one problem, whoever found them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from netk8s import problems
from netk8s.model import Ask, Finding
from netk8s.problems import Folded, Problem
from netk8s.survey import Dialled, Port, Question

PORT = Port("default/web", "", 6, (Dialled("ClusterIP", ip_address("10.96.0.9"), 80),), (), (4,))
NODES = {"n1": None, "n2": None}


def found(summary: str, severity: str = "error") -> Finding:
    return Finding("NK404", severity, summary, (f"{summary[:2]}/sysctl.txt:1",), "switch it on", True)


def question() -> Question:
    return Question(PORT, PORT.dialled[0], "", "outside", Ask("10.96.0.9:80"))


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("n1 translates 10.0.0.1:80 to 10.1.0.1:8080", "n2 translates 10.0.0.9:81 to [fd00::1]:80", True),
        ("n1 translates 10.0.0.1:80 to 10.1.0.1:8080, 10.1.0.2:80 and 10.1.0.3:80", "n2 translates a/b to 7 endpoints", True),
        ("n1 refuses 10.0.0.1:80", "n1 drops 10.0.0.1:80", False),
        ("because policy of a/b is Local", "because policy of c/d:http is Local", True),
        ("nobody listens on eth0", "nobody listens on eth1", False),
    ],
)  # fmt: skip
def test_what_two_findings_of_one_cause_differ_in(a: str, b: str, same: bool) -> None:
    nodes = {"n1": None, "n2": None}
    assert (problems.said(a, nodes) == problems.said(b, nodes)) is same


def test_what_was_found_elsewhere_is_folded_as_what_was_found_here() -> None:
    here, there = Folded(NODES, [PORT]), Folded(NODES, [PORT])
    for name in NODES:
        here.add(found(f"{name} does not forward packets to 10.0.0.1"), question())
    for name in NODES:
        there.joined(
            Problem(found(f"{name} does not forward packets to 10.0.0.1"), ("default/web",), (name,), 1, question())
        )
    assert here.sorted() == there.sorted()
    (problem,) = here.sorted()[0]
    assert (problem.nodes, problem.flows, problem.finding.evidence) == (
        ("n1", "n2"), 2, ("n1/sysctl.txt:1", "n2/sysctl.txt:1"),
    )  # fmt: skip


def test_what_is_found_without_a_packet_is_a_problem_of_each_node() -> None:
    folded = Folded(NODES, [PORT])
    for name in NODES:
        folded.joined(Problem(found(f"{name} has no kube-proxy"), (), (name,)))
    folded.joined(Problem(found("n1 has no kube-proxy"), ("default/web",), ("n1",)))
    told, _ = folded.sorted()
    assert [(p.nodes, p.services) for p in told] == [(("n1",), ("default/web",)), (("n2",), ())]
