"""``pod/NAMESPACE/NAME``: a pod, and which of its ports is meant."""

from __future__ import annotations

from ipaddress import ip_address

from netk8s import objects
from netk8s.dialects._question.dialled import Dialled
from netk8s.dialects._question.names import family_of, near, port_number
from netk8s.errors import NotFound, UsageError
from netk8s.model import TCP, Addr, Ask, Pod, World

ANY = ("", "0.0.0.0", "::")  # noqa: S104 - what is compared with, not bound to
"""hostIP of a hostPort that is open at every address of the node."""


def find_pod(world: World, words: str, namespace: str | None) -> Pod:
    first, slash, name = words.partition("/")
    space, name = (first, name) if slash else (namespace or "default", first)
    found = objects.of(world.cluster).pod_named(space, name)
    if found is not None:
        return found
    names = [f"{p.namespace}/{p.name}" for p in world.cluster.pods]
    why = (
        ""
        if "pods" in world.cluster.covered
        else f"pod {space}/{name}: the dumps have no list of pods (kubectl get pods -A -o json)"
    )
    raise NotFound(f"pod {space}/{name}", [f"pod/{n}" for n in near(f"{space}/{name}", names)], why)


def dial_pod(pod: Pod, ask: Ask, protocol: int | None, world: World) -> Dialled:
    full = f"{pod.namespace}/{pod.name}"
    family = family_of(ask)
    ips = [ip for ip in pod.ips if family in (None, ip.version)]
    if not ips:
        kind = f"IPv{family} " if family else ""
        raise NotFound(f"an address of pod {full}", (), f"pod {full} has no {kind}address")
    declared = [p for p in pod.ports if protocol in (None, p[2])]
    number = port_number(ask.port)
    if ask.port is None and len(declared) == 1:
        number = declared[0][1]
    elif ask.port is not None and number is None:
        number = next((p[1] for p in declared if p[0] == ask.port), None)
    offers = [f"{p[1]}{f' ({p[0]})' if p[0] else ''}{f', hostPort {p[3]}' if p[3] else ''}" for p in declared]
    if number is None:
        raise UsageError(f"pod/{full} needs --port", offers)
    if pod.host_network:
        found = next((p[2] for p in declared if p[1] == number), TCP)
        return Dialled(ips[0], number, protocol or found, "address", owner=pod.node)
    hosted = [p for p in declared if p[3] == number]
    own = [p for p in declared if p[1] == number]
    kinds = {p[2] for p in (*hosted, *own)}
    if len(kinds) > 1:
        raise UsageError(f"port {number} of pod/{full} is one of several protocols; add --protocol", offers)
    if hosted and own:
        on = hosted[0][4] if hosted[0][4] not in ANY else f"an address of {pod.node}"
        raise UsageError(
            f"port {number} is the pod's own and a hostPort too; give the address as the target",
            [f"{ips[0]} (the pod)", f"{on} (hostPort)"],
        )
    if hosted:
        on = hosted[0][4]
        return Dialled(ip_address(on) if on not in ANY else None, number, hosted[0][2], "hostport", owner=pod.node)
    return Dialled(ips[0], number, protocol or (own[0][2] if own else TCP), "pod", owner=pod.node)


def hosts_port(world: World, node: str | None, ip: Addr, port: int, protocol: int) -> bool:
    """Whether a pod of the node has a hostPort at this address."""
    return any(
        (number, kind) == (port, protocol) and (on in ANY or on == str(ip))
        for pod in world.cluster.pods
        if pod.node == node and not pod.host_network and pod.phase not in ("Succeeded", "Failed")
        for _, _, kind, number, on in pod.ports
    )
