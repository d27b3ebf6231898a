"""IPVS sends what policy Local should keep on the node to endpoints of other nodes.

What it sees
------------
A packet to a Service whose externalTrafficPolicy (or, for its ClusterIP, internalTrafficPolicy)
is Local, that a node without an endpoint balances over endpoints of other nodes. Only where
EndpointSlices are in the dump.

Why it matters
--------------
The other modes drop such a packet. kube-proxy in IPVS mode gives the virtual server all
endpoints if none is local, and does not masquerade. The endpoint then answers the client
directly, from an address that the client never dialled, and the connection times out; unless a
CNI plugin's rule masquerades it on the way, and then the client's address, which Local was to
keep, is lost. A health check of a load balancer at the NodePort itself looks fine or not by
that.

Example
-------
  NK524 warning  worker-2 sends 10.0.0.12:30080 on to worker-1, though externalTrafficPolicy of
                 default/shop is Local: IPVS mode does not drop it
     worker-2/ipvsadm-save.txt:10

What to do
----------
Send clients only to nodes with an endpoint: let the load balancer watch healthCheckNodePort, or
run a DaemonSet. After a move to another mode the packet is dropped instead (NK202).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._modes import IPVS
from netk8s.findings._reading import arrived, dialled, endpoints, live, named, places, proven, service_port
from netk8s.findings._translation import Translated, translation
from netk8s.model import Finding, Trace, Way, World

CODE = "NK524"
SEVERITY = "warning"
SUMMARY = "IPVS mode does not keep traffic policy Local on a node without an endpoint."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    if port is None or "endpoints" not in world.cluster.covered:
        return
    packet = trace.flow.packet
    internal = packet.dst in port.cluster_ips
    if (port.internal_policy if internal else port.external_policy) != "Local":
        return
    where = {(e.ip, e.port): e.node for e in endpoints(world, port, packet.family)}
    found: dict[tuple[str, bool], list[tuple[Way, Translated, str]]] = {}
    for way in live(trace):
        done = translation(way)
        there = where.get((way.packet.dst, way.packet.dport or 0))
        if done is not None and done.mode == IPVS and there is not None and there != done.node:
            found.setdefault((done.node, arrived(way)), []).append((way, done, there))
    policy = "internalTrafficPolicy" if internal else "externalTrafficPolicy"
    for (node, fine), group in found.items():
        yield Finding(
            CODE,
            SEVERITY if fine else "error",
            f"{node} sends {dialled(trace)} on to {named((there for _, _, there in group), 'nodes')}, though {policy} "
            f"of {port.namespace}/{port.service} is Local: IPVS mode does not drop it",
            places(*(done.step for _, done, _ in group)),
            "Send clients only to nodes that have an endpoint (healthCheckNodePort tells, or a DaemonSet). After a "
            "move to another mode the packet is dropped here.",
            proven(way for way, _, _ in group),
        )
