"""The JSON document of ``netk8s check``, as types."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta

from netk8s.checkup import Asked, Checkup, Exceptional, Line, lines
from netk8s.problems import Problem
from netk8s.render.compared import Outcome, Reason, outcomes, reason, words
from netk8s.render.document import Missing, Port, Severity, missing, protocol_name, utf8

SCHEMA: Literal["netk8s.dev/check/v1"] = "netk8s.dev/check/v1"

Words = Annotated[list[str], Meta(description="The words for netk8s trace")]
Count = Annotated[int, Meta(ge=0)]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked and what came of it."""

    nodes: list[str]
    service_ports: Count
    flows: Count
    arrive: Count
    fail: Annotated[int, Meta(description="Flows that do not arrive, or not always", ge=0)]
    unknown: Count
    errors: Annotated[int, Meta(description="Findings of severity error", ge=0)]
    warnings: Count
    infos: Count


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding, with the Services and nodes that it was made of. ``netk8s explain CODE`` prints its manual."""

    code: Annotated[str, Meta(pattern="^NK[0-9]{3}$")]
    severity: Severity
    summary: str
    services: list[str]
    nodes: list[str]
    flows: Annotated[int, Meta(description="Flows that show it; 0: it was found without a packet", ge=0)]
    evidence: list[str]
    remedy: str
    proven: Annotated[bool, Meta(description="False: it rests on an assumption")]
    ask: Words | None


class Dialled(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of address, with the clients that dialled it."""

    kind: str
    clients: list[str]


class Exceptions(msgspec.Struct, frozen=True, kw_only=True):
    """Flows of a Service port that fail alike."""

    what: str
    codes: list[str]
    dialled: list[Dialled]
    nodes: list[str]
    flows: Count
    ask: Words


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """An address that can be dialled; a null ip is a NodePort or hostPort, at the nodes' own addresses."""

    kind: str
    ip: str | None
    port: Port


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A Service port, or a pod's hostPort (pod/NAMESPACE/NAME)."""

    service: str
    port_name: str
    protocol: str
    addresses: list[Address]
    endpoints: Count
    flows: Count
    arrive: Count
    client_address: Annotated[
        Literal["kept", "changed", "both"] | None,
        Meta(description="How endpoints see clients outside, at NodePorts, load balancers and the like"),
    ]
    exceptions: list[Exceptions]


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One flow. ``findings`` are places in the list of findings."""

    service: str
    port_name: str
    protocol: str
    dialled: str
    client: str
    entry_node: str | None
    sender_node: str | None
    ask: Words
    outcomes: list[Outcome]
    because: Reason | None
    findings: list[Annotated[int, Meta(ge=0)]]


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was asked of a cluster, and what is worth telling."""

    schema: Literal["netk8s.dev/check/v1"] = SCHEMA
    summary: Summary
    findings: list[Finding]
    services: list[Service]
    flows: list[Flow]
    stands_for: Annotated[dict[str, list[str]], Meta(description="Nodes asked, with those alike that were not")]
    notes: list[str]
    missing: list[Missing]


def checked(found: Checkup) -> Checked:
    """The document of ``netk8s check -o json``."""
    return Checked(
        summary=summary(found),
        findings=[finding(problem) for problem in found.problems],
        services=[_service(line) for line in lines(found)],
        flows=[_flow(each) for each in found.asked],
        stands_for={utf8(node): [utf8(name) for name in names] for node, names in found.stands_for},
        notes=[utf8(note) for note in found.notes],
        missing=missing(found.missing),
    )


def summary(found: Checkup) -> Summary:
    """The counts."""
    severities = [problem.finding.severity for problem in found.problems]
    return Summary(
        nodes=[utf8(name) for name in found.nodes], service_ports=len(found.ports), flows=found.flows,
        arrive=found.count("arrives"), fail=found.count("fails"), unknown=found.count("unknown"),
        errors=severities.count("error"), warnings=severities.count("warning"), infos=severities.count("info"),
    )  # fmt: skip


def finding(problem: Problem) -> Finding:
    """A finding of the document."""
    one = problem.finding
    return Finding(
        code=one.code, severity=cast(Severity, one.severity), summary=utf8(one.summary),
        services=[utf8(name) for name in problem.services], nodes=[utf8(name) for name in problem.nodes],
        flows=problem.flows, evidence=[utf8(place) for place in one.evidence], remedy=utf8(one.remedy),
        proven=one.proven, ask=None if problem.example is None else words(problem.example),
    )  # fmt: skip


def _service(line: Line) -> Service:
    port = line.port
    return Service(
        service=utf8(port.service), port_name=utf8(port.name), protocol=protocol_name(port.protocol),
        addresses=[
            Address(kind=d.kind, ip=None if d.ip is None else str(d.ip), port=d.port) for d in port.dialled
        ],
        endpoints=len(port.endpoints), flows=line.asked, arrive=line.arrive,
        client_address=cast(Literal["kept", "changed", "both"], line.outside) if line.outside else None,
        exceptions=[_exception(each) for each in line.exceptions],
    )  # fmt: skip


def _exception(each: Exceptional) -> Exceptions:
    return Exceptions(
        what=each.what, codes=list(each.codes),
        dialled=[Dialled(kind=utf8(kind), clients=list(clients)) for kind, clients in each.dialled],
        nodes=[utf8(name) for name in each.nodes], flows=each.flows, ask=words(each.example),
    )  # fmt: skip


def _flow(each: Asked) -> Flow:
    q = each.question
    return Flow(
        service=utf8(q.port.service), port_name=utf8(q.port.name), protocol=protocol_name(q.port.protocol),
        dialled=utf8(q.kind), client=q.who, entry_node=None if q.at is None else utf8(q.at.node),
        sender_node=None if q.sender is None else utf8(q.sender.node), ask=words(q), outcomes=outcomes(each.answer),
        because=reason(each.answer.because[0]) if each.answer.because else None, findings=list(each.problems),
    )  # fmt: skip
