"""Where a client comes in to a proxy that runs in the cluster: by its Service, or by a port of its node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from netk8s.dialects._question import resolve
from netk8s.errors import UsageError
from netk8s.model import TCP, Addr, Ask, Flow, Pod, ServicePort, World


class Door(Struct, frozen=True):
    """One way in. ``port`` is the port a URL names if this is the usual one; ``dialled`` what is really dialled."""

    kind: str
    target: str
    port: int
    dialled: int
    name: str = ""
    node: str | None = None

    def __str__(self) -> str:
        return f"{self.dialled} ({self.kind}, {self.target})"


# A load balancer's address is what names are published for; a ClusterIP only helps inside.
_ORDER = ("load balancer", "external IP", "NodePort", "host port", "ClusterIP")


def doors(world: World, published: Sequence[str], pods: Sequence[Pod]) -> tuple[Door, ...]:
    """All ways in, the likelier first: Services whose endpoints are the pods or whose address is published."""
    names = {f"{p.namespace}/{p.name}" for p in pods}
    fronting = {(e.namespace, e.service) for e in world.cluster.endpoints if e.pod in names}
    found: list[Door] = []
    for service in world.cluster.services:
        addresses = {str(ip) for ip in (*service.lb_ips, *service.lb_ips_proxy, *service.external_ips)}
        if service.protocol == TCP and (
            (service.namespace, service.service) in fronting or (not names and addresses & set(published))
        ):
            found += _of_service(service)
    for pod in pods:
        found += _of_pod(pod)
    return tuple(sorted(dict.fromkeys(found), key=lambda door: _ORDER.index(door.kind)))


def _of_service(service: ServicePort) -> Iterable[Door]:
    full = f"svc/{service.namespace}/{service.service}"
    for ip in service.lb_ips:
        yield Door("load balancer", _text(ip), service.port, service.port, service.name)
    for ip in service.external_ips:
        yield Door("external IP", _text(ip), service.port, service.port, service.name)
    if service.node_port is not None:
        yield Door("NodePort", full, service.port, service.node_port, service.name)
    if service.cluster_ips:
        yield Door("ClusterIP", full, service.port, service.port, service.name)


def _of_pod(pod: Pod) -> Iterable[Door]:
    for name, number, protocol, host, _ in pod.ports:
        open_at = number if pod.host_network else host
        if open_at is not None and protocol == TCP:
            yield Door("host port", f"pod/{pod.namespace}/{pod.name}", open_at, open_at, name, pod.node)


def _text(ip: Addr) -> str:
    return f"[{ip}]" if ip.version == 6 else str(ip)


def way_in(world: World, ask: Ask, found: Sequence[Door], usual: Sequence[int]) -> Flow:
    """The flow of the first packet: by --port, else by the first of the ``usual`` ports that there is.

    Raises UsageError when no door has such a port.
    """
    if ask.port is not None:
        fitting = [d for d in found if ask.port in (str(d.dialled), d.name)]
    else:
        fitting = next((f for f in ([d for d in found if d.port == number] for number in usual) if f), [])
    entry = ask.via or ask.node
    here = [d for d in fitting if d.node in (None, entry)] if entry else fitting
    if not (here or fitting):
        wanted = ask.port or " or ".join(map(str, usual))
        raise UsageError(f"{ask.target}: no way in at port {wanted}; choose one with --port", [str(d) for d in found])
    door = (here or fitting)[0]
    words = replace(ask, target=door.target, port=str(door.dialled), protocol="tcp", namespace=None)
    if door.kind in ("load balancer", "external IP"):
        words = replace(words, family=None)
    source = ask.source or (None if door.kind == "ClusterIP" else "client")
    flow = resolve(world, replace(words, source=source))
    others = [d for d in fitting if d.kind == door.kind and d.node not in (None, door.node)]
    if others and not here:
        raise UsageError(f"{ask.target}: no proxy on {entry}", [f"--via {d.node}" for d in fitting])
    assumed = flow.assumptions
    if others and not entry:
        nodes = ", ".join(dict.fromkeys(d.node or "" for d in others))
        assumed = (*assumed, f"the client comes to {door.node}; the proxy is on {nodes} too (--via)")
    return replace(flow, target=ask.target, assumptions=assumed)
