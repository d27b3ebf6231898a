"""Every node in IPVS mode answers ARP for a LoadBalancer or external address of the LAN.

What it sees
------------
An address that was dialled, that a node in IPVS mode has on kube-ipvs0, that lies in the network
of another device of this node, and that this device answers ARP requests for: arp_ignore is 0.

Why it matters
--------------
kube-ipvs0 makes the address the node's own, and a Linux host answers ARP for any own address on
any device. So all nodes answer, and neighbours take whichever answer comes last. An announcer
(MetalLB in layer 2 mode, kube-vip) that means one node to answer is overridden: traffic flips
between nodes, connections break, and the health of the announcing node does not matter.

Example
-------
  NK526 warning  worker-1 answers ARP for 192.0.2.240 on eth0, as every node in IPVS mode
                 does: arp_ignore is 0
     worker-1/sysctl.txt:9, worker-1/ip-addr.json:4

What to do
----------
Set ipvs.strictARP: true in kube-proxy's configuration and restart it: it sets arp_ignore=1 and
arp_announce=2 for all devices. What relies on answers for addresses of other devices (some
routing daemons, hosts with several cards in one network) then has to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from netk8s.findings import _recorded
from netk8s.findings._modes import DEVICE
from netk8s.findings._reading import places
from netk8s.model import Address, Finding, Node, Trace, World

CODE = "NK526"
SEVERITY = "warning"
SUMMARY = "Nodes in IPVS mode answer ARP for virtual addresses of the LAN."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    dst = trace.flow.packet.dst
    if dst.version != 4:
        return
    for name in _recorded.nodes(trace):
        node = world.nodes.get(name)
        if node is None or not any(a.dev == DEVICE and a.ip == dst for a in node.addresses):
            continue
        beside = next((a for a in node.addresses if a.dev not in (DEVICE, "lo") and _holds(a, dst)), None)
        if beside is None or _ignores(node, beside.dev) != 0:
            continue
        setting = node.sysctls["net.ipv4.conf.all.arp_ignore"]
        yield Finding(
            CODE,
            SEVERITY,
            f"{name} answers ARP for {dst} on {beside.dev}, as every node in IPVS mode does: arp_ignore is 0",
            places(setting.at, beside.at),
            "Set ipvs.strictARP: true in kube-proxy's configuration, which sets arp_ignore=1 and arp_announce=2; "
            "announcers such as MetalLB need it.",
        )


def _holds(address: Address, dst: object) -> bool:
    return dst in ip_network((address.ip, address.prefixlen), strict=False)


def _ignores(node: Node, dev: str) -> int | None:
    """The kernel takes the larger one of the device's setting and that of all (IN_DEV_MAXCONF)."""
    values = [node.sysctls[n].value for n in _settings(dev) if n in node.sysctls]
    return max(map(int, values)) if len(values) == 2 and all(v.isdecimal() for v in values) else None


def _settings(dev: str) -> tuple[str, str]:
    return "net.ipv4.conf.all.arp_ignore", f"net.ipv4.conf.{dev}.arp_ignore"
