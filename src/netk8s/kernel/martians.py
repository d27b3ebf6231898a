"""Packets that the routing decision drops for their addresses: martians, and rp_filter.

Sources: Linux net/ipv4/route.c (ip_route_input_slow), net/ipv4/fib_frontend.c (fib_validate_source). IPv6 has neither.
"""

from __future__ import annotations

from netk8s.kernel.flight import Flight
from netk8s.kernel.netns import Netns


def martian(flight: Flight, netns: Netns) -> str:
    """Why the routing decision drops a packet for its addresses, "" when it does not (ip_route_input_slow)."""
    packet, iif = flight.packet, flight.iif
    if packet.family == 6 or iif is None or iif == "lo" or flight.looped:
        return ""
    localnet = netns.dev_setting("route_localnet", iif)
    if packet.dst.is_loopback and not localnet:
        return f"a packet to {packet.dst} came in by {iif} (martian destination; route_localnet is 0)"
    if packet.src.is_loopback and not localnet:
        return f"a packet from {packet.src} came in by {iif} (martian source; route_localnet is 0)"
    if not flight.src_known:
        return ""
    accept_local = netns.dev_setting("accept_local", iif)
    fib = netns.fib(4)
    if fib.address_type(packet.src) == "local" and not accept_local:
        return f"a packet from {packet.src}, an address of {netns.name} itself, came in by {iif} (martian source)"
    strict = netns.dev_setting("rp_filter", iif)
    if not strict:
        return ""
    back = fib.lookup(
        packet.src, packet.dst, iif="lo", mark=packet.mark if netns.dev_setting("src_valid_mark", iif) else 0
    )
    if back.kind == "unknown":
        return ""
    if back.kind == "unicast" and any(hop.dev == iif for _, hop in back.ways):
        return ""
    if strict == 1:
        way = (
            f"the route back to {packet.src} leaves by {back.ways[0][1].dev}"
            if back.ways
            else f"no route back to {packet.src}"
        )
        return f"rp_filter=1 on {iif}: {way}"
    return "" if back.kind == "unicast" else f"rp_filter=2 on {iif}: no route back to {packet.src}"
