"""How frames cross a bridge, and which addresses a pod asks its own link for.

Sources: Linux net/bridge/br_forward.c (should_deliver), br_input.c, br_netfilter_hooks.c.
"""

from __future__ import annotations

import ipaddress

from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Question


def same_subnet(netns: Netns, bridge: str, ip: Addr) -> bool:
    """Whether a pod on this bridge or parent device would send to ``ip`` directly and not through its gateway."""
    return any(
        ip in ipaddress.ip_network(f"{a.ip}/{a.prefixlen}", strict=False) and ip != a.ip
        for a in netns.addresses.get(bridge, ())
        if a.ip.version == ip.version and not (a.ip.version == 6 and a.ip.is_link_local)
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
