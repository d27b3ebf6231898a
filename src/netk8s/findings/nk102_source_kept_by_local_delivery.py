"""The source address is kept although the packet was marked, because the packet ends on the node.

What it sees
------------
A packet that a rule marked for masquerade and that is then delivered to a process of the same
node: a hostNetwork pod, or a component such as the API server. Masquerade happens in
POSTROUTING, and a packet that is delivered locally goes to INPUT and never comes to
POSTROUTING.

Why it matters
--------------
The same Service shows the client's own address through one endpoint and a node's address
through another: the endpoints on other nodes, and ordinary pods, see a replaced source. Allow
lists made from the logs of one of them are wrong for the others, and the difference moves when
a pod moves.

Example
-------
  NK102 info  10.0.0.11:9100 on worker-1 sees the client 203.0.113.7 itself, though
              default/exporter marks it for masquerade: the packet ends on worker-1 and never
              comes to POSTROUTING
     worker-1.iptables-save:71

What to do
----------
Nothing is broken. To see the client's address everywhere, set externalTrafficPolicy: Local
(nodes without an endpoint then drop the packets) or carry the address by PROXY protocol.
Running all endpoints with hostNetwork on exactly the nodes that clients address relies on this,
at the price of port clashes and exposure.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _marks
from netk8s.findings._reading import address, arrived, live, places, proven, sender, service_name, service_port
from netk8s.model import Finding, Trace, Way, World

CODE = "NK102"
SEVERITY = "info"
SUMMARY = "A packet marked for masquerade keeps its source, because it ends on the node."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    for way in live(trace):
        if not arrived(way) or way.reached is None or not _ends_on_node(way):
            continue
        hop = way.hops[-1]
        found = _marks.marked(trace, port, hop)
        if found is None or not found.done or any(r.node == hop.node for r in way.rewrites):
            continue
        # A packet that came back in by lo did pass POSTROUTING, where its source may have been replaced by itself.
        if any(s.hook == "postrouting" for s in hop.steps):
            continue
        service = service_name(trace, found.step.detail)
        where = address(way.reached.ip, way.reached.port)
        yield Finding(
            CODE,
            SEVERITY,
            f"{where} on {hop.node} sees {sender(trace)} as {way.source}, though {service or 'the Service'} marks the "
            f"packet for masquerade: it ends on {hop.node} and never comes to POSTROUTING",
            places(found.step),
            "Nothing is broken. Endpoints on other nodes, and endpoints that are ordinary pods, see a replaced "
            "address; externalTrafficPolicy: Local makes it the client's everywhere, and nodes without an endpoint "
            "then drop.",
            proven([way]),
        )


def _ends_on_node(way: Way) -> bool:
    decided = [s.action for s in way.hops[-1].steps if s.hook == "routing"] if way.hops else []
    # IPVS takes a packet that is for the node, and sends it on.
    return bool(decided) and decided[-1].startswith("local delivery")
