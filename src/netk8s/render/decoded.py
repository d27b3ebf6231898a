"""What ``netk8s decode`` prints: the services that a node's rules program, as a table and as a document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from netk8s import model
from netk8s.render._page import printable
from netk8s.render._words import address, percent
from netk8s.render.document import FileLine, Missing, Odds, OddsExact, Port, missing, odds, protocol_name, utf8

SCHEMA: Literal["netk8s.dev/decode/v1"] = "netk8s.dev/decode/v1"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of a service port. Null odds: the rules do not say."""

    ip: str
    port: Port | None
    odds: Odds | None
    odds_exact: OddsExact | None
    chain: str
    pod: Annotated[str, Meta(description="NAMESPACE/NAME")] | None
    at: FileLine


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One way to dial a service port, as the rules of one node have it."""

    node: str
    service: Annotated[str, Meta(description="NAMESPACE/NAME; empty where neither comments nor objects tell it")]
    port_name: str
    protocol: str
    kind: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalIP"]
    ip: Annotated[str, Meta(description="The address that is dialled; null: any address of the node")] | None
    port: Port
    chain: str
    verdict: Annotated[str, Meta(description="REJECT or DROP where no endpoint is usable, else empty")]
    affinity: bool
    endpoints: list[Endpoint]
    at: FileLine


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """The services that the dumps' rules program, node by node."""

    schema: Literal["netk8s.dev/decode/v1"] = SCHEMA
    nodes: list[str]
    services: list[Service]
    notes: Annotated[list[str], Meta(description="What was inferred while decoding")]
    missing: list[Missing]


def decoded(world: model.World, programmed: Iterable[model.Programmed]) -> Decoded:
    """The document of ``netk8s decode -o json``."""
    return Decoded(
        nodes=[utf8(name) for name in world.nodes],
        services=[_service(one) for one in programmed],
        notes=[utf8(note) for note in world.notes],
        missing=missing(world.missing),
    )


def as_json(world: model.World, programmed: Iterable[model.Programmed]) -> str:
    """The document, indented."""
    return msgspec.json.format(msgspec.json.encode(decoded(world, programmed)), indent=1).decode() + "\n"


def as_table(world: model.World, programmed: Sequence[model.Programmed], *, ascii: bool = False) -> str:
    """One table per node: a row per endpoint, the service named in its first."""
    from tabulate import tabulate

    out: list[str] = []
    for node in dict.fromkeys([*world.nodes, *(one.node for one in programmed)]):
        rows: list[list[str]] = []
        here = [one for one in programmed if one.node == node]
        files = {one.at.origin for one in here} | {end.at.origin for one in here for end in one.backends}
        # One file is named above the table, so that the rows need only the line.
        single = files.pop() if len(files) == 1 else None
        for one in here:
            rows += _rows(one, single)
        title = f"{node}: {_count(len({one.service for one in here}), 'service')}, {_count(len(here), 'way')} to dial"
        if single:
            title += f", from {single}"
        out.append(printable(title, ascii))
        if rows:
            cells = [[printable(cell, ascii) for cell in row] for row in rows]
            head = ["SERVICE", "KIND", "DIAL", "CHAIN", "ODDS", "ENDPOINT", "POD", "LINE" if single else "AT"]
            out.append(tabulate(cells, headers=head, tablefmt="plain", disable_numparse=True))
        out.append("")
    out += [printable(f"note: {note}", ascii) for note in world.notes]
    out += [printable(f"missing: {gap.what}: needed for {gap.needed_for}", ascii) for gap in world.missing]
    return "\n".join(line.rstrip() for line in "\n".join(out).splitlines()).rstrip() + "\n"


def _rows(one: model.Programmed, single: str | None) -> list[list[str]]:
    name = one.service or "?"
    if one.port_name:
        name += f":{one.port_name}"
    dialled = address(one.ip, one.port) if one.ip else f"*:{one.port}"
    sticky = ", sticky" if one.affinity else ""
    head = [name, one.kind + sticky, f"{dialled}/{protocol_name(one.protocol)}"]
    rows = []
    for end in one.backends:
        chance = "?" if end.odds is None else percent(end.odds)
        rows.append([end.chain, chance, address(end.ip, end.port), end.pod or "", _line(end.at, single)])
    # The service's own chain and line have a row only where there is no endpoint to show.
    rows = rows or [[one.chain, "", one.verdict or "no endpoints", "", _line(one.at, single)]]
    return [[*(head if number == 0 else ["", "", ""]), *row] for number, row in enumerate(rows)]


def _line(at: model.At, single: str | None) -> str:
    return str(at.line) if single and at.line else str(at)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _service(one: model.Programmed) -> Service:
    return Service(
        node=utf8(one.node),
        service=utf8(one.service),
        port_name=utf8(one.port_name),
        protocol=protocol_name(one.protocol),
        kind=one.kind,  # type: ignore[arg-type]
        ip=None if one.ip is None else str(one.ip),
        port=one.port,
        chain=utf8(one.chain),
        verdict=one.verdict,
        affinity=one.affinity,
        endpoints=[
            Endpoint(
                ip=str(end.ip),
                port=end.port,
                odds=odds(end.odds),
                odds_exact=None if end.odds is None else str(end.odds),
                chain=utf8(end.chain),
                pod=None if end.pod is None else utf8(end.pod),
                at=utf8(str(end.at)),
            )
            for end in one.backends
        ],
        at=utf8(str(one.at)),
    )
