"""The packet that a tunnel device puts around another one: it has a way of its own, and rules of its own.

Sources: Linux drivers/net/vxlan/vxlan_core.c (vxlan_xmit_one) and geneve.c (geneve_get_v4_rt): sent as a node's own UDP,
with the inner packet's mark; net/ipv4/ip_tunnel.c (ip_tunnel_xmit), net/ipv6/ip6_tunnel.c: with the device's own mark, to
the next hop of the route where the device has no other end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from netk8s.kernel.netns import Netns
from netk8s.model import UDP, UNSPECIFIED, Addr, Link, Packet, Tunnel
from netk8s.trace import _sending
from netk8s.trace._state import DROPPED, UNREACHABLE, End, OnLink, Past, Walk

_IPIP, _IP6, _GRE = 4, 41, 47
_UDP_PORT: Mapping[str, int] = {"vxlan": 4789, "geneve": 6081}
_PROTOCOL: Mapping[str, int] = {
    "ipip": _IPIP, "sit": _IP6, "gre": _GRE, "gretap": _GRE, "ip6gre": _GRE, "ip6gretap": _GRE,
}  # fmt: skip
_BY_ROUTE = frozenset({"ipip", "gre"})
"""A device without another end sends to the next hop of the inner packet's route."""


def lost(event: OnLink, link: Link, to_the_end: Callable[[Walk], Iterator[End]]) -> str:
    """Why what a tunnel device wraps around a packet does not come to the tunnel's other end, "" as far as is known."""
    tunnel, netns = link.detail, event.netns
    if not isinstance(tunnel, Tunnel) or tunnel.external or tunnel.encap is not None or event.foreign:
        return ""
    outer = _outer(event, link, tunnel)
    if outer is None or not netns.routes_known(outer.family):
        return ""
    key = ("outer", link.name, outer)
    if key not in netns.memo:
        ends = [e for e in to_the_end(_sending.send(outer, netns, Past(event.past.flow))) if not e.branch.off_default]
        gone = [e for e in ends if e.verdict in (DROPPED, UNREACHABLE)]
        netns.memo[key] = (netns.node, gone[0].reason if gone and len(gone) == len(ends) else "")
    why = netns.memo[key][1]
    if not why:
        return ""
    what = f"UDP to {outer.dst}, port {outer.dport}" if outer.protocol == UDP else f"{link.kind} to {outer.dst}"
    return f"the packet that {link.name} of {netns.name} wraps around it ({what}) is lost: {why}"


def far_device(netns: Netns, link: Link, other: Netns) -> str | None:
    """The device of another node that unwraps what ``link`` sends there, None where it is not clear which."""
    key = ("far", link.name, other.name)
    if key not in netns.memo:
        netns.memo[key] = (other.node, _far_device(netns, link, other))
    found = netns.memo[key][1]
    return found if isinstance(found, str) else None


def _far_device(netns: Netns, link: Link, other: Netns) -> str | None:
    if link.kind == "wireguard":
        same = [each for each in other.links.values() if each.kind == link.kind]
    elif isinstance(link.detail, Tunnel):
        same = [each for each in other.links.values() if each.kind == link.kind and _paired(netns, link.detail, each)]
    else:
        return None
    # ip_tunnel_lookup: the device that is told most of both ends is first.
    most = max((_told(each) for each in same), default=0)
    best = [each for each in same if _told(each) == most]
    alike = [each for each in best if each.name == link.name]
    return (alike or best)[0].name if len(best) == 1 or alike else None


def _told(link: Link) -> int:
    ends = (link.detail.remote, link.detail.local) if isinstance(link.detail, Tunnel) else ()
    return sum(end is not None for end in ends)


def _paired(netns: Netns, here: Tunnel, far: Link) -> bool:
    """Whether a device takes what this one of ``netns`` sends: the same key, and each is the other's end or takes any."""
    there = far.detail
    if not isinstance(there, Tunnel) or here.id != there.id:
        return False
    taken = there.remote is None or there.remote.is_multicast or bool(netns.is_local(there.remote))
    return taken and (here.remote is None or here.remote.is_multicast or there.local in (None, here.remote))


def _outer(event: OnLink, link: Link, tunnel: Tunnel) -> Packet | None:
    """The packet that is sent, None where it is not known or goes to a group."""
    remote = _remote(event.netns, link, tunnel, event.target)
    if remote is None or remote.is_multicast:
        return None
    own = tunnel.local or UNSPECIFIED[remote.version]
    inner = event.branch.flight.packet
    if link.kind in _UDP_PORT:
        return Packet(UDP, own, remote, None, tunnel.port or _UDP_PORT[link.kind], mark=inner.mark)
    protocol = _PROTOCOL.get(link.kind)
    if link.kind == "ip6tnl":
        protocol = _IPIP if inner.family == 4 else _IP6
    # Its own mark (fwmark) is set by hand only; what routes or rules then say is not followed.
    return Packet(protocol, own, remote) if protocol is not None and not link.info.get("fwmark") else None


def _remote(netns: Netns, link: Link, tunnel: Tunnel, target: Addr) -> Addr | None:
    """The other end for a next hop: by its MAC address in vxlan's fdb, else the one that the device is set to."""
    neighbour = netns.neighbour(target, link.name) if link.kind == "vxlan" else None
    if neighbour is not None and neighbour.mac is not None:
        for entry in netns.node.fdb:
            if entry.dev == link.name and entry.mac == neighbour.mac and entry.dst is not None:
                return entry.dst
    if tunnel.remote is None and link.kind in _BY_ROUTE and target.version == 4:
        return target
    return tunnel.remote
