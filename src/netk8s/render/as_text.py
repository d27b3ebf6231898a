"""The report for a person at a terminal of 100 columns: the answer, then how it comes about, then what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from msgspec.structs import replace

from netk8s.model import Finding, Flow, Outcome, Report, Trace
from netk8s.render._page import Page, cells
from netk8s.render._ways import put_ways
from netk8s.render._words import (
    address,
    chance,
    leg_title,
    listed,
    protocol,
    rewritten,
    seen,
    sender,
    sentence,
    stand_in,
)

NAME = "text"

_SEVERITY_STYLE = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}
_SEVERITIES = tuple(_SEVERITY_STYLE)

# More endpoints than this that differ in nothing but their address are told in one sentence.
_MANY = 8


def render(report: Report, *, color: bool = False, width: int = 100, ascii: bool = False) -> str:
    """The report within ``width`` columns. Rules without effect are counted, equal ways are told once."""
    return prose(report, Page(width, color=color, ascii=ascii), full=False)


def prose(report: Report, page: Page, *, full: bool) -> str:
    """The report on a page. ``full`` leaves nothing out and shows every rule as the dump has it."""
    _question(page, report.trace.flow)
    if report.legs:
        _whole(page, report, full)
    else:
        _part(page, report.trace, report.findings, report.notes, full)
    return page.text()


def _whole(page: Page, report: Report, full: bool) -> None:
    """The answer to a question that takes several packets, then each of them."""
    page.title("Answer")
    _outcomes(page, report.trace.flow, report.trace.outcomes, full)
    titles = [leg_title(report.legs, number) for number in range(len(report.legs))]
    page.title("Legs")
    page.bullets(titles)
    if report.notes:
        page.bullets(report.notes)
    shared = [
        text
        for text in report.legs[0].trace.assumptions
        if all(text in leg.trace.assumptions for leg in report.legs[1:])
    ]
    told = len(titles) if full or len(titles) <= _MANY else _MANY
    for title, leg in zip(titles[:told], report.legs[:told], strict=True):
        page.blank()
        page.put(title, style="bold")
        _question(page, leg.trace.flow)
        own = tuple(text for text in leg.trace.assumptions if text not in shared)
        notes = [note for note in leg.notes if note not in report.notes]
        _part(page, replace(leg.trace, assumptions=own), leg.findings, notes, full)
    if shared:
        page.title("Taken for granted in every leg, because no dump says it")
        page.bullets(shared)
    if told < len(titles):
        page.blank()
        page.put(f"{len(titles) - told} more legs in the same way: -o wide tells them")


def _part(page: Page, trace: Trace, findings: Sequence[Finding], notes: Sequence[str], full: bool) -> None:
    page.title("Answer")
    _outcomes(page, trace.flow, trace.outcomes, full)
    if notes:
        page.bullets(notes)
    # Ways of an alternative, where an assumption is false, are for who asks for everything.
    answer = {index for outcome in trace.outcomes for index in outcome.ways}
    chosen = [index for index, way in enumerate(trace.ways) if way.hops and (full or index in answer)]
    if chosen:
        page.title("Way of the packet, hop by hop")
        put_ways(page, trace.ways, chosen, full=full)
    page.title("Reply")
    _reply(page, trace)
    if findings:
        page.title("Findings")
        for finding in sorted(findings, key=lambda one: _SEVERITIES.index(one.severity)):
            _finding(page, finding)
    if trace.assumptions:
        page.title("Taken for granted, because no dump says it")
        page.bullets(trace.assumptions)
    if trace.missing:
        page.title("Missing")
        page.bullets(f"{gap.what}: needed for {gap.needed_for}" for gap in trace.missing)
    for other in trace.alternatives:
        page.title(f"If instead {other.condition}")
        _outcomes(page, trace.flow, other.outcomes, full)


def _reply(page: Page, trace: Trace) -> None:
    reply = trace.reply
    if reply.symmetric is None and reply.why and not any(one.verdict == "delivered" for one in trace.outcomes):
        page.put(reply.why, first="  ")  # nothing arrives, so that nothing comes back is no news
        return
    verdict = {True: "comes back", False: "does NOT come back as it has to", None: "not known"}[reply.symmetric]
    page.put(f"{verdict}: {reply.why}" if reply.why else verdict, first="  ", style="" if reply.symmetric else "yellow")


def _question(page: Page, flow: Flow) -> None:
    packet = flow.packet
    target = address(packet.dst, packet.dport)
    arrow = f"{protocol(packet)} {address(packet.src, packet.sport)} → {target}"
    page.put(arrow if flow.target == target else f"{flow.target}: {arrow}", style="bold")
    entry = f", in by {flow.iif}" if flow.iif else ""
    page.put(f"from {sender(flow)}, starting on {flow.node}{entry}", first="  ")
    for ip, _ in flow.stand_ins:
        page.put(f"{ip} stands for {stand_in(flow, ip)}: no dump tells that address", first="  ")


# ---------------------------------------------------------------- the answer


def _outcomes(page: Page, flow: Flow, outcomes: Sequence[Outcome], full: bool) -> None:
    if not outcomes:
        page.put("none: no way of the packet could be followed", first="  ")
        return
    groups = list(_groups(outcomes, full))
    odds = [page.clean(_share(group)) for group in groups]
    if len(groups) == 1 and (outcomes[0].odds is None or outcomes[0].verdict == "unknown"):
        odds = [""]  # one answer and nothing to compare it with
    column = max(map(cells, odds))
    # Where every outcome rests on them, the assumptions that are listed below speak for themselves.
    doubt = "" if all(outcome.assumed for outcome in outcomes) else " [rests on an assumption]"
    for text, group in zip(odds, groups, strict=True):
        lead = f"  {text}{' ' * (column - cells(text))}  " if column else "  "
        hang = " " * cells(lead)
        first = group[0]
        style = {"delivered": "green", "unknown": "yellow"}.get(first.verdict, "red")
        if len(group) == 1:
            page.put(sentence(flow, first) + (doubt if first.assumed else ""), first=lead, style=style, lead="bold")
        else:
            node = f" on {first.reached.node}" if first.reached and first.reached.node else ""
            each = f", {chance(first.odds)} each" if first.odds is not None else ""
            words = f"delivered to one of {len(group)} endpoints{node}{each}; {seen(flow, first, 'they see')}"
            page.put(words, first=lead, style=style, lead="bold")
            ends = [address(one.reached.ip, one.reached.port) for one in group if one.reached]
            page.put(listed(ends, None if full else 24), first=hang)
    if any(outcome.first_odds is not None for outcome in outcomes):
        words = (
            "the odds are those of a client that the node does not remember; one that it remembers (session affinity) "
            "stays where it is"
        )
        page.put(words, first="  ", rest="    ")
    # Endpoints of one node are mostly rewritten by the same rule to the same address: said once.
    told = {(one.node, one.at, one.rule, one.after): one for outcome in reversed(outcomes) for one in outcome.rewrites}
    for rewrite in reversed(told.values()):
        page.put(rewritten(rewrite), first="  ", rest="    ")


def _share(group: Sequence[Outcome]) -> str:
    first = [outcome.first_odds for outcome in group if outcome.first_odds is not None]
    if len(first) == len(group):
        return f"{chance(sum(first, Fraction(0)))} at first"
    return chance(_sum(group))


def _sum(group: Sequence[Outcome]) -> Fraction | None:
    known = [outcome.odds for outcome in group if outcome.odds is not None]
    return sum(known, Fraction(0)) if len(known) == len(group) else None


def _groups(outcomes: Sequence[Outcome], full: bool) -> Iterator[list[Outcome]]:
    """Outcomes one by one, but a crowd that differs in nothing except the endpoint's address together."""
    alike: dict[object, list[Outcome]] = {}
    for number, outcome in enumerate(outcomes):
        key: object = number
        if outcome.verdict == "delivered" and outcome.reached and not full:
            same = (outcome.odds, outcome.reached.node, outcome.source, outcome.preserved, outcome.assumed)
            key = (same, tuple((one.node, one.chain, one.after) for one in outcome.rewrites))
        alike.setdefault(key, []).append(outcome)
    for group in alike.values():
        if len(group) > _MANY:
            yield group
        else:
            yield from ([outcome] for outcome in group)


def _finding(page: Page, finding: Finding) -> None:
    lead = f"  {finding.severity} {finding.code}  "
    unproven = "" if finding.proven else " [not proven: rests on an assumption]"
    page.put(
        " ".join(finding.summary.split()) + unproven, first=lead, rest="    ", lead=_SEVERITY_STYLE[finding.severity]
    )
    if finding.evidence:
        page.put(listed(finding.evidence, None), first="    seen at:    ")
    if finding.remedy:
        page.put(" ".join(finding.remedy.split()), first="    what to do: ")
