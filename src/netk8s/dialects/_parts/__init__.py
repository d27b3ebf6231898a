"""The packets that one question takes: mostly one, several where a name, a family or a proxy stands between."""

from __future__ import annotations

from msgspec.structs import replace

from netk8s.dialects._parts import dns, gateway, headless, ingress, notes, proxied
from netk8s.dialects._parts.proxied import Chosen
from netk8s.dialects._question import resolve
from netk8s.errors import NotFound, UsageError
from netk8s.model import Ask, Outcome, Part, World

FAMILIES = {"4": "IPv4", "6": "IPv6"}


def first(world: World, ask: Ask) -> tuple[Part, ...]:
    """The parts that the question begins with. Raises UsageError and NotFound as :func:`resolve` does."""
    if ask.family == "both":
        return _each_family(world, ask)
    if ask.target == "dns":
        return dns.parts(world, ask)
    chosen = _chosen(world, ask)
    if chosen is not None:
        return proxied.way_in(world, ask, chosen)
    found = headless.parts(world, ask)
    if found is not None:
        return found
    flow = resolve(world, ask)
    return (Part("", flow, notes=tuple(notes.notes(world, flow))),)


def onward(world: World, ask: Ask, part: Part, outcome: Outcome) -> tuple[Part, ...]:
    """What follows when the packet of ``part`` was delivered to somebody who sends another one for it; () for an end."""
    chosen = _chosen(world, ask) if part.leads else None
    return proxied.onward(world, ask, chosen, outcome) if chosen is not None else ()


def _chosen(world: World, ask: Ask) -> Chosen | None:
    """What becomes of a request to an Ingress or a Gateway; None for any other target."""
    kind = ask.target.partition("/")[0]
    if kind in ("ingress", "ing"):
        return ingress.choose(world, ask)
    if kind in ("gateway", "gtw", "httproute"):
        return gateway.choose(world, ask)
    return None


def _each_family(world: World, ask: Ask) -> tuple[Part, ...]:
    """The parts of both families, or of the one there is. Which one is dialled is the client's choice."""
    found: dict[str, tuple[Part, ...]] = {}
    refused: list[UsageError | NotFound] = []
    for family, name in FAMILIES.items():
        try:
            found[name] = first(world, replace(ask, family=family))
        except (NotFound, UsageError) as error:
            refused.append(error)
    if not found:
        raise refused[0]
    if refused:
        (parts,) = found.values()
        return tuple(replace(part, notes=(f"one family alone: {refused[0]}", *part.notes)) for part in parts)
    return tuple(
        replace(part, name=f"{name}: {part.name}" if part.name else name, odds=None)
        for name, parts in found.items()
        for part in parts
    )
