"""The JSON document of ``netk8s trace``, as types: the contract's fields, nesting and words.

Two rules keep it honest: a value nobody knows is ``null``, never a default, and every field is always there, save
``notes`` and ``legs``, in which most answers have nothing to say. The JSON Schema is generated from these types, so it
cannot drift from what is printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from netk8s import model

SCHEMA: Literal["netk8s.dev/trace/v1"] = "netk8s.dev/trace/v1"

Verdict = Literal["delivered", "refused", "dropped", "unreachable", "unknown"]
Severity = Literal["error", "warning", "info"]

FileLine = Annotated[str, Meta(description="Where it stands in the input, as file:line", examples=["iptables-save:98"])]
OddsExact = Annotated[str, Meta(description="A fraction, or a whole number", pattern=r"^[0-9]+(/[0-9]+)?$")]
Odds = Annotated[float, Meta(description="The same odds, rounded to six places", ge=0, le=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """The packet as it is dialled. A null sport is any ephemeral port."""

    protocol: Annotated[str, Meta(description="tcp, udp, sctp, …, or the protocol's number")]
    src: str
    sport: Port | None
    dst: str
    dport: Port | None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, with every word resolved."""

    target: str
    source: Annotated[str, Meta(description="client, pod/NAMESPACE/NAME, node/NAME or an address")]
    entry_node: Annotated[str, Meta(description="The node where the walk starts")]
    packet: Packet


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the packet was delivered."""

    ip: str
    port: Port | None
    pod: Annotated[str, Meta(description="NAMESPACE/NAME")] | None
    node: str | None


class Rewrite(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that replaced the source address."""

    node: str
    rule: str | None
    at: FileLine | None
    address_because: Annotated[str, Meta(description="Why it became this address and no other")]


class SourceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The source address that the endpoint sees. A null ip is an address that no dump tells."""

    ip: str | None
    preserved: Annotated[bool | None, Meta(description="Whether it is still the sender's own; null: not known")]
    rewritten_by: list[Rewrite]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Paths with the same verdict, endpoint and source seen. The odds of all outcomes add up to 1, unknowns apart."""

    verdict: Verdict
    odds: Odds | None
    odds_exact: OddsExact | None
    endpoint: Endpoint | None
    source_seen: SourceSeen | None
    reason: Annotated[str, Meta(description="Why, for everything but delivered")]
    paths: Annotated[list[int], Meta(description="Indexes into the document's paths")]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that matched, or, where rule is null, one decision of routing, a device or delivery."""

    hook: str
    table: str
    chain: str
    rule: Annotated[str, Meta(description="The rule as the dump has it, without counters")] | None
    at: FileLine | None
    action: str
    odds_exact: OddsExact
    changes: Annotated[dict[str, str], Meta(description="What the step changed of the packet")]
    means: Annotated[str, Meta(description="What the chain or rule is for, in Kubernetes' terms")]
    assumed: Annotated[bool, Meta(description="The step rests on an assumption")]


class OtherStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the other iptables backend, where a node has rules in both."""

    after: Annotated[int, Meta(description="How many of the hop's steps the packet has passed before it", ge=0)]
    backend: Annotated[str, Meta(description="legacy, nft, or unknown where no dump tells")]
    step: Step


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """The packet's way through one node.

    A kernel's trace lists the rules of one iptables backend: xtables-monitor those of nft, the TRACE target those of
    legacy. So ``steps`` has those of the backend that translates the packet, else of the one that is asked first.
    """

    node: str
    in_: str | None = msgspec.field(name="in")
    out: str | None
    steps: list[Step]
    other_backend: Annotated[list[OtherStep], Meta(description="Rules of the other backend that matched too")]


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """One complete way of the packet."""

    odds_exact: OddsExact
    hops: list[Hop]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The way back: whether it undoes every translation. A null symmetric: not known."""

    symmetric: bool | None
    why: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing worth telling; ``netk8s explain CODE`` prints its manual."""

    code: Annotated[str, Meta(pattern="^NK[0-9]{3}$")]
    severity: Severity
    summary: str
    evidence: list[str]
    remedy: str
    proven: Annotated[bool, Meta(description="False: it rests on an assumption")]


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer would be were an assumption false."""

    if_: str = msgspec.field(name="if")
    outcomes: list[Outcome]


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """Something an answer needed and no dump holds."""

    what: str
    needed_for: str


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One packet of a question that takes several. ``document`` is the answer for it alone."""

    name: str
    after: Annotated[list[int] | None, Meta(description="Index of the leg, and of its outcome, that it goes on from")]
    odds: Annotated[Odds | None, Meta(description="Among the legs after the same outcome; null: nothing tells them")]
    odds_exact: OddsExact | None
    besides: Annotated[bool, Meta(description="Asked too, and no part of the outcomes of the whole")]
    document: Document


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of netk8s trace: who gets the packet with which odds, who changed it, and what is not known."""

    schema: Literal["netk8s.dev/trace/v1"] = SCHEMA
    question: Question
    outcomes: list[Outcome]
    paths: list[Path]
    reply: Reply
    findings: list[Finding]
    assumptions: Annotated[list[str], Meta(description="Everything taken for granted because no dump says it")]
    alternatives: list[Alternative]
    missing: list[Missing]
    notes: (
        Annotated[list[str], Meta(description="What is known of what was asked and no packet shows; absent: nothing")]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    legs: (
        Annotated[
            list[Leg],
            Meta(
                description="The packets of a question that takes several: outcomes are then those of the whole, and the "
                "paths are in the legs. Absent: one packet"
            ),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


def document(report: model.Report) -> Document:
    """The report as the contract's document."""
    trace = report.trace
    flow = trace.flow
    # Ways share most of their steps; one Struct per distinct step keeps a thousand endpoints cheap.
    step = lru_cache(maxsize=None)(_step)
    return Document(
        question=Question(
            target=utf8(flow.target),
            source=utf8(flow.source),
            entry_node=utf8(flow.node),
            packet=_packet(flow.packet),
        ),
        outcomes=[_outcome(outcome) for outcome in trace.outcomes],
        paths=[
            Path(
                odds_exact=str(way.odds),
                hops=[_hop(hop, step) for hop in way.hops],
            )
            for way in trace.ways
        ],
        reply=Reply(symmetric=trace.reply.symmetric, why=utf8(trace.reply.why)),
        findings=[
            Finding(
                code=finding.code,
                severity=cast(Severity, finding.severity),
                summary=utf8(finding.summary),
                evidence=[utf8(place) for place in finding.evidence],
                remedy=utf8(finding.remedy),
                proven=finding.proven,
            )
            for finding in report.findings
        ],
        assumptions=[utf8(text) for text in trace.assumptions],
        alternatives=[
            Alternative(if_=utf8(other.condition), outcomes=[_outcome(outcome) for outcome in other.outcomes])
            for other in trace.alternatives
        ],
        missing=missing(trace.missing),
        notes=[utf8(note) for note in report.notes] or msgspec.UNSET,
        legs=[_leg(leg) for leg in report.legs] or msgspec.UNSET,
    )


def _leg(leg: model.Leg) -> Leg:
    return Leg(
        name=utf8(leg.name),
        after=None if leg.after is None else list(leg.after),
        odds=odds(leg.odds),
        odds_exact=None if leg.odds is None else str(leg.odds),
        besides=leg.besides,
        document=document(model.Report(leg.trace, leg.findings, leg.notes)),
    )


def missing(gaps: Iterable[model.Missing]) -> list[Missing]:
    """What no dump holds, as the documents have it."""
    return [Missing(what=utf8(gap.what), needed_for=utf8(gap.needed_for)) for gap in gaps]


def odds(value: Fraction | None) -> float | None:
    """Odds as the documents have them: a float of six places, None where they are not known."""
    return None if value is None else round(float(value), 6)


def utf8(text: str) -> str:
    r"""Text that UTF-8 can hold: bytes of a dump that were not UTF-8 (kept as lone surrogates) become ``\xff``."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, from a JSON string's \\ud800
        return text.encode("utf-8", "backslashreplace").decode()


def protocol_name(number: int) -> str:
    """The protocol's name as iptables prints it, or its number."""
    return model.PROTOCOL_NAMES.get(number, str(number))


