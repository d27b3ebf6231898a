"""What ``netk8s compare`` prints: the flows in which two snapshots differ, as text and as a document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from netk8s.comparison import Comparison, Row
from netk8s.render._page import Page, cells
from netk8s.render.document import FileLine, Odds, OddsExact, Port, Verdict, odds, protocol_name, utf8
from netk8s.survey import Answer, Because, Question, Result

SCHEMA: Literal["netk8s.dev/compare/v1"] = "netk8s.dev/compare/v1"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome of a flow. Null odds: not known, or the node may remember the client (sticky)."""

    verdict: Verdict
    odds: Odds | None
    odds_exact: OddsExact | None
    sticky: Annotated[bool, Meta(description="The odds are those of a client that the node does not remember")]
    ip: str | None
    port: Port | None
    pod: Annotated[str, Meta(description="NAMESPACE/NAME")] | None
    node: str | None
    source_seen: str | None
    source_is: Annotated[str, Meta(description="kept, or whose address it is")] | None


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why it came out so: in words, and the rule or setting that decided."""

    text: str
    rule: str | None
    at: FileLine | None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of all these flows in one snapshot, and why it does of the first of them."""

    what: str
    because: Reason | None


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One flow that differs. ``ask`` are the words for netk8s trace."""

    service: str
    port_name: str
    protocol: str
    dialled: str
    client: str
    ask: Annotated[list[str], Meta(description="The words for netk8s trace")]
    entry_node: str | None
    sender_node: str | None
    stands_for: Annotated[list[str], Meta(description="Nodes that are alike and were not asked")]
    a: list[Outcome]
    b: list[Outcome]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Flows that differ alike."""

    kind: Literal["outcome", "endpoints", "odds", "affinity", "source seen"]
    dialled: str
    clients: list[str]
    services: list[str]
    a: Side
    b: Side
    flows: list[Flow]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """How two snapshots of one cluster differ, in flows and not in rules."""

    schema: Literal["netk8s.dev/compare/v1"] = SCHEMA
    a: str
    b: str
    asked: Annotated[int, Meta(description="Flows asked of each", ge=0)]
    differ: Annotated[int, Meta(description="Flows that differ", ge=0)]
    unknown: Annotated[int, Meta(description="Flows of which one side does not tell the answer", ge=0)]
    differences: list[Difference]
    only_a: Annotated[list[str], Meta(description="What only A has; it was not compared")]
    only_b: list[str]
    stands_for: Annotated[dict[str, list[str]], Meta(description="Nodes asked, with those alike that were not")]


def compared(found: Comparison, a: str, b: str) -> Compared:
    """The document of ``netk8s compare -o json``. ``a`` and ``b`` are the snapshots' names."""
    return Compared(
        a=utf8(a), b=utf8(b), asked=found.asked, differ=len(found.flows), unknown=found.unknown,
        differences=[difference(row) for row in found.rows],
        only_a=[utf8(text) for text in found.only_a], only_b=[utf8(text) for text in found.only_b],
        stands_for={utf8(node): [utf8(name) for name in names] for node, names in found.stands_for},
    )  # fmt: skip


def as_json(found: Comparison, a: str, b: str) -> str:
    """The document, indented."""
    return msgspec.json.format(msgspec.json.encode(compared(found, a, b)), indent=1).decode() + "\n"


def as_yaml(found: Comparison, a: str, b: str) -> str:
    """The same document in YAML."""
    import yaml  # 40 ms that only this format has to pay

    return str(
        yaml.safe_dump(msgspec.to_builtins(compared(found, a, b)), sort_keys=False, allow_unicode=True, width=100)
    )


def difference(row: Row) -> Difference:
    """A row of the document."""
    return Difference(
        kind=row.kind,  # type: ignore[arg-type]
        dialled=utf8(row.dialled), clients=list(row.clients), services=[utf8(name) for name in row.services],
        a=Side(what=utf8(row.a), because=reason(row.because_a)), b=Side(what=utf8(row.b), because=reason(row.because_b)),
        flows=[_flow(each.question, each.a, each.b) for each in row.flows],
    )  # fmt: skip


def reason(because: Because | None) -> Reason | None:
    """Why, None where nothing is said."""
    if because is None:
        return None
    return Reason(text=utf8(because.text), rule=utf8(because.rule) or None, at=utf8(because.at) or None)


def _flow(question: Question, a: Answer, b: Answer) -> Flow:
    stops = [stop for stop in (question.at, question.sender) if stop is not None]
    return Flow(
        service=utf8(question.port.service), port_name=utf8(question.port.name),
        protocol=protocol_name(question.port.protocol), dialled=utf8(question.kind), client=question.who,
        ask=words(question), entry_node=None if question.at is None else utf8(question.at.node),
        sender_node=None if question.sender is None else utf8(question.sender.node),
        stands_for=sorted({utf8(name) for stop in stops for name in stop.stands_for}),
        a=outcomes(a), b=outcomes(b),
    )  # fmt: skip


def words(question: Question) -> list[str]:
    """The question as words of ``netk8s trace``."""
    ask = question.ask
    out = [utf8(ask.target), "--from", utf8(ask.source or "client")]
    for name, value in (("--protocol", ask.protocol), ("--via", ask.via), ("--node", ask.node)):
        out += [name, utf8(value)] if value else []
    return out


