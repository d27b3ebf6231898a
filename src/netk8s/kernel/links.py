"""Where a pod hangs on its node, and how frames cross a bridge.

Sources: Linux net/bridge/br_forward.c (should_deliver), br_input.c, br_netfilter_hooks.c.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Question


@dataclass(frozen=True, slots=True)
class Attachment:
    """The host side of a pod: ``dev`` is the device its packets come in by, ``bridge`` whether that is a bridge.

    ``port`` is the bridge port, None when no dump tells. ``why`` is set, and ``dev`` None, when it is not known.
    """

    dev: str | None
    bridge: bool = False
    port: str | None = None
    why: str = ""


def attachment(netns: Netns, pod_ip: Addr) -> Attachment:
    """Where the pod with this address hangs, by the route to it."""
    family = pod_ip.version
    if not netns.routes_known(family):
        return Attachment(None, why=f"no dump has the IPv{family} routes of {netns.name}")
    found = netns.fib(family).lookup(pod_ip, None, iif="lo")
    dev = found.ways[0][1].dev if found.ways else None
    if found.kind != "unicast" or dev is None:
        return Attachment(None, why=f"{netns.name} has no route to its pod {pod_ip}")
    link = netns.links.get(dev)
    if link is not None and link.kind == "bridge":
        neighbour = netns.neighbour(pod_ip, dev)
        port = netns.port_of(neighbour.mac, dev) if neighbour is not None and neighbour.mac else None
        ports = [each.name for each in netns.node.links if each.master == dev]
        if port is None and len(ports) == 1:
            port = ports[0]
        return Attachment(dev, True, port)
    gateway = found.ways[0][1].gateway
    if gateway is not None:
        return Attachment(None, why=f"{netns.name} reaches its pod {pod_ip} through gateway {gateway}")
    on_link = any(
        pod_ip in ipaddress.ip_network(f"{a.ip}/{a.prefixlen}", strict=False)
        for a in netns.addresses.get(dev, ())
        if a.ip.version == family and a.prefixlen < a.ip.max_prefixlen
    )
    if link is not None and on_link:
        kind = link.kind or "physical device"
        return Attachment(
            None,
            why=f"pod {pod_ip} is in the subnet of {dev} ({kind}) of {netns.name}: it hangs on macvlan, ipvlan or the "
            "network itself, which this version does not follow",
        )
    return Attachment(dev)


def same_subnet(netns: Netns, bridge: str, ip: Addr) -> bool:
    """Whether a pod on this bridge would send to ``ip`` directly, over the bridge and not through its gateway."""
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
