"""A headless Service: DNS answers its pods' addresses, and the packet goes straight to one of them."""

from __future__ import annotations

from fractions import Fraction

from msgspec.structs import replace

from netk8s.dialects._question import resolve
from netk8s.dialects._question.dialled import Dialled
from netk8s.dialects._question.names import family_of, port_number, protocol_number
from netk8s.dialects._question.sender import default_source
from netk8s.dialects._question.services import service_name
from netk8s.errors import NotFound, UsageError
from netk8s.model import PROTOCOL_NAMES, TCP, Addr, Ask, Endpoint, Part, ServicePort, World

SHUFFLED = "DNS answers the pods in any order and the client takes the first: equal odds"


def parts(world: World, ask: Ask) -> tuple[Part, ...] | None:
    """One part for each address that DNS answers, with equal odds; None when the target is no headless Service.

    CoreDNS answers endpoints that are ready; publishNotReadyAddresses makes the control plane write ready for all.
    """
    named = service_name(ask)
    if named is None:
        return None
    ports = [s for s in world.cluster.services if (s.namespace, s.service) == named]
    if not ports or any(s.cluster_ips for s in ports):
        return None
    full = "/".join(named)
    if "endpoints" not in world.cluster.covered:
        why = f"service {full} is headless, and the dumps have no EndpointSlices to tell what DNS answers"
        raise NotFound(f"endpoints of {full}", (), f"{why} (kubectl get endpointslices -A -o json)")
    port = _port(ask, full, ports)
    endpoints = [e for e in world.cluster.endpoints if (e.namespace, e.service) == named and e.ready]
    found = _addresses(endpoints, family_of(ask), full)
    notes: list[str] = []
    dialled = Dialled(next(iter(found)), 1, TCP, "clusterip", full)
    source = ask.source or default_source(world, ask, dialled, notes)
    out = []
    for ip, fitting in found.items():
        number = next((e.port for e in fitting if e.port_name == port.name), port.port) if _by_name(ask) else port.port
        target = f"[{ip}]:{number}" if ip.version == 6 else f"{ip}:{number}"
        flow = resolve(world, Ask(target, None, PROTOCOL_NAMES[port.protocol], source, ask.via, ask.node))
        assumptions = (*notes, *((SHUFFLED,) if len(found) > 1 else ()), *flow.assumptions)
        flow = replace(flow, target=ask.target, service=full, assumptions=assumptions)
        pod = next((e.pod for e in fitting if e.pod), None)
        name = f"DNS answers {ip}{f' (pod {pod})' if pod else ''}"
        out.append(Part(name, flow, Fraction(1, len(found)), notes=_untranslated(number, fitting, port)))
    return tuple(out)


def _by_name(ask: Ask) -> bool:
    return ask.port is not None and port_number(ask.port) is None


def _port(ask: Ask, full: str, ports: list[ServicePort]) -> ServicePort:
    """The port to dial. A number need not be one of the Service's: nothing translates it."""
    protocol = protocol_number(ask.protocol)
    fitting = [s for s in ports if protocol in (None, s.protocol)]
    offers = [f"{s.port}/{PROTOCOL_NAMES[s.protocol]}{f' ({s.name})' if s.name else ''}" for s in ports]
    number = port_number(ask.port)
    if number is not None:
        same = [s for s in fitting if s.port == number]
        return same[0] if same else replace((fitting or ports)[0], port=number, name="", protocol=protocol or TCP)
    if ask.port is not None:
        fitting = [s for s in fitting if s.name == ask.port]
        if not fitting:
            raise NotFound(f"port {ask.port} of service {full}", offers)
    if len(fitting) != 1:
        raise UsageError(f"svc/{full} has several ports; choose one with --port", offers)
    return fitting[0]


def _addresses(endpoints: list[Endpoint], family: int | None, full: str) -> dict[Addr, list[Endpoint]]:
    """The endpoints by address: those of the family asked for, else of the sender's, else IPv4's."""
    families = {e.ip.version for e in endpoints}
    wanted = family or (min(families) if families else 4)
    out: dict[Addr, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.ip.version == wanted:
            out.setdefault(endpoint.ip, []).append(endpoint)
    if not out:
        kind = f"IPv{family} " if family else ""
        why = (
            f"service {full} is headless and has no ready {kind}endpoint: DNS answers no address, and no packet is sent"
        )
        raise NotFound(f"an address of {full}", (), why)
    return out


def _untranslated(number: int, fitting: list[Endpoint], port: ServicePort) -> tuple[str, ...]:
    own = next((e.port for e in fitting if (e.port_name, e.protocol) == (port.name, port.protocol)), number)
    if own == number:
        return ()
    return (f"the endpoint's port is {own}: nothing translates port {number} of a headless Service",)
