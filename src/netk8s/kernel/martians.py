"""Packets that the routing decision drops for their addresses: martians, and rp_filter.

Sources: Linux net/ipv4/route.c (ip_route_input_slow), net/ipv4/fib_frontend.c (fib_validate_source), net/ipv4/arp.c
(arp_process). IPv6 has none of them.
"""

from __future__ import annotations

from netk8s.kernel.flight import Conn, Flight, tuple_of
from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Packet


def martian(flight: Flight, netns: Netns, oif: str | None = "lo") -> str:
    """Why the routing decision drops a packet for its addresses, "" when it does not (ip_route_input_slow).

    ``oif``: the device it would leave by, "lo" for one that stays, None for one without a route, whose source is not
    looked at.
    """
    packet, iif = flight.packet, flight.iif
    if packet.family == 6 or iif is None or iif == "lo" or flight.looped:
        return ""
    localnet = netns.dev_setting("route_localnet", iif)
    if packet.dst.is_loopback and not localnet:
        return f"a packet to {packet.dst} came in by {iif} (martian destination; route_localnet is 0)"
    if packet.src.is_loopback and not localnet:
        return f"a packet from {packet.src} came in by {iif} (martian source; route_localnet is 0)"
    if not flight.src_known or oif is None:
        return ""
    return _bad_source(flight, netns, iif, oif)


def _bad_source(flight: Flight, netns: Netns, iif: str, oif: str) -> str:
    """fib_validate_source. Rules that ask for the incoming device are asked with ``oif`` on the way back."""
    packet, fib = flight.packet, netns.fib(4)
    own = f"a packet from {packet.src}, an address of {netns.name} itself, came in by {iif} (martian source)"
    accept_local = netns.dev_setting("accept_local", iif)
    strict = netns.dev_setting("rp_filter", iif)
    if not strict and (accept_local or not (fib.custom_rules or fib.custom_local_routes)):
        return own if not accept_local and fib.address_type(packet.src) == "local" else ""
    mark = packet.mark if netns.dev_setting("src_valid_mark", iif) else 0
    back = fib.lookup(
        packet.src, packet.dst, iif=oif, mark=mark, protocol=packet.protocol, sport=packet.dport, dport=packet.sport
    )
    if back.kind == "unknown":
        return ""
    if back.kind not in ("unicast", "local", "broadcast", "multicast", "anycast"):
        return f"rp_filter={strict} on {iif}: no route back to {packet.src}" if strict else ""
    if back.kind != "unicast" and not (back.kind == "local" and accept_local):
        return own if back.kind == "local" else f"{packet.src} is a {back.kind} address (martian source)"
    if any(hop.dev == iif for _, hop in back.ways) or not strict:
        return ""
    where = f"the route back to {packet.src} leaves by {back.ways[0][1].dev}" if back.ways else "another device"
    if strict == 1:
        return f"rp_filter=1 on {iif}: {where}"
    if any(address.ip.version == 4 for address in netns.addresses.get(iif, ())):
        return ""
    # Loose too: __fib_validate_source gives up on a device that has no address (no_addr).
    return f"rp_filter={strict} on {iif}, which has no address: {where}"


def arp_refused(netns: Netns, iif: str, asker: Addr, target: Addr) -> str:
    """Why a node does not answer ARP for an address of its own, "" when it does.

    arp_process looks for a route from the asker to the address as for a packet that came in: what rp_filter would drop
    is not answered either.
    """
    if target.version == 6:
        return ""
    request = Packet(0, asker, target)
    tuples = tuple_of(request)
    return martian(Flight(request, Conn("UNTRACKED", "ORIGINAL", tuples, tuples.reversed()), iif=iif), netns)