def outcomes(found: Answer) -> list[Outcome]:
    """The outcomes of an answer."""
    return [_outcome(result) for result in found.results]


def _outcome(result: Result) -> Outcome:
    return Outcome(
        verdict=result.verdict,  # type: ignore[arg-type]
        odds=odds(result.odds), odds_exact=None if result.odds is None else str(result.odds), sticky=result.sticky,
        ip=None if result.ip is None else str(result.ip), port=result.port,
        pod=None if result.pod is None else utf8(result.pod), node=None if result.node is None else utf8(result.node),
        source_seen=None if result.source is None else str(result.source), source_is=result.seen or None,
    )  # fmt: skip


# ---------------------------------------------------------------- text

MOST_SERVICES = 6


def as_text(found: Comparison, a: str, b: str, *, width: int = 100, ascii: bool = False) -> str:
    """One line per difference, then each with its flows and why."""
    page = Page(width, ascii=ascii)
    page.put(a, first="A  ")
    page.put(b, first="B  ")
    summed(page, found)
    explained(page, found)
    return page.text().rstrip("\n") + "\n"


def summed(page: Page, found: Comparison) -> None:
    """How many flows differ, and a line for each kind of difference."""
    page.put(_total(found))
    if found.rows:
        page.blank()
        table(page, found.rows)


def explained(page: Page, found: Comparison) -> None:
    """Each difference with its flows and why, and what was not asked."""
    for number, row in enumerate(found.rows, 1):
        _explained(page, number, row)
    page.blank()
    for name, only in (("A", found.only_a), ("B", found.only_b)):
        if only:
            page.put(f"only {name} has: {several(only)}")
    if found.stands_for:
        alike = "; ".join(f"{node} for {', '.join(names)}" for node, names in found.stands_for)
        page.put(f"Where nodes are alike for a Service, one was asked for all: {alike}.")


def _total(found: Comparison) -> str:
    asked = f"{found.asked} flows asked of each"
    unknown = f"; of {found.unknown} one of them does not tell the answer" if found.unknown else ""
    if not found.flows:
        return f"{asked}: none differs{unknown}"
    return f"{asked}, {len(found.flows)} differ{'s' if len(found.flows) == 1 else ''}{unknown}"


def table(page: Page, rows: Iterable[Row]) -> None:
    """A line for each kind of difference."""
    lines = [("", "FLOWS", "WHAT", "DIALLED", "A", "B")]
    for number, row in enumerate(rows, 1):
        lines.append((str(number), str(row.number), row.kind, row.dialled, row.a, row.b))
    lines = [tuple(page.clean(cell) for cell in line) for line in lines]  # type: ignore[misc]
    widths = [max(cells(line[i]) for line in lines) for i in range(6)]
    # The last three share what is left.
    room = page.width - sum(widths[:3]) - 5 * 2
    widths[3:] = _shared(widths[3:], room)
    for line in lines:
        texts = [_cut(cell, size) for cell, size in zip(line, widths, strict=True)]
        page.raw("  ".join(text + " " * (size - cells(text)) for text, size in zip(texts, widths, strict=True)))


def _shared(wanted: list[int], room: int) -> list[int]:
    """Widths within ``room``: who wants less than a fair share gets it, the others share the rest."""
    out, left = list(wanted), room
    for number, index in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        out[index] = min(wanted[index], max(left // (len(wanted) - number), 8))
        left -= out[index]
    return out


def _cut(text: str, size: int) -> str:
    return text if cells(text) <= size else text[: max(size - 2, 1)] + ".."


def _explained(page: Page, number: int, row: Row) -> None:
    page.title(
        f"{number}. {row.dialled}: {row.kind} differs in {len(row.flows)} flow{'s' if len(row.flows) != 1 else ''}"
    )
    page.put(", ".join(clients(row.clients)), first="   from      ")
    page.put(several(row.services), first="   services  ")
    for name, what, because in (("A", row.a, row.because_a), ("B", row.b, row.because_b)):
        page.put(
            what + (f": {because.text}" if because is not None and because.text else ""), first=f"   {name}         "
        )
        if because is not None and (because.rule or because.at):
            place = f"({because.at})" if because.at else ""
            page.put(" ".join(word for word in (because.rule, place) if word), first=" " * 13)
    question = row.flows[0].question
    page.put(f"netk8s trace {' '.join(words(question))} --dump A", first="   e.g.      ")


def clients(found: Iterable[str]) -> list[str]:
    """Kinds of clients, without saying whether an endpoint is there where both kinds are meant."""
    found = list(found)
    out: list[str] = []
    for each in found:
        base = each.split(" (")[0].split(" through a node")[0]
        variants = [other for other in found if other.split(" (")[0].split(" through a node")[0] == base]
        out.append(base if len(variants) > 1 else each)
    return list(dict.fromkeys(out))


def several(names: Iterable[str], most: int = MOST_SERVICES) -> str:
    """Some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


__all__ = [
    "Compared",
    "as_json",
    "as_text",
    "as_yaml",
    "clients",
    "compared",
    "difference",
    "explained",
    "outcomes",
    "reason",
    "several",
    "summed",
    "table",
    "words",
]