def json_schema(kind: type = Document) -> dict[str, Any]:
    """The JSON Schema of a document type."""
    (outer,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own = outer["$ref"]
    definitions: dict[str, Any] = {name: _strict(_rooted(shape, own)) for name, shape in components.items()}
    top = definitions.pop(kind.__name__)
    identity = top["properties"]["schema"]["enum"][0]
    top["required"] = [f.encode_name for f in msgspec.structs.fields(kind) if f.default is not msgspec.UNSET]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **top,
        "title": f"netk8s {identity.split('/')[1]}, {identity}",
        "$defs": definitions,
    }


def _rooted(shape: Any, own: str) -> Any:
    """The shape with references to the document's own type as such: it is the schema's root and no definition."""
    if isinstance(shape, dict):
        return {key: "#" if key == "$ref" and value == own else _rooted(value, own) for key, value in shape.items()}
    return [_rooted(each, own) for each in shape] if isinstance(shape, list) else shape


def _strict(shape: Any) -> Any:
    """A reader may rely on every field being there and on no other."""
    if shape.get("type") == "object" and "properties" in shape:
        shape["additionalProperties"] = False
        # A docstring is wrapped for the source; a description is one line.
        shape["description"] = re.sub(r"\s+", " ", shape.get("description", "")).strip()
    return shape


def _packet(packet: model.Packet) -> Packet:
    return Packet(
        protocol=protocol_name(packet.protocol),
        src=str(packet.src),
        sport=packet.sport,
        dst=str(packet.dst),
        dport=packet.dport,
    )


def _outcome(outcome: model.Outcome) -> Outcome:
    reached = outcome.reached
    return Outcome(
        verdict=cast(Verdict, outcome.verdict),
        odds=odds(outcome.odds),
        odds_exact=None if outcome.odds is None else str(outcome.odds),
        endpoint=None
        if reached is None
        else Endpoint(
            ip=str(reached.ip),
            port=reached.port,
            pod=_utf8_or_none(reached.pod),
            node=_utf8_or_none(reached.node),
        ),
        source_seen=None
        if outcome.verdict != "delivered"
        else SourceSeen(
            ip=None if outcome.source is None else str(outcome.source),
            preserved=outcome.preserved,
            rewritten_by=[
                Rewrite(
                    node=utf8(rewrite.node),
                    rule=_utf8_or_none(rewrite.rule),
                    at=_at(rewrite.at),
                    address_because=utf8(rewrite.because),
                )
                for rewrite in outcome.rewrites
            ],
        ),
        reason=utf8(outcome.reason),
        paths=list(outcome.ways),
    )


def _hop(hop: model.Hop, step: Callable[[model.Step], Step]) -> Hop:
    leading = _leading_backend(hop)
    own: list[Step] = []
    others: list[OtherStep] = []
    for one in hop.steps:
        if leading and one.backend and one.backend != leading:
            others.append(OtherStep(after=len(own), backend=one.backend, step=step(one)))
        else:
            own.append(step(one))
    return Hop(
        node=utf8(hop.node),
        in_=_utf8_or_none(hop.iif),
        out=_utf8_or_none(hop.oif),
        steps=own,
        other_backend=others,
    )


def _leading_backend(hop: model.Hop) -> str:
    """The iptables backend that translates the packet, else the first that has a rule for it."""
    named = [one for one in hop.steps if one.backend]
    translating = (one for one in named if any(name == "dst" for name, _ in one.changes))
    found = next(translating, named[0] if named else None)
    return found.backend if found is not None else ""


def _step(step: model.Step) -> Step:
    return Step(
        hook=step.hook,
        table=utf8(step.table),
        chain=utf8(step.chain),
        rule=_utf8_or_none(step.rule),
        at=_at(step.at),
        action=utf8(step.action),
        odds_exact=str(step.odds),
        changes={name: utf8(change) for name, change in step.changes},
        means=utf8(step.means),
        assumed=step.assumed,
    )


def _at(at: model.At | None) -> str | None:
    return None if at is None else utf8(str(at))


def _utf8_or_none(text: str | None) -> str | None:
    return None if text is None else utf8(text)
