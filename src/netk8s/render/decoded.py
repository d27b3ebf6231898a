"""What ``netk8s decode`` prints: the services that a node's rules program, as text and as a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from netk8s import model
from netk8s.render._page import Page
from netk8s.render._words import address, host, percent
from netk8s.render.document import FileLine, Missing, Odds, OddsExact, Port, missing, odds, protocol_name, utf8

SCHEMA: Literal["netk8s.dev/decode/v1"] = "netk8s.dev/decode/v1"
_AT_ONCE = 256
"""Services that are made text together."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of a service port. Null odds: the rules do not say."""

    ip: str
    port: Port | None
    odds: Odds | None
    odds_exact: OddsExact | None
    weight: Annotated[int, Meta(description="Of a real server of IPVS; 0: no new connections")] | None
    chain: str
    pod: Annotated[str, Meta(description="NAMESPACE/NAME")] | None
    at: FileLine


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One way to dial a service port, as the rules of one node have it.

    The endpoints are those for a client outside the cluster: the policy Local holds for it, not for pods and nodes.
    """

    node: str
    mode: Literal["iptables", "nftables", "ipvs"]
    service: Annotated[str, Meta(description="NAMESPACE/NAME; empty where neither comments nor objects tell it")]
    port_name: str
    protocol: str
    kind: Annotated[
        Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalIP", "External"],
        Meta(description="External: a load balancer's address or an external IP, and the rules do not tell which"),
    ]
    ip: Annotated[str, Meta(description="The address that is dialled; null: an address of the node")] | None
    addresses: Annotated[list[str], Meta(description="The node's addresses that take the NodePort; empty: any")]
    port: Port
    chain: str
    verdict: Annotated[str, Meta(description="REJECT or DROP where no endpoint is usable, else empty")]
    policy: Annotated[
        Literal["Cluster", "Local"] | None,
        Meta(description="externalTrafficPolicy, of a ClusterIP internalTrafficPolicy; null: the rules do not tell"),
    ]
    scheduler: Annotated[str, Meta(description="random, or the scheduler of IPVS")] | None
    affinity: Annotated[bool, Meta(description="A client keeps its endpoint (ClientIP)")]
    affinity_seconds: Annotated[int, Meta(description="For how long after its last connection")] | None
    endpoints: list[Endpoint]
    at: FileLine


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """A CNI plugin, agent or mesh whose work shows in a node's dumps."""

    node: str
    name: str
    signs: Annotated[list[str], Meta(description="What it was recognised by, as WHAT, FILE:LINE")]


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """The services that the dumps' rules program, node by node."""

    schema: Literal["netk8s.dev/decode/v1"] = SCHEMA
    nodes: list[str]
    services: list[Service]
    components: list[Component]
    notes: Annotated[list[str], Meta(description="What was inferred while decoding")]
    missing: list[Missing]


def _around(world: model.World, recognised: Iterable[model.Recognised]) -> Decoded:
    """The document without its services."""
    return Decoded(
        nodes=[utf8(name) for name in world.nodes],
        services=[],
        components=[
            Component(
                node=utf8(one.node),
                name=one.name,
                signs=[utf8(f"{sign.what}, {sign.at}") for sign in one.by],
            )
            for one in recognised
        ],
        notes=[utf8(note) for note in _notes(world)],
        missing=missing(world.missing),
    )


def _notes(world: model.World) -> list[str]:
    """What was inferred, and on which nodes the rules do not decide."""
    return [*world.notes, *(f"{name}: {node.opaque}" for name, node in world.nodes.items() if node.opaque)]


def as_json(
    world: model.World, programmed: Sequence[model.Programmed], recognised: Iterable[model.Recognised] = ()
) -> str:
    """The document, indented."""
    return "".join(json_parts(world, programmed, recognised))


def json_parts(
    world: model.World, programmed: Sequence[model.Programmed], recognised: Iterable[model.Recognised] = ()
) -> Iterator[str]:
    """The document of :func:`as_json` in parts: that of a large node is not to be in memory at once."""
    before, empty, after = _json(_around(world, recognised)).partition('\n "services": []')
    if not programmed:
        yield before + empty + after + "\n"
        return
    start, end = '{\n "services": [\n', "\n ]\n}"
    yield before
    for number, services in enumerate(_in_parts(programmed)):
        yield (",\n" if number else start[1:]) + _json({"services": services}).removeprefix(start).removesuffix(end)
    yield "\n ]" + after + "\n"


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()


