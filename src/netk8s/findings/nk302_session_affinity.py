"""The Service has session affinity: a node sends a client it remembers to the same endpoint again.

What it sees
------------
Endpoint rules with a list of -m recent, which kube-proxy writes for sessionAffinity: ClientIP.
The lists are in /proc/net/xt_recent of the node, and no dump has them: the odds in the answer
hold for a client that the node does not remember.

Why it matters
--------------
The list is keyed by the source address before masquerade, as the node sees it. Behind a load
balancer, a NAT gateway or another node that replaced the address, all clients are one and go to
one endpoint. Every node, and every port of the Service, remembers for itself. A list holds 100
addresses unless the module's ip_list_tot says otherwise, and forgets the oldest: with more
clients per endpoint, affinity breaks silently.

Example
-------
  NK302 info  worker-1 remembers 203.0.113.7 for 10800 s after its last connection to
              default/shop and sends it to the same endpoint again
     worker-1.iptables-save:88, :103

What to do
----------
To see what a node remembers: `cat /proc/net/xt_recent/KUBE-SEP-…`. If all clients come by one
address, affinity by address is the wrong tool; use a cookie in an HTTP proxy.
externalTrafficPolicy: Local or PROXY protocol do not change what the list is keyed by on the
node that clients address first.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import live, option, places, proven, service_name, service_port, steps, tables, target
from netk8s.model import Addr, At, Finding, Step, Trace, Way, World

CODE = "NK302"
SEVERITY = "info"
SUMMARY = "The Service has session affinity, and what nodes remember is in no dump."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    for way in live(trace):
        for node, chooser, remembered, key in _remembering(trace, way):
            seconds, at = _rule(world, node, key.version, chooser)
            if seconds is None and port is not None and port.affinity_seconds is not None:
                seconds = str(port.affinity_seconds)
            service = service_name(trace, chooser.detail, remembered.detail) or "the Service"
            last = f" for {seconds} s" if seconds else ""
            yield Finding(
                CODE,
                SEVERITY,
                f"{node} remembers {key}{last} after its last connection to {service} and sends it to the same "
                "endpoint again",
                places(at, remembered),
                "The odds hold for a client that the node does not remember. Clients behind one address (a proxy, "
                "a NAT gateway, another node) are one client to it; spread those by a cookie in an HTTP proxy "
                "instead.",
                proven([way]),
            )


def _remembering(trace: Trace, way: Way) -> Iterator[tuple[str, Step, Step, Addr]]:
    """(node, step that chose the endpoint, step that remembers the client, the address it remembers)."""
    chooser: Step | None = None
    for hop, step in steps(way):
        if target(step.detail).startswith("KUBE-SEP-"):
            chooser = step
        elif chooser is not None and step.detail is not None and target(step.detail) == "DNAT":
            if any(m.module == "recent" for m in step.detail.matches) and option(step.detail, "--set") is not None:
                before = [r.after for r in way.rewrites if r.node != hop.node and _earlier(way, r.node, hop.node)]
                key = before[-1] if before and before[-1] is not None else trace.flow.packet.src
                yield hop.node, chooser, step, key
            chooser = None


def _earlier(way: Way, a: str, b: str) -> bool:
    nodes = [hop.node for hop in way.hops]
    return nodes.index(a) < nodes.index(b)


def _rule(world: World, node: str, family: int, chooser: Step) -> tuple[str | None, At | None]:
    """(how many seconds a client is remembered, the rule that says so)."""
    for table in tables(world.nodes.get(node), family, "nat"):
        chain = table.chains.get(chooser.chain)
        for rule in chain.rules.mentioning("--rcheck") if chain is not None else ():
            seconds = option(rule, "--seconds")
            return (seconds.values[0] if seconds is not None else None), rule.at
    return None, None
