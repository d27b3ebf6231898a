"""TARGET: a Service, a pod, a node or an address -> what is dialled."""

from __future__ import annotations

from ipaddress import ip_address

from netk8s import objects
from netk8s.dialects._question.addresses import node_address, owner_of
from netk8s.dialects._question.dialled import Dialled
from netk8s.dialects._question.names import family_of, port_number
from netk8s.dialects._question.pods import dial_pod, find_pod, hosts_port
from netk8s.dialects._question.services import dial_service, rows_of
from netk8s.errors import UsageError
from netk8s.model import TCP, Addr, Ask, World


def dial(world: World, ask: Ask, protocol: int | None, notes: list[str]) -> Dialled:
    word, _, rest = ask.target.partition("/")
    kind = {"svc": "svc", "service": "svc", "services": "svc", "pod": "pod", "po": "pod", "pods": "pod",
            "node": "node", "no": "node", "nodes": "node"}.get(word) if rest else None  # fmt: skip
    if kind == "svc":
        return dial_service(world, ask, rest, protocol, notes)
    if kind == "pod":
        return dial_pod(find_pod(world, rest, ask.namespace), ask, protocol, world)
    if kind == "node":
        port = port_number(ask.port)
        if port is None:
            raise UsageError(f"{ask.target} needs --port with a number")
        ip = node_address(world, rest, family_of(ask), notes)
        return Dialled(ip, port, protocol or TCP, "address", owner=rest)
    return dial_address(world, ask, protocol)


def dial_address(world: World, ask: Ask, protocol: int | None) -> Dialled:
    text = ask.target
    host, port = text, ask.port
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise UsageError(f"{text}: expected [IPv6]:PORT")
        port = tail[1:] or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if ask.port is not None and port != ask.port:
        raise UsageError(f"{text} names a port and --port names another ({ask.port})")
    try:
        ip = ip_address(host)
    except ValueError:
        raise UsageError(
            f"{text} is no target; expected svc/NAME, svc/NAMESPACE/NAME, pod/NAMESPACE/NAME, node/NAME, IP:PORT, "
            "[IPv6]:PORT, ingress/NAME, gateway/NAME, httproute/NAME or dns"
        ) from None
    if ask.family not in (None, str(ip.version)):
        raise UsageError(f"{ip} is of IPv{ip.version}, and --family asks for {ask.family}")
    number = port_number(port)
    if number is None:
        shown = f"[{ip}]:PORT" if ip.version == 6 else f"{ip}:PORT"
        raise UsageError(f"{text} needs a port: {shown} or --port PORT")
    kind, service = _kind_of(world, ip, number, protocol or TCP)
    return Dialled(ip, number, protocol or TCP, kind, service)


def _kind_of(world: World, ip: Addr, port: int, protocol: int) -> tuple[str, str | None]:
    """What an address is to the cluster: (kind, "namespace/name" of its Service).

    An external IP or a load balancer's address may be a node's own, so the port decides there.
    """
    owner = owner_of(world, ip)
    known = objects.of(world.cluster)
    for exact in (True, False):
        for service in known.services_at(ip):
            name = f"{service.namespace}/{service.service}"
            if exact and (service.port, service.protocol) != (port, protocol):
                continue
            if ip in service.cluster_ips:
                return "clusterip", name
            if not exact and owner is not None:
                continue
            if ip in service.lb_ips or ip in service.lb_ips_proxy:
                return "loadbalancer", name
            if ip in service.external_ips:
                return "external-ip", name
    if any(not pod.host_network for pod in known.pods_at(ip)):
        return "pod", None
    if owner is not None:
        by_node_port = (s for s in known.with_node_port(port) if s.protocol == protocol)
        by_health_check = iter(known.with_health_check(port) if protocol == TCP else ())
        # The API server gives a number to one of them; should both be there, a NodePort is what kube-proxy serves.
        for what, found in (("nodeport", next(by_node_port, None)), ("healthcheck", next(by_health_check, None))):
            if found is not None:
                return what, f"{found.namespace}/{found.service}"
        return ("hostport" if hosts_port(world, owner, ip, port, protocol) else "address"), None
    if "services" not in world.cluster.covered:
        for row in rows_of(world, f"-d {ip}/", None):
            if row.ip == ip:
                kind = {"ClusterIP": "clusterip", "LoadBalancer": "loadbalancer"}
                return kind.get(row.kind, "external-ip"), row.service or None
    return "address", None
