"""A node's rules and the cluster's EndpointSlices do not say the same.

What it sees
------------
A rule or an IPVS virtual server on the packet's way that translates to an address that no
EndpointSlice of the Service has, or ready endpoints that the node's rules do not know. Only
where the Services and EndpointSlices are in the dump, and only where no traffic policy or
topology hint leaves endpoints out on purpose.

Why it matters
--------------
kube-proxy writes the rules from the EndpointSlices. If they differ, it is stopped, cannot reach
the API, or fails to write; or rules of another backend or an older kube-proxy are in its way.
Packets go to addresses that nobody has, or that by now belong to someone else. Where a rule that
is not kube-proxy's translates before it (a hostPort of the same number, a firewall), the Service
is never asked.

Example
-------
  NK206 error  worker-2 translates 10.0.0.12:30000 to 10.244.1.9:80, which is no endpoint of
               default/shop
     worker-2.iptables-save:91

What to do
----------
See whether kube-proxy runs on that node and what it logs; restarting it writes all rules anew
and does not break established connections. If rules are left over from another mode or from the
other iptables backend, remove them with `kube-proxy --cleanup` of that mode or by a reboot, in
a maintenance window. A foreign rule has to go, or the Service to another port.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import (
    address,
    arrived,
    dialled,
    endpoints,
    ends,
    live,
    named,
    places,
    proven,
    service_port,
    short,
    steps,
    usable,
)
from netk8s.findings._translation import Translated, translation
from netk8s.model import Addr, Finding, Step, Trace, Way, World

CODE = "NK206"
SEVERITY = "warning"
SUMMARY = "The rules on the way and the EndpointSlices name different endpoints."

_REMEDY = (
    "See whether kube-proxy runs on {node} and what it logs; a restart writes the rules anew and keeps established "
    "connections. If the rules are another backend's or mode's, remove those with its kube-proxy --cleanup or a reboot."
)


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    if port is None or "endpoints" not in world.cluster.covered:
        return
    family = trace.flow.packet.family
    all_ = endpoints(world, port, family)
    exist = {(e.ip, e.port) for e in all_}
    used: dict[str, set[tuple[Addr, int | None]]] = {}
    local = "Local" in (port.external_policy, port.internal_policy)
    whole: dict[str, list[tuple[Way, Translated]]] = {}
    stale: dict[tuple[str, bool], list[tuple[Way, Step]]] = {}
    foreign: dict[tuple[str, Step, bool], list[Way]] = {}
    for way in live(trace):
        found = translation(way)
        where = (way.packet.dst, way.packet.dport)
        if found is None:
            other = _foreign(trace, way)
            if other is not None and where not in exist:
                foreign.setdefault((*other, arrived(way)), []).append(way)
            continue
        used.setdefault(found.node, set()).add(where)
        if found.everyone or (found.everyone is None and not local):
            whole.setdefault(found.node, []).append((way, found))
        if where not in exist:
            stale.setdefault((found.node, arrived(way)), []).append((way, found.step))
    name = f"{port.namespace}/{port.service}"
    for (node, step, fine), taken in foreign.items():
        yield Finding(
            CODE,
            SEVERITY if fine else "error",
            f"a rule of {node} that is not kube-proxy's takes {dialled(trace)} to {ends(taken)}, no endpoint of {name}: "
            f"{short(step.rule or '')}",
            places(step, f"service {name} ({port.at})" if port.at.origin else None),
            f"The rule is asked before those of kube-proxy. Find who made it (a pod with that hostPort, a firewall, a script), "
            f"and take it away or give {name} another port.",
            proven(taken),
        )
    for (node, fine), group in stale.items():
        yield Finding(
            CODE,
            SEVERITY if fine else "error",
            f"{node} translates {dialled(trace)} to {ends(way for way, _ in group)}, no endpoint of {name}",
            places(*(step for _, step in group), f"service {name} ({port.at})" if port.at.origin else None),
            _REMEDY.format(node=node),
            proven(way for way, _ in group),
        )
    ready = [e for e in usable(all_) if not e.terminating]
    # Up to 1.23 internalTrafficPolicy Local left endpoints out of the chain that has all of them otherwise.
    chosen = port.internal_policy == "Local" and trace.flow.packet.dst in port.cluster_ips
    for node, ways in whole.items():
        if chosen:
            break
        absent = [e for e in ready if (e.ip, e.port) not in used[node]]
        if absent and not any(e.hints for e in ready):
            ends_ = named((address(e.ip, e.port) for e in absent), "endpoints")
            resting = _resting(world, trace, node) >= {(e.ip, e.port) for e in absent}
            yield Finding(
                CODE,
                SEVERITY,
                f"{node} sends nothing new to {ends_} of {name}: weight 0"
                if resting
                else f"the rules of {node} do not know {ends_} of {name}",
                places(ways[0][1].choice, *(e.at for e in absent)),
                _REMEDY.format(node=node),
                proven(way for way, _ in ways),
            )


def _resting(world: World, trace: Trace, node: str) -> set[tuple[Addr, int | None]]:
    """The real servers of weight 0 that a node has for the address that was dialled."""
    packet, there = trace.flow.packet, world.nodes.get(node)
    return {
        (real.ip, real.port)
        for s in (there.virtual_servers if there is not None else ())
        if (s.ip, s.port, s.protocol) == (packet.dst, packet.dport, packet.protocol)
        for real in s.real if not real.weight
    }  # fmt: skip


def _foreign(trace: Trace, way: Way) -> tuple[str, Step] | None:
    """(node, rule) of the first translation, by a rule that is not kube-proxy's.

    A hostPort at an address of a load balancer may be how that one works (k3s: a pod on each node passes packets on).
    """
    for hop, step in steps(way):
        if step.rule is not None and any(name in ("dst", "dport") for name, _ in step.changes):
            by_host_port = step.chain.startswith(("CNI-DN-", "CNI-HOSTPORT-"))
            return None if by_host_port and trace.flow.kind != "nodeport" else (hop.node, step)
    return None
