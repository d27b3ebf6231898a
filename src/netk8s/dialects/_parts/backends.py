"""From a proxy to what it dials: the endpoints of a Service, or its ClusterIP."""

from __future__ import annotations

from fractions import Fraction

from msgspec.structs import replace

from netk8s.dialects._question import resolve
from netk8s.errors import NotFound, UsageError
from netk8s.model import TCP, Ask, ObjectRef, Part, ServicePort, World

EVENLY = "the proxy divides connections evenly among the ready endpoints"


def parts(
    world: World, source: str, ref: ObjectRef, *, by_cluster_ip: bool, share: Fraction = Fraction(1)
) -> list[Part]:
    """The packets that the proxy ``source`` may send for one backend, or the error that it answers instead."""
    full = f"{ref.namespace}/{ref.name}"
    if (ref.kind, ref.group) != ("Service", ""):
        return [_end("unknown", f"backend {ref.kind} {ref.name} is no Service", share)]
    outside = next(
        (e for e in world.cluster.external_names if (e.namespace, e.service) == (ref.namespace, ref.name)), None
    )
    if outside is not None:
        return [_part(world, f"proxy to {outside.host}", Ask(f"svc/{full}", ref.port, "tcp", source), share)]
    ports = [s for s in world.cluster.services if (s.namespace, s.service) == (ref.namespace, ref.name)]
    if not ports:
        return [_end("refused", f"Service {full} does not exist: the proxy answers HTTP 500 or 503", share)]
    port = next((s for s in ports if ref.port in (str(s.port), s.name) and s.protocol == TCP), None)
    if port is None:
        return [_end("refused", f"Service {full} has no TCP port {ref.port}: the proxy answers HTTP 500 or 503", share)]
    if by_cluster_ip and port.cluster_ips:
        ask = Ask(f"svc/{full}", str(port.port), "tcp", source)
        return [_part(world, f"proxy to Service {full}", ask, share)]
    return _endpoints(world, source, full, port, share)


def _endpoints(world: World, source: str, full: str, port: ServicePort, share: Fraction) -> list[Part]:
    if "endpoints" not in world.cluster.covered:
        return [_end("unknown", f"the dumps have no EndpointSlices of {full}", share)]
    ready = {
        (e.ip, e.port): e
        for e in world.cluster.endpoints
        if e.ready
        and (e.namespace, e.service, e.port_name, e.protocol) == (port.namespace, port.service, port.name, TCP)
    }
    if not ready:
        return [_end("refused", f"Service {full} has no ready endpoint: the proxy answers HTTP 503", share)]
    out = []
    for (ip, number), endpoint in ready.items():
        target = f"[{ip}]:{number}" if ip.version == 6 else f"{ip}:{number}"
        name = f"proxy to {target}{f' (pod {endpoint.pod})' if endpoint.pod else ''}"
        part = _part(world, name, Ask(target, None, "tcp", source), share / len(ready))
        if part.flow is not None and len(ready) > 1:
            part = replace(part, flow=replace(part.flow, assumptions=(EVENLY, *part.flow.assumptions)))
        out.append(part)
    return out


def _part(world: World, name: str, ask: Ask, share: Fraction) -> Part:
    try:
        return Part(name, resolve(world, ask), share)
    except (NotFound, UsageError) as error:
        return _end("unknown", f"{name}: {error}", share)


def _end(verdict: str, reason: str, share: Fraction) -> Part:
    return Part("", None, share, verdict=verdict, reason=reason)
