"""What the readers of iproute2's JSON share: type of service, IP protocols and prefixes as its lib prints them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from netk8s.decode._json import JsonObject, whole
from netk8s.model import PROTOCOL_NAMES, Addr, Net

# iproute2's lib/rt_names.c prints a dsfield by the name that etc/iproute2/rt_dsfield gives it, and by number else.
_DSFIELD = {
    "default": 0x00, "lowdelay": 0x10, "throughput": 0x08, "reliability": 0x04, "mincost": 0x02, "EF": 0xB8, "LE": 0x04,
    **{f"CS{n}": n << 5 for n in range(8)},
    **{f"AF{n}{m}": n << 5 | m << 3 for n in range(1, 5) for m in range(1, 4)},
}  # fmt: skip
# iproute2's lib/inet_proto.c takes the name that /etc/protocols has; that of 58 is not netfilter's.
_PROTOCOLS = {name: number for number, name in PROTOCOL_NAMES.items()} | {"ipv6-icmp": 58, "ipencap": 4, "ospfigp": 89}


def tos(item: JsonObject, key: str) -> int | None:
    """A type of service 0 to 255, None when absent or by a name of the host's own rt_dsfield file."""
    value = item.word(key)
    if value is None:
        return None
    found = _DSFIELD.get(value, whole(value))
    return found if found is not None and found <= 255 else None


def ip_protocol(item: JsonObject, key: str) -> int | None:
    """An IP protocol number by name, number or iproute2's ``ipproto-47``; None when absent."""
    value = item.word(key)
    if value is None:
        return None
    found = _PROTOCOLS.get(value, whole(value.removeprefix("ipproto-")))
    if found is None or found > 255:
        raise item.wrong(key, "an IP protocol")
    return found


def prefix(item: JsonObject, key: str, length: str = "") -> Net | None:
    """A prefix: ``10.0.0.0/8``, one host without a length, or the length in the member ``length``.

    None when absent or for the words that mean every address (``all``, ``any``, ``default``).
    """
    value = item.text(key)
    if value is None or value in ("all", "any", "default"):
        return None
    bits = item.number(length, 0, 128) if length else None
    try:
        return ip_network(value if bits is None or "/" in value else f"{value}/{bits}", strict=False)
    except ValueError:
        raise item.wrong(key, "an address or prefix") from None


def gateway(item: JsonObject) -> Addr | None:
    """The next hop: ``gateway``, or ``via`` with the host of the other family (RFC 5549)."""
    via = item.child("via")
    if via is None:
        return item.addr("gateway")
    host = via.need("host")
    try:
        return ip_address(host)
    except ValueError:
        # RTA_VIA can also name a link layer address (family "link", "mpls"); the device alone then decides.
        return None
