"""What a person reads: never wider than promised, the answer first, nothing twice, nothing hidden."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

import pytest
from msgspec.structs import replace

from netk8s.model import Finding, Hop, Outcome, Report, Trace, Way
from netk8s.render import as_text
from netk8s.render._page import cells

Build = Callable[[str], Report]

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def words(text: str) -> str:
    """The text without line breaks, tree lines and columns."""
    return " ".join(re.sub(r"[├└│─]", " ", text).split())


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("ascii", [False, True])
def test_no_line_is_wider_than_promised(report: Report, width: int, ascii: bool) -> None:
    for line in as_text.render(report, width=width, ascii=ascii).splitlines():
        assert cells(line) <= width, line


def test_nothing_but_printable_lines(report: Report) -> None:
    text = as_text.render(report)
    assert text.endswith("\n")
    assert all(line.isprintable() for line in text.split("\n"))
    assert not any(line != line.rstrip() for line in text.split("\n"))
    assert "\n\n\n" not in text


def test_ascii_is_ascii(report: Report) -> None:
    assert as_text.render(report, ascii=True).isascii()


def test_colour_is_never_the_only_carrier(report: Report) -> None:
    plain = as_text.render(report)
    assert "\x1b" not in plain
    colored = as_text.render(report, color=True)
    assert ANSI.search(colored)
    assert ANSI.sub("", colored) == plain


def test_the_answer_comes_first_in_one_sentence_per_outcome(build: Build) -> None:
    text = as_text.render(build("nodeport"))
    lines = text.splitlines()
    assert lines[0] == "svc/default/nginx: tcp 192.0.2.50 → 192.0.2.201:30000"
    assert lines.index("Answer") < 6
    for ip, pod in (("10.244.1.5", "4xk20"), ("10.244.1.6", "4xk21"), ("10.244.1.7", "4xk22")):
        assert (
            f"1/3 (33.3%) delivered to {ip}:80 (pod default/nginx-7c5ddbdf54-{pod} on n1); "
            "it sees 10.244.1.1, not the client 192.0.2.50"
        ) in words(text)
    assert "nodes/n1/iptables-save.txt:98) rewrites source 192.0.2.50 to 10.244.1.1: first address" in words(text)


def test_what_ways_share_is_told_once(build: Build) -> None:
    text = as_text.render(build("nodeport"))
    assert text.count("--dport 30000") == 1
    assert text.count("├─") == 2
    assert text.count("└─") == 1
    assert text.count("the same way") == 2
    assert text.count("-j MASQUERADE") == 1
    assert "KUBE-SEP-CCCCCCCCCCCCCCCC, nodes/n1/iptables-save.txt:202" in words(text)


def test_a_rule_in_short_with_its_place_odds_and_changes(build: Build) -> None:
    text = as_text.render(build("nodeport"))
    (line,) = [line for line in text.splitlines() if "nat KUBE-SERVICES" in line]
    assert "--dst-type LOCAL -j KUBE-NODEPORTS" in line
    assert line.endswith("iptables-save.txt:84")
    assert "comment" not in text
    assert "--probability 33.3%" in text
    assert "mark 0x0 → 0x4000" in text
    assert "dst 192.0.2.201:30000 → 10.244.1.5:80" in text
    assert "src 192.0.2.50 → 10.244.1.1" in text


def test_rules_without_effect_are_counted(build: Build) -> None:
    text = as_text.render(build("nodeport"))
    assert "KUBE-PROXY-FIREWALL" not in text
    assert "1 more rule matched without effect" in text


def test_a_hook_with_nothing_but_such_rules_is_one_line(build: Build) -> None:
    base = build("one endpoint")
    (way,) = base.trace.ways
    (hop,) = way.hops
    idle = tuple(step for step in hop.steps if step.action == "jump KUBE-PROXY-FIREWALL") * 2
    trace = replace(base.trace, ways=(replace(way, hops=(Hop("n1", None, None, idle),)),))
    assert "  forward      2 rules matched without effect" in as_text.render(Report(trace)).splitlines()


def test_a_crowd_is_one_sentence(build: Build) -> None:
    text = as_text.render(build("crowd"))
    assert len(text.splitlines()) < 80
    assert "delivered to one of 250 endpoints on n1, 1/250 (0.4%) each; they see 10.244.1.1" in words(text)
    assert "10.244.1.2:80" in text
    assert "and 226 more" in text
    assert "the same way to 249 more endpoints" in words(text)


@pytest.mark.parametrize("verdict", ["refused", "dropped", "unreachable"])
def test_what_does_not_arrive_says_why(build: Build, verdict: str) -> None:
    report = build(verdict)
    assert f"always {verdict}: {report.trace.outcomes[0].reason}" in words(as_text.render(report))


def test_what_is_not_known_says_so_and_what_is_missing(build: Build) -> None:
    text = as_text.render(build("unknown"))
    assert "\n  not known: no routes of n1\n" in text
    assert "always" not in text
    assert "Missing\n  - routes of n1: needed for the way after PREROUTING" in text


def test_questions_assumptions_and_alternatives(build: Build) -> None:
    text = words(as_text.render(build("forked")))
    assert "├─" not in text
    assert "if the list `seen` holds the source" in text
    assert "if the list `seen` does not hold the source: to 10.244.1.5:80" in text
    assert "[not known: the recent list seen]" in text
    assert "unknown odds not known: the recent list seen decides" in text
    assert "it sees an address that no dump tells, not the client [rests on an assumption]" in text
    assert "which source address it sees is not known" in text
    assert "192.0.2.9 stands for the client: no dump tells that address" in text
    assert "- the nft nat chains were registered last" in text
    assert "If instead the legacy nat chains were registered last always delivered" in text
    assert "does NOT come back as it has to: the endpoint answers the client directly" in text


def test_findings_are_sorted_by_severity(build: Build) -> None:
    base = build("one endpoint")
    found = tuple(Finding(f"NK{n}", s, s, (), "", n != 3) for n, s in ((1, "info"), (2, "warning"), (3, "error")))
    text = as_text.render(replace(base, findings=found))
    assert text.index("error NK3") < text.index("warning NK2") < text.index("info NK1")
    assert "error [not proven: rests on an assumption]" in text


def test_a_preserved_source(build: Build) -> None:
    base = build("one endpoint")
    src = base.trace.flow.packet.src
    (outcome,) = base.trace.outcomes
    trace = replace(base.trace, outcomes=(replace(outcome, source=src, preserved=True, rewrites=()),))
    assert "it sees the client's own address 192.0.2.50" in words(as_text.render(Report(trace)))


def test_ways_of_alternatives_are_not_the_answer(build: Build) -> None:
    base = build("nodeport").trace
    trace = replace(base, outcomes=(replace(base.outcomes[0], odds=Fraction(1)),))
    text = as_text.render(Report(trace))
    assert "10.244.1.6" not in text


def test_no_way_and_no_outcome(build: Build) -> None:
    base = build("one endpoint").trace
    empty: tuple[tuple[Way, ...], tuple[Outcome, ...]] = ((), ())
    trace: Trace = replace(base, ways=empty[0], outcomes=empty[1])
    text = as_text.render(Report(trace))
    assert "none: no way of the packet could be followed" in text
    assert "hop by hop" not in text


def test_forks_without_end_stay_within_the_page(build: Build) -> None:
    """Sixty forks, one within the other: no recursion, no runaway indentation."""
    base = build("one endpoint").trace
    (way,) = base.ways
    (hop,) = way.hops
    first, *rest = hop.steps
    steps = [replace(first, rule=f"-A PREROUTING -m mark --mark {n} -j C{n}", action=f"jump C{n}") for n in range(61)]
    ways = tuple(
        replace(way, hops=(replace(hop, steps=(*steps[:n], replace(first, rule=f"-A PREROUTING -j OUT{n}"), *rest)),),
                odds=Fraction(1, 60))
        for n in range(60)
    )  # fmt: skip
    (outcome,) = base.outcomes
    trace = replace(base, ways=ways, outcomes=(replace(outcome, ways=tuple(range(60))),))
    text = as_text.render(Report(trace))
    assert max(map(cells, text.splitlines())) <= 100
    assert "OUT59" in text


def test_legs_are_told_one_after_another(build: Build) -> None:
    text = as_text.render(build("legs"))
    heads = [line for line in text.splitlines() if line.startswith("Leg ")]
    assert heads == [
        "Leg 1 of 3: client to proxy",
        "Leg 2 of 3, after leg 1: proxy to pod",
        "Leg 3 of 3, after leg 1, besides: proxy to its own name server",
    ]
    answer = text[: text.index("Legs")]
    assert "1/2 (50%)  refused: proxy 10.244.1.6 has no route" in " ".join(answer.split("\n"))
    assert "10.244.2.9:80" in answer


def test_what_holds_for_every_leg_is_said_once(build: Build) -> None:
    report = build("legs")
    legs = tuple(
        replace(leg, trace=replace(leg.trace, assumptions=("the same sender", f"own of {number}")))
        for number, leg in enumerate(report.legs)
    )
    text = as_text.render(replace(report, legs=legs))
    assert [text.count(f"own of {number}") for number in range(3)] == [1, 1, 1]
    assert text.count("the same sender") == 1
    assert text.index("Taken for granted in every leg") < text.index("the same sender")
    assert text.count(report.notes[0]) == 1


def test_the_odds_of_a_leg_are_in_its_title(build: Build) -> None:
    report = build("legs")
    legs = (replace(report.legs[0], odds=Fraction(1, 2)), *report.legs[1:])
    assert "Leg 1 of 3, 1/2 (50%): client to proxy" in as_text.render(replace(report, legs=legs)).splitlines()