def as_yaml(
    world: model.World, programmed: Sequence[model.Programmed], recognised: Iterable[model.Recognised] = ()
) -> str:
    """The same document in YAML."""
    return "".join(yaml_parts(world, programmed, recognised))


def yaml_parts(
    world: model.World, programmed: Sequence[model.Programmed], recognised: Iterable[model.Recognised] = ()
) -> Iterator[str]:
    """The document of :func:`as_yaml` in parts."""
    import yaml  # 40 ms that only this format has to pay

    # The emitter that is written in C, where PyYAML was built with it, takes a fifth of the time.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    def text(value: object) -> str:
        return str(yaml.dump(msgspec.to_builtins(value), Dumper=dumper, sort_keys=False, allow_unicode=True, width=100))

    before, empty, after = text(_around(world, recognised)).partition("\nservices: []\n")
    if not programmed:
        yield before + empty + after
        return
    yield before + "\nservices:\n"
    for services in _in_parts(programmed):
        yield text({"services": services}).removeprefix("services:\n")
    yield after


def _in_parts(programmed: Sequence[model.Programmed]) -> Iterator[list[Service]]:
    """The services of the document, some hundred at a time."""
    for start in range(0, len(programmed), _AT_ONCE):
        yield list(_services(programmed[start : start + _AT_ONCE]))


def as_text(
    world: model.World,
    programmed: Sequence[model.Programmed],
    recognised: Iterable[model.Recognised] = (),
    *,
    width: int = 100,
    ascii: bool = False,
) -> str:
    """Node by node what is at work there, and Service by Service the ways to dial it with the endpoints they share."""
    return "".join(text_parts(world, programmed, recognised, width=width, ascii=ascii))


def text_parts(
    world: model.World,
    programmed: Sequence[model.Programmed],
    recognised: Iterable[model.Recognised] = (),
    *,
    width: int = 100,
    ascii: bool = False,
) -> Iterator[str]:
    """The text of :func:`as_text` in parts: that of a large node is not to be in memory at once."""
    page = Page(width, ascii=ascii)
    parts = list(recognised)
    for node in dict.fromkeys([*world.nodes, *(one.node for one in programmed)]):
        here = [one for one in programmed if one.node == node]
        files = {one.at.origin for one in here} | {end.at.origin for one in here for end in one.backends}
        # One file is named above, so that the rows need only the line.
        single = files.pop() if len(files) == 1 else None
        modes = " and ".join(dict.fromkeys(one.mode for one in here if one.mode))
        title = f"{node}: {_count(len({one.service for one in here}), 'service')}, {_count(len(here), 'way')} to dial"
        page.title(title + (f", {modes} mode" if modes else "") + (f", from {single}" if single else ""))
        for part in parts:
            if part.node == node:
                signs = "; ".join(f"{sign.what}, {sign.at}" for sign in part.by)
                page.put(f"{part.name}: {signs}", first="  ", rest="    ")
        for name, ways in _by_service(here).items():
            page.put(name)
            for same in _sharing(ways):
                _dials(page, same, single)
                _endpoints(page, same[0], single)
            yield page.taken().lstrip("\n")
    page.blank()
    page.bullets((f"note: {note}" for note in _notes(world)), "", 0)
    page.bullets((f"missing: {gap.what}: needed for {gap.needed_for}" for gap in world.missing), "", 0)
    yield page.text().strip("\n") + "\n"


def _by_service(programmed: Iterable[model.Programmed]) -> dict[str, list[model.Programmed]]:
    out: dict[str, list[model.Programmed]] = {}
    for one in programmed:
        out.setdefault((one.service or "?") + (f":{one.port_name}" if one.port_name else ""), []).append(one)
    return out


