"""``ip -j neigh``: ARP and neighbour discovery entries (iproute2's ip/ipneigh.c, ``print_neigh``)."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._json import arrays, outer_keys
from netk8s.model import Coverage, Dump, Fact, Neighbour

NAME = "ip-neigh"
COMMAND = "ip -j neigh"


def sniff(dump: Dump) -> bool:
    """A JSON array of neighbours: an address with a state, a link layer address or the word proxy."""
    keys = outer_keys(dump, "[")
    return "dst" in keys and bool(keys & {"lladdr", "state", "proxy"}) and not keys & {"mac", "ifindex", "flags"}


def decode(dump: Dump) -> Iterator[Fact]:
    """One Neighbour per entry, after Coverage "neigh"; an entry of ``ip neigh show proxy`` has the state PROXY.

    Raises DecodeError, also for a dump of one device alone: such entries do not name it.
    """
    for at, items in arrays(dump, COMMAND):
        yield Coverage("neigh", at)
        for item in items:
            ip = item.addr("dst")
            if ip is None:
                raise item.wrong("dst", "an IP address")
            if not item.text("dev"):
                raise item.wrong("dev", f"the device; take the dump for all devices, with `{COMMAND}`")
            states = item.texts("state") or (("PROXY",) if item.present("proxy") else ())
            yield Neighbour(ip, item.need("dev"), item.text("lladdr"), states, at)
