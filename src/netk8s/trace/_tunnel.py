"""The packet that a vxlan device puts around another one: it has a way of its own, and rules of its own.

Source: Linux drivers/net/vxlan/vxlan_core.c (vxlan_xmit_one): sent as a node's own UDP, with the inner packet's mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

from netk8s.kernel.netns import Netns
from netk8s.model import UDP, Addr, Link, Packet, Tunnel
from netk8s.trace import _sending
from netk8s.trace._state import DROPPED, UNREACHABLE, End, OnLink, Past, Walk


def lost(event: OnLink, link: Link, to_the_end: Callable[[Walk], Iterator[End]]) -> str:
    """Why what a vxlan device wraps around a packet does not come to the tunnel's other end, "" as far as is known."""
    tunnel, netns = link.detail, event.netns
    if link.kind != "vxlan" or not isinstance(tunnel, Tunnel) or tunnel.external or event.foreign:
        return ""
    remote = _remote(netns, link, tunnel, event.target)
    if remote is None or remote.is_multicast or not netns.routes_known(remote.version):
        return ""
    mark = event.branch.flight.packet.mark
    key = ("outer", link.name, remote, mark)
    if key not in netns.memo:
        own = tunnel.local or (IPv4Address(0) if remote.version == 4 else IPv6Address(0))
        outer = Packet(UDP, own, remote, None, tunnel.port or 4789, mark=mark)
        ends = [e for e in to_the_end(_sending.send(outer, netns, Past(event.past.flow))) if not e.branch.off_default]
        gone = [e for e in ends if e.verdict in (DROPPED, UNREACHABLE)]
        netns.memo[key] = (netns.node, gone[0].reason if gone and len(gone) == len(ends) else "")
    why = netns.memo[key][1]
    if not why:
        return ""
    port = tunnel.port or 4789
    return f"the packet that {link.name} of {netns.name} wraps around it (UDP to {remote}, port {port}) is lost: {why}"


def _remote(netns: Netns, link: Link, tunnel: Tunnel, target: Addr) -> Addr | None:
    """The other end for a next hop: by its MAC address in the fdb, else the one that the device is set to."""
    neighbour = netns.neighbour(target, link.name)
    if neighbour is not None and neighbour.mac is not None:
        for entry in netns.node.fdb:
            if entry.dev == link.name and entry.mac == neighbour.mac and entry.dst is not None:
                return entry.dst
    return tunnel.remote
