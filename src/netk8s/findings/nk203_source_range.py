"""The LoadBalancer admits only some source addresses, and the sender's is none of them.

What it sees
------------
A packet to a LoadBalancer address dropped because no range of loadBalancerSourceRanges holds
its source: it falls through KUBE-FW-… and meets the DROP in KUBE-PROXY-FIREWALL (kube-proxy
1.25 and later) or is sent to KUBE-MARK-DROP (up to 1.24), whose drop does not reach packets
that are forwarded: those leave the node untranslated. In IPVS mode the ranges are in the ipset
KUBE-LOAD-BALANCER-SOURCE-CIDR, in nftables mode in a chain firewall-….

Why it matters
--------------
The packet is dropped without a word. The ranges hold for the LoadBalancer address only: the
NodePort and the ClusterIP of the same Service stay open to everyone. And they hold for pods
too: a pod's address has to be in a range, even for the Service's own pods.

Example
-------
  NK203 warning  worker-1 does not admit 203.0.113.7 to 198.51.100.20:80: no range of
                 loadBalancerSourceRanges of default/shop holds it; they are 192.0.2.0/24
     worker-1.iptables-save:36, :88

What to do
----------
If the sender should be admitted, add its network to spec.loadBalancerSourceRanges; if a device
in front replaces addresses, it is that device's address that counts. Pods should dial the
ClusterIP. If the ranges are meant to protect the Service, close its NodePort as well:
allocateLoadBalancerNodePorts: false, where the load balancer does not need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.findings import _verdicts
from netk8s.findings._reading import (
    Stop,
    dialled,
    option,
    places,
    proven,
    service_name,
    service_port,
    stops,
    tables,
    target,
)
from netk8s.model import PROTOCOL_NAMES, At, Finding, NftRule, Trace, World

CODE = "NK203"
SEVERITY = "warning"
SUMMARY = "The sender is in none of the LoadBalancer's source ranges."
WANTED = "info"


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    for stop in stops(trace):
        if _verdicts.kind(stop) != _verdicts.RANGES:
            continue
        marker = _verdicts.asked_to_drop(stop)
        admitted = dict(_ranges(world, stop))
        service = service_name(trace, *(s.detail for s in (marker, stop.step) if s is not None)) or "the Service"
        holds = f"; they are {', '.join(admitted)}" if 0 < len(admitted) <= 6 else ""
        yield Finding(
            CODE,
            SEVERITY,
            f"{stop.node} does not admit {trace.flow.packet.src} to {dialled(trace)}: no range of "
            f"loadBalancerSourceRanges of {service} holds it{holds}",
            places(
                marker,
                stop.step,
                *admitted.values(),
                f"service {service} ({port.at})" if port is not None and port.at.origin else None,
            ),
            "Add the sender's network to spec.loadBalancerSourceRanges if it should be admitted; pods should dial "
            "the ClusterIP. The NodePort is not protected by the ranges: close it with "
            "allocateLoadBalancerNodePorts: false where the load balancer does not need it.",
            proven([stop.way]),
        )


def _ranges(world: World, stop: Stop) -> Iterator[tuple[str, At]]:
    """The sources that the Service's LoadBalancer address lets in, with their places, in any mode."""
    node = world.nodes.get(stop.node)
    step = stop.step
    if step is not None and step.nft is not None:
        yield from ((net, step.nft.at) for net in _not_dropped(step.nft))
        return
    packet = stop.way.packet
    for kept in node.sets if node is not None else ():
        if kept.name in ("KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-6-LOAD-BALANCER-SOURCE-CID"):
            start = f"{packet.dst},{PROTOCOL_NAMES.get(packet.protocol)}:{packet.dport},"
            yield from ((e.removeprefix(start), kept.at) for e in kept.entries if e.startswith(start))
    for hop in stop.way.hops:
        for each in hop.steps:
            name = target(each.detail)
            if not name.startswith("KUBE-FW-"):
                continue
            for table in tables(world.nodes.get(hop.node), packet.family, "nat"):
                for rule in table.chains[name].rules if name in table.chains else ():
                    source = option(rule, "-s")
                    if source is not None and not source.negated:
                        yield source.values[0], rule.at


def _not_dropped(rule: NftRule) -> Iterator[str]:
    """The networks of "ip saddr != { … } drop"."""
    found = re.search(r"saddr != \{([^}]*)\}|saddr != (\S+)", rule.raw)
    if found is not None:
        yield from (part.strip() for part in (found[1] or found[2]).split(",") if part.strip())
