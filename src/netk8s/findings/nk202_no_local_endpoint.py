"""A traffic policy is Local and the node has no endpoint of its own.

What it sees
------------
A packet dropped because its Service may use endpoints of the same node only and there are none:
a DROP in the filter table commented "has no local endpoints" (kube-proxy 1.25 and later), or a
jump to KUBE-MARK-DROP from KUBE-XLB or KUBE-SVL and the DROP of KUBE-FIREWALL (up to 1.24), or
a drop by the maps no-endpoint-… of nftables mode. With internalTrafficPolicy: Local, kube-proxy
up to 1.23 and IPVS refuse instead of dropping. For externalTrafficPolicy: Local, IPVS mode goes
to endpoints of other nodes instead (NK524).

Why it matters
--------------
The client gets no answer at all, not even a refusal, and times out. From pods and from nodes
the same address works, for externalTrafficPolicy: Local does not hold for traffic from inside;
so tests from inside mislead.

Example
-------
  NK202 error  worker-2 drops 10.0.0.12:30080 from 203.0.113.7, because externalTrafficPolicy
               of default/shop is Local and worker-2 has no endpoint of it; worker-1 has
     worker-2.iptables-save:33

What to do
----------
Send clients to nodes that have an endpoint: a load balancer that watches the Service's
healthCheckNodePort does. Or give every node an endpoint (a DaemonSet, or topology spread),
which costs pods. Or set the policy to Cluster, which reaches endpoints everywhere and, for
outside clients, costs the client's address.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _verdicts
from netk8s.findings._reading import (
    RULE,
    dialled,
    endpoints,
    graded,
    named,
    places,
    proven,
    service_name,
    service_port,
    stops,
    usable,
)
from netk8s.model import Finding, ServicePort, Trace, World

CODE = "NK202"
SEVERITY = "error"
SUMMARY = "The traffic policy is Local and the node has no endpoint of its own."
WANTED = "info"


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    have = _nodes(world, trace, port)
    for stop in stops(trace):
        kind = _verdicts.kind(stop)
        internal = _internal(trace, port)
        refused = (
            kind == _verdicts.NO_ENDPOINTS
            and internal
            and port is not None
            and port.internal_policy == "Local"
            and have
        )
        if kind != _verdicts.NO_LOCAL and not refused:
            continue
        marker = _verdicts.asked_to_drop(stop)
        policy = "internalTrafficPolicy" if internal else "externalTrafficPolicy"
        service = service_name(trace, *(s.detail for s in (marker, stop.step) if s is not None)) or "the Service"
        verb = "refuses" if refused else "drops" if stop.kind == RULE else "does not translate"
        yield Finding(
            CODE,
            graded(SEVERITY, [stop.way]),
            f"{stop.node} {verb} {dialled(trace)} from {trace.flow.packet.src}, because {policy} of {service} is "
            f"Local and {stop.node} has no endpoint of it{_elsewhere(have)}",
            places(
                marker,
                *_verdicts.told_by(stop),
                f"service {service} ({port.at})" if port is not None and port.at.origin else None,
            ),
            _remedy(internal, port),
            proven([stop.way]),
        )


def _internal(trace: Trace, port: ServicePort | None) -> bool:
    return trace.flow.packet.dst in port.cluster_ips if port is not None else trace.flow.kind == "clusterip"


def _nodes(world: World, trace: Trace, port: ServicePort | None) -> list[str]:
    found = usable(endpoints(world, port, trace.flow.packet.family)) if port is not None else []
    return sorted({e.node for e in found if e.node is not None})


def _elsewhere(have: list[str]) -> str:
    return f"; {named(have, 'nodes')} {'has' if len(have) == 1 else 'have'}" if have else ""


def _remedy(internal: bool, port: ServicePort | None) -> str:
    if internal:
        return (
            "Give every node that uses the Service an endpoint (a DaemonSet), or set internalTrafficPolicy: "
            "Cluster, which reaches endpoints of other nodes. The source address of pods is kept either way."
        )
    # The API server allocates a health check port to Services of type LoadBalancer only.
    by_port = port is not None and port.type != "LoadBalancer"
    does = "checks the port of each node" if by_port else "watches healthCheckNodePort"
    return (
        f"Send clients to nodes that have an endpoint: a load balancer that {does} does. Or give every node one "
        "(DaemonSet, topology spread). Or set externalTrafficPolicy: Cluster, and lose the client's address."
    )
