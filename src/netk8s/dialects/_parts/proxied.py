"""A request that a proxy of the cluster takes and sends on: the way in, and what the proxy dials for it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s.dialects._parts import backends, doors
from netk8s.dialects._parts.controllers import Controller
from netk8s.errors import NotFound
from netk8s.model import Ask, ObjectRef, Outcome, Part, Pod, World

Shares = tuple[tuple[ObjectRef, Fraction], ...]


class Chosen(Struct, frozen=True):
    """What a proxy does with a request, before any packet.

    ``because`` names the rule in words. ``backends`` with their shares, or what the proxy ``answers`` by itself.
    ``usual``: the ports that a client dials, the likelier first. ``published``: addresses that the status names.
    """

    controller: Controller
    pods: tuple[Pod, ...]
    because: str
    backends: Shares = ()
    answers: str = ""
    redirects: bool = False
    by_cluster_ip: bool = False
    usual: tuple[int, ...] = (80, 443)
    published: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


def way_in(world: World, ask: Ask, chosen: Chosen) -> tuple[Part, ...]:
    """The packet from the client to the proxy, or why there is none to follow. Raises UsageError and NotFound."""
    title = chosen.controller.title
    said = (f"{title}: {chosen.because}{_to(chosen)}", *chosen.notes)
    if chosen.controller.dials == "outside":
        published = f" (it has {', '.join(chosen.published)})" if chosen.published else ""
        why = f"{title} is no pod of the cluster{published}, and what it sends to the cluster is in no dump; {said[0]}"
        raise NotFound(f"the proxy of {title}", (), why)
    if not chosen.pods:
        none = "no running pod has its labels" if "pods" in world.cluster.covered else "the dumps have no pods"
        raise NotFound(f"the proxy of {title}", (), f"nobody is known to take requests for {title}: {none}; {said[0]}")
    flow = doors.way_in(world, ask, doors.doors(world, chosen.published, chosen.pods), chosen.usual)
    flow = replace(flow, assumptions=(*flow.assumptions, *chosen.assumptions))
    return (Part(f"to {title}", flow, notes=said, leads=True),)


def onward(world: World, ask: Ask, chosen: Chosen, outcome: Outcome) -> tuple[Part, ...]:
    """What the proxy sends when the request has reached it; () where the proxy's own answer is the end."""
    reached = outcome.reached
    title = chosen.controller.title
    names = {f"{pod.namespace}/{pod.name}" for pod in chosen.pods}
    if reached is None or reached.pod not in names:
        who = f"pod {reached.pod}" if reached is not None and reached.pod else "whoever listens there"
        return (Part("", None, verdict="unknown", reason=f"{who} is not known as a pod of {title}"),)
    if chosen.redirects:
        return ()
    if chosen.answers:
        return (Part("", None, verdict="refused", reason=f"{title} answers {chosen.answers}"),)
    source = f"pod/{reached.pod}"
    notes = tuple(_seen(world, chosen, outcome))
    out: list[Part] = []
    for ref, share in chosen.backends:
        out += backends.parts(world, source, ref, by_cluster_ip=chosen.by_cluster_ip, share=share)
    if not chosen.controller.dials and not chosen.by_cluster_ip:
        taken = f"{title} is taken to dial endpoints, as most proxies do, and not the ClusterIP"
        out = [_assume(part, taken) for part in out]
    return tuple(replace(part, notes=(*part.notes, *notes)) for part in out)


def _assume(part: Part, text: str) -> Part:
    return replace(part, flow=replace(part.flow, assumptions=(*part.flow.assumptions, text))) if part.flow else part


def _to(chosen: Chosen) -> str:
    if not chosen.backends:
        return f": {chosen.answers}" if chosen.answers else ""
    named = [f"{ref.kind} {ref.namespace}/{ref.name}{f':{ref.port}' if ref.port else ''}" for ref, _ in chosen.backends]
    if len(named) > 1:
        named = [f"{name} ({share})" for name, (_, share) in zip(named, chosen.backends, strict=True)]
    return f" -> {', '.join(named)}"


def _seen(world: World, chosen: Chosen, outcome: Outcome) -> list[str]:
    """What source address the backend can know: the proxy is its peer, and headers say more."""
    title = chosen.controller.title
    seen = outcome.source
    lost = outcome.preserved is False
    out = [
        f"the backend's peer is the proxy; the client is in X-Forwarded-For, as {title} saw it: {seen or 'not known'}"
    ]
    if lost:
        out[0] += ", not the client's own address, which was lost on the way to the proxy"
    settings = _settings(world, chosen)
    if chosen.controller.proxy and settings.get(chosen.controller.proxy, "").lower() not in ("", "false"):
        out[0] = (
            f"{title} expects PROXY protocol ({chosen.controller.proxy}): the client is whom its header names, and a "
            "connection without one is refused"
        )
    if chosen.controller.trusts and settings.get(chosen.controller.trusts, "").lower() == "true":
        out.append(f"{title} takes a client's X-Forwarded-For as it comes ({chosen.controller.trusts})")
    return out


def _settings(world: World, chosen: Chosen) -> dict[str, str]:
    """The controller's own settings: of the ConfigMaps beside its pods those that have one of its keys."""
    keys = {chosen.controller.trusts, chosen.controller.proxy} - {""}
    beside = {pod.namespace for pod in chosen.pods}
    out: dict[str, str] = {}
    for each in world.cluster.config_maps:
        if each.namespace in beside:
            out |= {key: value for key, value in each.data if key in keys}
    return out


def evenly(refs: Sequence[tuple[ObjectRef, int]]) -> Shares:
    """Shares by weight; () where no weight is above 0."""
    total = sum(weight for _, weight in refs)
    return tuple((ref, Fraction(weight, total)) for ref, weight in refs if weight > 0)
