"""All real servers of an IPVS virtual server have weight 0, or the hash of a client falls on one.

What it sees
------------
A packet that IPVS refuses although its virtual server has real servers: all of them have weight
0, so none takes new connections; or the scheduler (sh, mh) hashes the client onto one that has
weight 0 and has no fallback.

Why it matters
--------------
kube-proxy sets an endpoint that goes away to weight 0 and removes it when its connections are
over, so weight 0 beside other weights is normal. Weight 0 everywhere means that all endpoints
are going and none has come, or that somebody quiesced them by hand. Connections that exist go
on, new ones are refused, which looks like a crash of the application.

Example
-------
  NK207 error  worker-1 refuses 10.96.0.30:80: all 2 real servers of its virtual server have
               weight 0
     worker-1/ipvsadm-save.txt:12

What to do
----------
Compare with `kubectl get endpointslices -l kubernetes.io/service-name=NAME`. If ready endpoints
are there, restart kube-proxy on the node, which sets their weight to 1 again and keeps
connections. If there are none, the Service has no endpoints (NK201).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _verdicts
from netk8s.findings._reading import dialled, endpoints, graded, places, proven, service_port, stops, usable
from netk8s.model import Finding, Trace, VirtualServer, World

CODE = "NK207"
SEVERITY = "error"
SUMMARY = "IPVS has real servers for the Service, and none that takes new connections."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    for stop in stops(trace):
        if _verdicts.kind(stop) != _verdicts.QUIESCED:
            continue
        server = _server(world, stop.node, stop.step.at if stop.step is not None else None)
        count = len(server.real) if server is not None else 0
        if server is not None and any(real.weight for real in server.real):
            why = f"the hash of {trace.flow.packet.src} falls on a real server of weight 0, and scheduler "
            why += f"{server.scheduler} has no fallback"
        else:
            why = f"all {count} real servers of its virtual server have weight 0"
        ready = usable(endpoints(world, port, trace.flow.packet.family)) if port is not None else []
        there = f"; ready endpoints: {len(ready)}" if ready else ""
        yield Finding(
            CODE,
            graded(SEVERITY, [stop.way]),
            f"{stop.node} refuses {dialled(trace)}: {why}{there}",
            places(stop.step, *(real.at for real in server.real if not real.weight) if server is not None else ()),
            f"If endpoints are ready (kubectl get endpointslices), restart kube-proxy on {stop.node}, which sets their "
            "weight to 1 again and keeps connections; if none is, the Service has lost its pods.",
            proven([stop.way]),
        )


def _server(world: World, node: str, at: object) -> VirtualServer | None:
    found = world.nodes.get(node)
    return next((s for s in found.virtual_servers if s.at == at), None) if found is not None else None
