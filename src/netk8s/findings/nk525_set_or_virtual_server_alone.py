"""An IPVS virtual server without its ipset entry or its address, or the other way round.

What it sees
------------
A Service's address and port that were dialled at a node in IPVS mode, where its dumps have only
part of what belongs together: the virtual server, the entry in one of kube-proxy's sets
(KUBE-CLUSTER-IP, KUBE-LOAD-BALANCER, KUBE-EXTERNAL-IP, KUBE-NODE-PORT-…), and the address on
kube-ipvs0.

Why it matters
--------------
kube-proxy writes the three one after another. Without the virtual server the packet ends at the
node itself, where nobody listens. Without the entry nothing marks the packet for masquerade,
and from 1.26 on KUBE-IPVS-FILTER refuses it. Without the address the node does not take the
packet for its own and forwards it by its routes. It is what is left when kube-proxy fails half
way, when somebody ran `ipset flush`, `ipvsadm -C` or `ip addr flush`, or when dumps are of
different moments.

Example
-------
  NK525 warning  worker-1 has 10.96.0.30:80 as a virtual server and in none of kube-proxy's
                 ipsets
     worker-1/ipvsadm-save.txt:12

What to do
----------
Restart kube-proxy on the node: it writes all three anew and keeps connections. If they go again,
see which other program manages IPVS, ipsets or dummy devices there (NetworkManager, keepalived).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._modes import DEVICE, IPVS, modes
from netk8s.findings._reading import dialled, live, places, service_port
from netk8s.model import PROTOCOL_NAMES, At, Finding, IpSet, Node, Packet, ServicePort, Trace, World

CODE = "NK525"
SEVERITY = "warning"
SUMMARY = "What belongs together in IPVS mode is there in part only."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    packet = trace.flow.packet
    if port is None or packet.dst in port.lb_ips_proxy or packet.dst.is_loopback:
        return
    # The first node that a rule or a server could have taken the packet at.
    name = next((hop.node for way in live(trace) for hop in way.hops), "")
    node = world.nodes.get(name)
    if node is None or not {"ipset", "ipvs", f"rules{packet.family}"} <= node.covered:
        return
    if IPVS not in modes(node, packet.family):
        return
    virtual = packet.dst in (*port.cluster_ips, *port.external_ips, *port.lb_ips)
    if not virtual and not any(a.ip == packet.dst for a in node.addresses):
        return
    server = next(
        (s for s in node.virtual_servers if (s.ip, s.port, s.protocol) == (packet.dst, packet.dport, packet.protocol)),
        None,
    )
    names, entry = _names(packet, port)
    sets = [kept for kept in node.sets if kept.name in names]
    if not sets:
        return  # a dump without these sets does not tell
    kept = next((kept for kept in sets if entry in kept.entries), None)
    bound = not virtual or "addr" not in node.covered or any(a.ip == packet.dst for a in node.addresses)
    has: list[str] = []
    lacks: list[str] = []
    for there, words in (
        (server is not None, ("as a virtual server", "as no virtual server")),
        (kept is not None, (f"in ipset {kept.name}" if kept is not None else "", "in none of kube-proxy's ipsets")),
        (bound, (f"on {DEVICE}", f"not on {DEVICE}")),
    ):
        (has if there else lacks).append(words[0] if there else words[1])
    if (server is None and kept is None) or not lacks:
        return
    yield Finding(
        CODE,
        SEVERITY,
        f"{name} has {dialled(trace)} {has[0]} and {' and '.join(lacks)}",
        places(*_evidence(node, server.at if server is not None else None, kept)),
        f"Restart kube-proxy on {name}, which writes virtual server, ipsets and address anew and keeps connections; "
        "then see which other program manages them there.",
    )


def _names(packet: Packet, port: ServicePort) -> tuple[set[str], str]:
    """(the sets one of which has what was dialled, the entry as `ipset save` prints it)."""
    protocol = PROTOCOL_NAMES.get(packet.protocol, "")
    prefix = "KUBE-6-" if packet.family == 6 else "KUBE-"
    entry = f"{packet.dst},{protocol}:{packet.dport}"
    if packet.dst in port.cluster_ips:
        return {f"{prefix}CLUSTER-IP"}, entry
    if packet.dst in port.lb_ips:
        return {f"{prefix}LOAD-BALANCER"}, entry
    if packet.dst in port.external_ips:
        return {f"{prefix}EXTERNAL-IP", f"{prefix}EXTERNAL-IP-LOCAL"}, entry
    if protocol == "sctp":
        return {f"{prefix}NODE-PORT-SCTP-HASH"}, entry
    return {f"{prefix}NODE-PORT-{protocol.upper()}"}, str(packet.dport)


def _evidence(node: Node, server: At | None, kept: IpSet | None) -> Iterator[At | None]:
    yield server
    if kept is not None:
        yield kept.at
