"""How many bytes a tunnel device puts around a packet, and so how large a packet it can carry whole.

Sources: Linux include/net/vxlan.h (vxlan_headroom), drivers/net/geneve.c, net/ipv4/ip_tunnel.c (ip_tunnel_bind_dev),
ip_gre.c, net/ipv6/ip6_tunnel.c, ip6_gre.c, sit.c, fou_core.c, drivers/net/wireguard/device.c (wg_setup), queueing.h.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Link, MtuFit, Tunnel

_IP = {4: 20, 6: 40}
_UDP, _ETHERNET, _GRE, _GRE_FIELD = 8, 14, 4, 4
_ENCAP_LIMIT = 8
_BEHIND_UDP = {"vxlan": 8 + _ETHERNET, "geneve": 8 + _ETHERNET, "bareudp": 0}
"""Header and inner Ethernet header; geneve's options, if a program adds any, are not in it."""
_WIREGUARD = 16 + 16  # type, receiver and counter; the authentication tag
_ENCAP = {None: 0, "fou": _UDP, "gue": _UDP + 4}
_V4 = frozenset({"ipip", "sit", "gre", "gretap"})
_V6 = frozenset({"ip6tnl", "ip6gre", "ip6gretap"})
_FRAMES = frozenset({"gretap", "ip6gretap"})


def overhead(link: Link, family: int) -> int | None:
    """Bytes that the device adds to an IP packet, with outer headers of IPv4 or IPv6 (``family``).

    0 for a device that wraps nothing, None for a kind whose overhead is not fixed (ESP, erspan) or not known.
    """
    if link.kind == "wireguard":
        return _IP[family] + _UDP + _WIREGUARD
    if not isinstance(link.detail, Tunnel):
        return None if link.kind in ("xfrm", "macsec", "ipsec", "gtp") else 0
    tunnel, extra = link.detail, _ENCAP.get(link.detail.encap)
    if link.kind in _BEHIND_UDP:
        return _IP[family] + _UDP + _BEHIND_UDP[link.kind]
    if (link.kind not in _V4 and link.kind not in _V6) or extra is None:
        return None
    size = _IP[family] + extra
    if "gre" in link.kind:
        size += _GRE + _GRE_FIELD * ((tunnel.id is not None) + tunnel.csum + tunnel.seq)
    if link.kind in _FRAMES:
        size += _ETHERNET
    if link.kind in _V6 and tunnel.encap_limit:
        size += _ENCAP_LIMIT
    return size


def outer_family(link: Link) -> int | None:
    """IPv4 or IPv6 outside, None where each packet decides (external) or no dump tells (wireguard)."""
    if link.kind in _V4 or link.kind in _V6:
        return 4 if link.kind in _V4 else 6
    if not isinstance(link.detail, Tunnel):
        return None
    ip = link.detail.remote or link.detail.local
    # A vxlan or geneve device without any address is of IPv4 (vxlan_nl2conf), unless each packet brings its own.
    return ip.version if ip is not None else None if link.detail.external else 4


def fit(netns: Netns, link: Link) -> MtuFit | None:
    """The largest packet that the device can carry unfragmented, by the MTU of the device below.

    None for a device that wraps nothing, and where the device below, its MTU or the overhead is not known.
    """
    family = outer_family(link)
    size = overhead(link, family) if family is not None else None
    if not size or family is None:
        return None
    below = [netns.links[dev] for dev in _below(netns, link) if dev in netns.links and dev != link.name]
    sized = [(each.mtu, each.name) for each in below if each.mtu is not None]
    if not sized:
        return None
    mtu, name = min(sized)
    # tnl_update_pmtu; pmtudisc is the default. vxlan, geneve and wireguard do not look.
    told = link.kind in ("ipip", "sit", "gre") and bool(link.info.get("pmtudisc", True))
    return MtuFit(max(mtu - size, 0), size, family, name, mtu, told)


def takes(link: Link, within: MtuFit | None) -> int | None:
    """The largest packet that the device takes; of a larger one the sender is told. ``within``: its :func:`fit`."""
    sizes = [link.mtu, within.mtu if within is not None and within.told else None]
    return min((size for size in sizes if size is not None), default=None)


def _below(netns: Netns, link: Link) -> Iterator[str]:
    """The devices that wrapped packets leave by: the one it is bound to, else by the routes to its other ends."""
    if link.parent is not None:
        yield link.parent
        return
    for remote in dict.fromkeys(_remotes(netns, link)):
        if netns.routes_known(remote.version):
            for _, hop in netns.fib(remote.version).lookup(remote, None, iif="lo").ways:
                if hop.dev is not None:
                    yield hop.dev


def _remotes(netns: Netns, link: Link) -> Iterator[Addr]:
    tunnel = link.detail
    if isinstance(tunnel, Tunnel) and tunnel.remote is not None:
        yield tunnel.remote
        return
    for entry in netns.node.fdb:
        if entry.dev == link.name and entry.dst is not None:
            yield entry.dst
    for route in netns.node.routes:
        for hop in route.nexthops:
            # The gateway of a route over a point-to-multipoint ipip or gre device is the other tunnel end.
            if hop.dev == link.name and hop.gateway is not None and link.kind in ("ipip", "gre", "sit"):
                yield hop.gateway
