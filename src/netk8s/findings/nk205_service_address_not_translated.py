"""A Service's address was dialled and no rule translates it.

What it sees
------------
A packet to an address that only kube-proxy gives a meaning to (a ClusterIP, a LoadBalancer or
external address) that leaves the node as it is, or that the network outside has no route for.
Where the cluster's objects are in the dump it says why: the Service has no such port, an ipMode
Proxy address is left to the load balancer, the address is of a Service that is gone, or it
means nothing outside the cluster; a rule keeps the packet from being tracked, so that nat rules
are not asked; or the rules have the address, and a chain on the way from there is empty. In
nftables and in IPVS mode kube-proxy refuses a port that a virtual address does not have
(cluster-ips-check, KUBE-IPVS-FILTER), and then the node answers.

Why it matters
--------------
A ClusterIP is on no device: without a rule nobody has it. The packet follows the default route
out of the node, and somewhere a router drops or refuses it, which looks like a firewall.

Example
-------
  NK205 error  no rule of worker-1 translates 10.96.0.30:81: default/shop has port 80/tcp, not
               81
     worker-1.iptables-save:77

What to do
----------
Dial a port that the Service has. From outside use its NodePort or LoadBalancer address; a route
for the Service range to a node works as well (say --via NODE to trace that), but then that node
is a single point of failure and masquerades every client. If the rules lack a Service that
exists, kube-proxy on that node is not up to date.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s import objects
from netk8s.findings import _translation, _verdicts
from netk8s.findings._reading import (
    OUTSIDE,
    UNTRANSLATED,
    dialled,
    endpoints,
    graded,
    places,
    proven,
    service_port,
    stops,
    tables,
    usable,
)
from netk8s.model import PROTOCOL_NAMES, Finding, Rule, ServicePort, Trace, World

CODE = "NK205"
SEVERITY = "error"
SUMMARY = "A Service's address was dialled and no rule translates it."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    packet = trace.flow.packet
    for stop in stops(trace):
        if stop.back or (stop.kind == UNTRANSLATED and (_empty(world, trace) or _verdicts.kind(stop))):
            continue  # NK201 tells of Services without endpoints, NK202 and NK203 of what is not let in
        if stop.kind == OUTSIDE:
            yield Finding(
                CODE,
                graded(SEVERITY, [stop.way]),
                f"{packet.dst} means something inside the cluster only, and {packet.src} is outside: no node sees "
                "the packet",
                places(*_objects(world, trace)),
                "Dial a NodePort, a LoadBalancer address or an ingress from outside. If your network does route "
                "the address to a node, say which with --via NODE.",
                proven([stop.way]),
            )
        elif _verdicts.kind(stop) == _verdicts.NO_PORT:
            why, remedy = _why(world, trace, stop.node)
            yield Finding(
                CODE,
                graded(SEVERITY, [stop.way]),
                f"{stop.node} refuses {dialled(trace)}, the address of a Service on a port that its rules do not "
                f"have{why}",
                places(stop.step, *_objects(world, trace)),
                remedy,
                proven([stop.way]),
            )
        elif stop.kind == UNTRANSLATED:
            unseen = _translation.untracked(stop.way, stop.node)
            rule = _translation.written(world, stop.node, packet, "KUBE-SERVICES")
            if unseen is not None:
                why, remedy = _translation.not_tracked(unseen, stop.node)
            elif rule is not None:
                why, remedy = _translation.leads_nowhere(rule, stop.node)
            else:
                why, remedy = _why(world, trace, stop.node)
            yield Finding(
                CODE,
                graded(SEVERITY, [stop.way]),
                f"no rule of {stop.node} translates {dialled(trace)}, and the packet leaves the node untranslated{why}",
                places(unseen, *(r.at for r in _rules(world, trace, stop.node)), *_objects(world, trace)),
                remedy,
                proven([stop.way]),
            )


def _ports(world: World, trace: Trace) -> list[ServicePort]:
    return list(objects.of(world.cluster).services_at(trace.flow.packet.dst))


def _empty(world: World, trace: Trace) -> bool:
    port = service_port(world, trace)
    if port is None or "endpoints" not in world.cluster.covered or trace.flow.packet.dst in port.lb_ips_proxy:
        return False
    return not usable(endpoints(world, port, trace.flow.packet.family))


def _objects(world: World, trace: Trace) -> Iterator[str]:
    for port in _ports(world, trace):
        if port.at.origin:
            yield f"service {port.namespace}/{port.service} ({port.at})"


def _rules(world: World, trace: Trace, node: str) -> list[Rule]:
    """The rules for this address on other ports."""
    dst = trace.flow.packet.dst
    out: list[Rule] = []
    for table in tables(world.nodes.get(node), dst.version, "nat"):
        chain = table.chains.get("KUBE-SERVICES")
        out.extend(chain.rules.mentioning(f"-d {dst}/") if chain is not None else ())
    return out[:4]


def _why(world: World, trace: Trace, node: str) -> tuple[str, str]:
    """(why no rule takes the packet, what to do)."""
    packet = trace.flow.packet
    ports = _ports(world, trace)
    port = service_port(world, trace)
    if not ports and "services" in world.cluster.covered:
        return (
            ": no Service has that address",
            "The Service may be gone, or re-created with another address; dial its name.",
        )
    if not ports:
        return "", f"See whether the Service exists, has that port, and whether kube-proxy on {node} is up to date."
    name = f"{ports[0].namespace}/{ports[0].service}"
    if port is None:
        have = sorted({f"{p.port}/{PROTOCOL_NAMES[p.protocol]}" for p in ports})
        protocol = PROTOCOL_NAMES.get(packet.protocol, str(packet.protocol))
        return f": {name} has {', '.join(have)}, not {packet.dport}/{protocol}", "Dial a port that the Service has."
    if packet.dst in port.lb_ips_proxy:
        return (
            f": {packet.dst} of {name} is of ipMode Proxy, which kube-proxy leaves to the load balancer",
            "The packet has to reach the load balancer: see where the node's route leads. Inside the cluster the "
            "ClusterIP is shorter.",
        )
    return (
        f", though {name} has it",
        f"kube-proxy on {node} has not written the rules: see whether it runs and what it logs.",
    )
