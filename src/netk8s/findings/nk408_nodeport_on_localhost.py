"""A NodePort dialled at a loopback address is not served, or its answer is discarded.

What it sees
------------
A node that dials 127.0.0.1 or ::1 with a port that is some Service's NodePort, where no rule
takes the packet or where routing discards it as martian because route_localnet is 0.

Why it matters
--------------
It worked in kube-proxy's iptables mode for years and people rely on it (registries at
localhost:NODEPORT). It needs route_localnet=1, which kube-proxy sets unless
--iptables-localhost-nodeports is false or --nodeport-addresses leaves loopback out. IPv6,
nftables and IPVS mode never had it. `netk8s check`, which asks for every address, tells it as info.

Example
-------
  NK408 error  worker-1 does not serve NodePort 30000 of default/shop on 127.0.0.1: the rule
               that takes NodePorts leaves 127.0.0.0/8 out
     worker-1.iptables-save:79

What to do
----------
Dial the node's own address, which works in every mode. --iptables-localhost-nodeports=true
brings it back for IPv4 in iptables mode; it sets route_localnet=1, which lets neighbours reach
what listens on 127.0.0.1 unless a rule such as KUBE-FIREWALL's stops them.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s import objects
from netk8s.findings import _modes, _translation
from netk8s.findings._reading import SOCKET, graded, places, proven, stops, sysctl
from netk8s.model import At, Finding, ServicePort, Trace, World

CODE = "NK408"
SEVERITY = "error"
UNASKED = "info"
SUMMARY = "A NodePort is not served at a loopback address."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    packet = trace.flow.packet
    asked = objects.of(world.cluster).with_node_port(packet.dport)
    port = next((s for s in asked if s.protocol == packet.protocol), None)
    for stop in stops(trace):
        localnet = "route_localnet" in stop.why
        if not localnet and not (stop.kind == SOCKET and packet.dst.is_loopback and port is not None):
            continue
        if not localnet and _translation.met(stop.way, "KUBE-NODEPORTS"):
            continue  # NK204 says why
        if localnet:
            why = stop.why.removeprefix(f"{stop.node}: ")
            evidence = [sysctl(world, stop.node, "net.ipv4.conf.all.route_localnet")]
        else:
            why, evidence = _unserved(world, trace, stop.node)
        yield Finding(
            CODE,
            graded(SEVERITY, [stop.way]),
            f"{stop.node} does not serve {_name(port, packet.dport)} on {packet.dst}: {why}",
            places(*evidence),
            f"Dial an address of {stop.node} instead of {packet.dst}. {_brings_back(world, trace, stop.node)}",
            proven([stop.way]),
        )


def _name(port: ServicePort | None, number: int | None) -> str:
    return f"NodePort {number}" + (f" of {port.namespace}/{port.service}" if port is not None else "")


def _brings_back(world: World, trace: Trace, node: str) -> str:
    family = trace.flow.packet.family
    found = _modes.modes(world.nodes.get(node), family)
    if family == 6 or (found and _modes.IPTABLES not in found):
        return "Nothing makes kube-proxy serve it, in any version: a program that needs it has to learn the address."
    return (
        "For IPv4 in iptables mode --iptables-localhost-nodeports=true serves it; that sets route_localnet=1, and "
        "neighbours may then reach what listens on 127.0.0.1."
    )


def _unserved(world: World, trace: Trace, node: str) -> tuple[str, list[At | None]]:
    family = trace.flow.packet.family
    rules = next(_translation.leading(world, node, family), None)
    if rules is not None:
        loopback = "127.0.0.0/8" if family == 4 else "::1"
        if any(f"! -d {loopback}" in rule.raw for rule in rules):
            return f"the rule that takes NodePorts leaves {loopback} out", [rules[0].at]
        return "the rules that take NodePorts name other addresses (--nodeport-addresses)", [r.at for r in rules[:4]]
    found = _modes.modes(world.nodes.get(node), family)
    if _modes.NFTABLES in found:
        return "nftables mode serves no NodePort on loopback addresses", [found[_modes.NFTABLES]]
    if _modes.IPVS in found:
        return "IPVS mode makes no virtual server for loopback addresses", [found[_modes.IPVS]]
    return "no rule takes it", []