def _sharing(ways: Sequence[model.Programmed]) -> Iterable[list[model.Programmed]]:
    """The ways that lead to the same endpoints with the same odds, together."""
    out: dict[object, list[model.Programmed]] = {}
    # Most ways lead to one chain and have its very endpoints: these are compared only where there are others.
    several = any(one.backends is not ways[0].backends for one in ways)
    for one in ways:
        ends = several and tuple((end.ip, end.port, end.odds, end.weight, end.chain) for end in one.backends)
        out.setdefault((ends, one.verdict, one.scheduler), []).append(one)
    return out.values()


def _dials(page: Page, ways: Sequence[model.Programmed], single: str | None) -> None:
    names = [_dial(one) for one in ways]
    widest = max(len(name) for name in names)
    for one, name in zip(ways, names, strict=True):
        words = [f"policy {one.policy}" if one.policy else "policy not told"]
        if one.affinity:
            words.append(f"sticky{f' for {one.affinity_seconds} s' if one.affinity_seconds else ''}")
        if one.addresses:
            words.append(f"on {', '.join(map(str, one.addresses))}")
        place = ", ".join(word for word in (one.chain, _line(one.at, single)) if word)
        page.put(f"{', '.join(words)}; {place}", first=f"  {one.kind:<12} {name:<{widest}}  ",
                 rest=" " * 8)  # fmt: skip


def _dial(one: model.Programmed) -> str:
    dialled = address(one.ip, one.port) if one.ip else f"*:{one.port}"
    return f"{dialled}/{protocol_name(one.protocol)}"


_ENDS = {"REJECT": "REJECT: no usable endpoint", "DROP": "DROP: no usable endpoint on this node"}


def _endpoints(page: Page, one: model.Programmed, single: str | None) -> None:
    if one.verdict or not one.backends:
        page.put(_ENDS.get(one.verdict, one.verdict or "no endpoints"), first="      ")
    names = [address(end.ip, end.port) for end in one.backends]
    widest = max(map(len, names), default=0)
    rows = []
    odds, chance = None, "?"
    for end, name in zip(one.backends, names, strict=True):
        if end.odds is not odds:
            odds, chance = end.odds, "?" if end.odds is None else percent(end.odds)
        words = f"{end.pod}, " if end.pod else ""
        where = one.scheduler if end.weight is not None else end.chain
        if where:
            words += f"{where}, "
        if end.weight is not None:
            words += f"weight {end.weight}, "
        rows.append((f"    {chance:>6}  {name:<{widest}}  ", words + _line(end.at, single)))
    page.rows(rows, rest=" " * 14)


def _line(at: model.At, single: str | None) -> str:
    return f"line {at.line}" if single and at.line else str(at)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _services(programmed: Iterable[model.Programmed]) -> Iterator[Service]:
    backends: Sequence[model.Backend] = ()
    endpoints: list[Endpoint] = []
    for one in programmed:
        # The ways to dial a Service follow each other and mostly have the very same endpoints.
        if one.backends is not backends:
            backends, endpoints = one.backends, list(_ends(one.backends))
        yield Service(
            node=utf8(one.node),
            service=utf8(one.service),
            port_name=utf8(one.port_name),
            protocol=protocol_name(one.protocol),
            mode=one.mode,  # type: ignore[arg-type]
            kind=one.kind,  # type: ignore[arg-type]
            ip=None if one.ip is None else host(one.ip),
            addresses=[host(ip) for ip in one.addresses],
            port=one.port,
            chain=utf8(one.chain),
            verdict=one.verdict,
            policy=one.policy or None,  # type: ignore[arg-type]
            scheduler=one.scheduler or None,
            affinity=one.affinity,
            affinity_seconds=one.affinity_seconds,
            endpoints=endpoints,
            at=utf8(str(one.at)),
        )


def _ends(backends: Iterable[model.Backend]) -> Iterator[Endpoint]:
    known, share, exact = None, None, None
    for end in backends:
        if end.odds is not known:
            known, share, exact = end.odds, odds(end.odds), None if end.odds is None else str(end.odds)
        yield Endpoint(
            ip=host(end.ip),
            port=end.port,
            odds=share,
            odds_exact=exact,
            weight=end.weight,
            chain=utf8(end.chain),
            pod=None if end.pod is None else utf8(end.pod),
            at=utf8(str(end.at)),
        )
