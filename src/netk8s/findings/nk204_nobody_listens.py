"""The packet ends on a node where nobody listens on the port.

What it sees
------------
A packet that no rule translated, or that was translated to an address of a node, and that is
refused because no process listens there. If some Service has the port as its NodePort, it says
why the rules did not take it: the address is none that kube-proxy serves NodePorts on. A packet
to such an address that a rule of INPUT drops is told here too.

Why it matters
--------------
The refusal comes from the node's own kernel. Either the port is wrong, or the Service is not
served on that address, or the hostNetwork process that should listen does not. `netk8s check`
asks for every address of a node; at those but its main one it tells this as info.

Example
-------
  NK204 error  nobody listens on 10.0.0.11:30001 of worker-1, and no rule translates the
               packet
     worker-1.listening

What to do
----------
Check the port: `kubectl get svc -A` shows NodePorts. If the NodePort is right, look at
--nodeport-addresses of kube-proxy (nodePortAddresses): it limits NodePorts to some of the
node's addresses; widening it exposes every NodePort on the added ones. If the rules have the
NodePort and a chain behind it is empty or not reached, restart kube-proxy and find what flushed
the chain. If a hostNetwork pod should listen, see whether it runs and binds that address.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s import objects
from netk8s.findings import _modes, _translation
from netk8s.findings._reading import SOCKET, Stop, address, dialled, graded, places, proven, stops
from netk8s.model import At, Finding, ServicePort, Trace, World

CODE = "NK204"
SEVERITY = "error"
UNASKED = "info"
SUMMARY = "Nobody listens on the port, and no rule takes the packet elsewhere."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    packet = trace.flow.packet
    for stop in stops(trace):
        unserved = _translation.unserved(world, trace, stop)
        if (stop.kind != SOCKET and not unserved) or stop.back:
            continue
        port = _node_port(world, trace)
        if port is not None and packet.dst.is_loopback and not _translation.met(stop.way, "KUBE-NODEPORTS"):
            continue  # NK408 says why
        end = stop.way.packet
        where = f"{address(end.dst, end.dport)} of {stop.node}"
        translated = (end.dst, end.dport) != (packet.dst, packet.dport)
        if translated:
            summary = f"nobody listens on {where}, where {dialled(trace)} is translated to"
            remedy = "See whether the hostNetwork process that should listen runs, and which address and port it binds."
        elif port is not None:
            why, remedy = _not_taken(world, trace, stop)
            summary = (
                f"no rule of {stop.node} takes NodePort {packet.dport} of {port.namespace}/{port.service} on "
                f"{packet.dst} to an endpoint, and {_end(stop) if unserved else 'nobody listens there'}{why}"
            )
        else:
            summary = f"nobody listens on {where}, and no rule translates the packet"
            remedy = "Check the port: no Service has it as its NodePort, and no process of the node listens on it."
        yield Finding(
            CODE, graded(SEVERITY, [stop.way]), summary, places(*_evidence(world, stop, translated)), remedy, proven([stop.way])
        )  # fmt: skip


def _end(stop: Stop) -> str:
    step = stop.step
    where = f"{step.table} {step.chain}" if step is not None else "a rule"
    return f"{where} stops it"


def _not_taken(world: World, trace: Trace, stop: Stop) -> tuple[str, str]:
    """(why, what to do) where a NodePort is not translated."""
    unseen = _translation.untracked(stop.way, stop.node)
    if unseen is not None:
        return _translation.not_tracked(unseen, stop.node)
    leading = [rule for rules in _translation.leading(world, stop.node, trace.flow.packet.family) for rule in rules]
    rule = _translation.written(world, stop.node, trace.flow.packet, "KUBE-NODEPORTS")
    if rule is not None and (_translation.met(stop.way, "KUBE-NODEPORTS") or not leading):
        return _translation.leads_nowhere(rule, stop.node)
    if rule is None and any("--dst-type LOCAL" in each.raw for each in leading):
        return "", f"kube-proxy on {stop.node} has not written a rule for it: see whether it runs and what it logs."
    return "", (
        f"Dial another address of {stop.node}, or let kube-proxy serve this one: --nodeport-addresses "
        f"(nodePortAddresses) has to cover it, which exposes every NodePort on it.{_default(world, trace, stop)}"
    )


def _node_port(world: World, trace: Trace) -> ServicePort | None:
    packet = trace.flow.packet
    for port in objects.of(world.cluster).with_node_port(packet.dport):
        if port.protocol == packet.protocol:
            return port
    return None


def _default(world: World, trace: Trace, stop: Stop) -> str:
    """What a mode serves where --nodeport-addresses is not given, if that is less than every address."""
    found = _modes.modes(world.nodes.get(stop.node), trace.flow.packet.family)
    if _modes.NFTABLES in found:
        return " In nftables mode it is the node's primary addresses by default; in the other modes, all of them."
    if _modes.IPVS in found:
        return " In IPVS mode each address needs a virtual server, which kube-proxy makes when it sees the address."
    return ""


def _evidence(world: World, stop: Stop, translated: bool) -> Iterator[At | None]:
    if translated:
        for hop in stop.way.hops:
            yield from (s.at for s in hop.steps if any(name == "dst" for name, _ in s.changes))
    node = world.nodes.get(stop.node)
    listed = {s.at.origin for s in node.sockets if s.at.origin} if node is not None else set()
    yield from (At(origin) for origin in sorted(listed))
