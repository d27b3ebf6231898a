"""What is known of what is dialled and no packet shows."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.dialects._question.addresses import owner_of
from netk8s.model import Flow, World

MOST_SHOWN = 6


def notes(world: World, flow: Flow) -> Iterator[str]:
    """One sentence for each thing worth saying."""
    if flow.kind == "healthcheck" and flow.service:
        yield _health(world, flow)
    if flow.kind == "loadbalancer":
        yield from _proxied(world, flow)
    node = world.nodes.get(flow.node)
    if node is not None and node.opaque and flow.service and "endpoints" in world.cluster.covered:
        yield from _by_the_api(world, flow, flow.service)


def _by_the_api(world: World, flow: Flow, full: str) -> Iterator[str]:
    """What is left to say of a Service where no rule decides: the endpoints that the objects give it."""
    number = flow.packet.dport
    for port in world.cluster.services:
        named = f"{port.namespace}/{port.service}" == full and port.protocol == flow.packet.protocol
        if not named or number != (port.node_port if flow.kind == "nodeport" else port.port):
            continue
        ready = [
            f"[{e.ip}]:{e.port}" if e.ip.version == 6 else f"{e.ip}:{e.port}"
            for e in world.cluster.endpoints
            if e.ready
            and (f"{e.namespace}/{e.service}", e.port_name, e.protocol) == (full, port.name, port.protocol)
            and e.ip.version == flow.packet.family
        ]
        shown = ", ".join(ready[:MOST_SHOWN]) + (f" and {len(ready) - MOST_SHOWN} more" * (len(ready) > MOST_SHOWN))
        yield (
            f"by the API {full} goes to {shown or 'nobody: it has no ready endpoint'}"
            + (f"; which one, and from which address, the datapath of {flow.node} decides" if ready else "")
        )
        return


def _health(world: World, flow: Flow) -> str:
    """What kube-proxy answers: it counts ready endpoints on its node, by address (LocalReadyEndpoints).

    pkg/proxy/healthcheck/service_health.go: 200 with one or more while kube-proxy is healthy, else 503.
    """
    node = owner_of(world, flow.packet.dst) or flow.node
    who = f"kube-proxy on {node} answers here itself, for {flow.service}"
    if "endpoints" not in world.cluster.covered:
        return f"{who}: HTTP 200 if {node} has a ready endpoint, else 503; the dumps have no EndpointSlices"
    ready = {
        e.ip
        for e in world.cluster.endpoints
        if e.ready and e.node == node and f"{e.namespace}/{e.service}" == flow.service
    }
    if not ready:
        return f"{who}: HTTP 503, for no ready endpoint is on {node}"
    many = "1 ready endpoint is" if len(ready) == 1 else f"{len(ready)} ready endpoints are"
    return f"{who}: HTTP 200 while kube-proxy is healthy, for {many} on {node}"


def _proxied(world: World, flow: Flow) -> Iterator[str]:
    """ipMode Proxy (1.29): kube-proxy writes no rule for the address."""
    for service in world.cluster.services:
        if flow.packet.dst in service.lb_ips_proxy:
            port = f" {service.node_port}" if service.node_port else ""
            yield (
                f"{flow.packet.dst} has ipMode Proxy: newer kube-proxies (1.29) leave it to the load balancer, which then "
                f"sends to a node's NodePort{port} from an address of its own; that leg is --port{port or ' NODEPORT'}"
            )
            return
