"""How frames cross a bridge, and which addresses a pod asks its own link for.

Sources: Linux net/bridge/br_forward.c (should_deliver), br_input.c, br_netfilter_hooks.c.
"""

from __future__ import annotations

import ipaddress

from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Address, Question


def same_subnet(netns: Netns, bridge: str, ip: Addr) -> bool:
    """Whether a pod on this bridge or parent device would send to ``ip`` directly and not through its gateway."""
    return any(within(a, ip) for a in netns.addresses.get(bridge, ()))


def within(address: Address, ip: Addr) -> bool:
    """Whether an address other than ``ip`` has it in its subnet."""
    if address.ip.version != ip.version or address.ip == ip or (address.ip.version == 6 and address.ip.is_link_local):
        return False
    return ip in ipaddress.ip_network(f"{address.ip}/{address.prefixlen}", strict=False)


def on_network_of(netns: Netns, dev: str, other: Netns) -> tuple[str, ...]:
    """The devices by which another node is on the network of a device, by the subnets of their addresses."""
    return tuple(
        dict.fromkeys(
            address.dev
            for address in other.node.addresses
            if address.prefixlen < address.ip.max_prefixlen and same_subnet(netns, dev, address.ip)
        )
    )


def hairpin(netns: Netns, bridge: str, port: str | None) -> bool | Question:
    """Whether a bridge sends a frame back by the port it came in by."""
    ports = [link for link in netns.node.links if link.master == bridge]
    if port is not None:
        found = next((link for link in ports if link.name == port), None)
        if found is not None and found.hairpin is not None:
            return found.hairpin
    modes = {link.hairpin for link in ports}
    if modes == {True}:
        return True
    if modes == {False}:
        return False
    return Question(
        f"{netns.name}:hairpin:{bridge}:{port}",
        f"the pod's port of {bridge} on {netns.name} has hairpin mode",
        f"the pod's port of {bridge} on {netns.name} has no hairpin mode",
    )
