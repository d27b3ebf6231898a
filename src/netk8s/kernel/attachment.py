"""How a pod hangs on its node, and what that is concluded from where no dump shows it.

A pod's own device is in the pod's network namespace; where a dump was taken in there, it says. Its other end shows in
the node's routes when it is a bridge or a veth device. A macvlan or ipvlan device has no other end: what tells of it is
who answers ARP for the pod with which MAC address, which MAC addresses the parent device takes in, and which
connections the node's conntrack saw.

Sources: Linux drivers/net/macvlan.c (macvlan_open: dev_uc_add), drivers/net/ipvlan/ipvlan_main.c (slaves share the
parent's MAC address; l3 slaves have IFF_NOARP), ipvlan_core.c, ipvlan_l3s.c, Documentation/networking/ipvlan.rst.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from netk8s.kernel.netns import Netns
from netk8s.model import Addr, At, Cluster, ConntrackEntry, Ipvlan, Link, Macvlan, Neighbour, Question

BRIDGE, ROUTED, LINK = "bridge", "routed", "link"
MACVLAN, IPVLAN_L2, IPVLAN_L3, IPVLAN_L3S, LAYER2 = "macvlan", "ipvlan-l2", "ipvlan-l3", "ipvlan-l3s", "layer2"

ON_LINK = frozenset({MACVLAN, IPVLAN_L2, LAYER2})
"""The pod answers ARP by itself, and no hook of its node sees its packets."""
BY_ROUTE = frozenset({IPVLAN_L3, IPVLAN_L3S})
"""The pod answers no ARP; what it sends is routed by its node and passes OUTPUT and POSTROUTING there."""

WORDS: Mapping[str, str] = {
    MACVLAN: "macvlan",
    IPVLAN_L2: "ipvlan in mode l2",
    IPVLAN_L3: "ipvlan in mode l3",
    IPVLAN_L3S: "ipvlan in mode l3s",
    LAYER2: "macvlan or ipvlan in mode l2",
}


MOST_ENTRIES = 10_000
"""So many tracked connections of a node are looked at for a trace of ipvlan: any of a busy pod's would do."""


class Attachment(Struct, frozen=True):
    """The host side of a pod: ``dev`` is the device its packets come in by, or the parent of its own device.

    ``kind``: "bridge" (``port``: the bridge port, None when no dump tells), "routed" (a veth device with a route),
    "link" (something on the network that node and pod reach each other by), a key of WORDS, or "" when it is not
    known; then ``why`` says so and ``dev`` is None. ``because``: what a kind of WORDS was concluded from.
    ``doubts``: other kinds that the dumps do not rule out. ``proven``: a dump taken inside the pod says it; ``apart``
    then tells whether it is kept from the other slaves of ``dev``, and ``sources`` which MAC addresses it hears alone
    (macvlan, mode source), None for all.
    """

    kind: str
    dev: str | None
    port: str | None = None
    why: str = ""
    because: str = ""
    doubts: tuple[str, ...] = ()
    proven: bool = False
    apart: bool | None = None
    sources: tuple[str, ...] | None = None

    @property
    def shared(self) -> bool:
        """Whether the pod's device is a macvlan or ipvlan slave of ``dev``."""
        return self.kind in WORDS


def told(node: str, found: Attachment) -> str:
    """The sentence that names a conclusion."""
    return f"pods of {node} are taken to hang on {found.dev} by {WORDS[found.kind]}: {found.because}"


def doubt(node: str, found: Attachment, other: str) -> Question:
    """Whether it is another kind than the one concluded."""
    return Question(
        f"{node}:attachment:{found.dev}:{other}",
        f"pods of {node} hang on {found.dev} by {WORDS[other]}",
        f"pods of {node} do not hang on {found.dev} by {WORDS[other]}",
        default=False,
    )


def apart(node: str, found: Attachment) -> Question:
    """Whether two slaves of one parent reach each other: mode bridge does, private and vepa do not."""
    plugin = "macvlan" if found.kind in (MACVLAN, LAYER2) else "ipvlan"
    return Question(
        f"{node}:siblings:{found.dev}",
        f"pods on {found.dev} of {node} reach each other ({plugin}'s bridge mode)",
        f"pods on {found.dev} of {node} do not reach each other ({plugin} in mode private or vepa)",
        default=True,
    )


class Attachments:
    """The attachments of a cluster's pods: ``pods`` has the node of each address, ``serving`` whether a pod listens there."""

    def __init__(
        self, nodes: Mapping[str, Netns], pods: Mapping[Addr, str], serving: Callable[[Addr, int | None, int], bool]
    ) -> None:
        self.nodes, self.pods, self.serving = nodes, pods, serving
        self._known: dict[tuple[str, Addr], Attachment] = {}

    @classmethod
    def of_cluster(cls, nodes: Mapping[str, Netns], cluster: Cluster) -> Attachments:
        """Those of the pods that the API lists."""
        pods = {ip: p.node for p in cluster.pods if p.node is not None and not p.host_network for ip in p.ips}
        listening = {(e.ip, e.port, e.protocol) for e in cluster.endpoints}
        return cls(nodes, pods, lambda ip, port, protocol: (ip, port, protocol) in listening)

    def of(self, netns: Netns, pod_ip: Addr) -> Attachment:
        """How the pod with this address hangs on its node."""
        key = (netns.name, pod_ip)
        if key not in self._known:
            self._known[key] = self._find(netns, pod_ip)
        return self._known[key]

    def _find(self, netns: Netns, pod_ip: Addr) -> Attachment:
        inside = _inside(netns, pod_ip)
        if inside is not None:
            return inside
        family = pod_ip.version
        if not netns.routes_known(family):
            return Attachment("", None, why=f"no dump has the IPv{family} routes of {netns.name}")
        found = netns.fib(family).lookup(pod_ip, None, iif="lo")
        dev = found.ways[0][1].dev if found.ways else None
        if found.kind != "unicast" or dev is None:
            return Attachment("", None, why=f"{netns.name} has no route to its pod {pod_ip}")
        link = netns.links.get(dev)
        if link is not None and link.kind == "bridge":
            return Attachment(BRIDGE, dev, _port(netns, dev, pod_ip))
        gateway = found.ways[0][1].gateway
        if link is not None and link.kind in ("macvlan", "ipvlan") and link.parent is not None and gateway is None:
            return _beside(netns, link)
        on_link = gateway is None and any(pod_ip in net for net in _subnets(netns, dev, family))
        if gateway is None and (link is None or not on_link):
            return Attachment(ROUTED, dev)
        if link is None:
            return Attachment("", None, why=f"{netns.name} reaches its pod {pod_ip} by {dev}, which no dump describes")
        return self._shared(netns, pod_ip, dev, on_link, gateway)

    def _shared(self, netns: Netns, pod_ip: Addr, dev: str, on_link: bool, gateway: Addr | None) -> Attachment:
        """A pod that is reached over a device of the network: by macvlan, by ipvlan, or by nothing known."""
        if self._like is not None:
            kind, pod, at = self._like
            return Attachment(kind, dev, because=f"pod {pod} hangs so{_place(at)}")
        if on_link:
            told = self._by_mac(netns, pod_ip, dev)
            if told is not None:
                return told
            if why := self._elsewhere(netns, dev):
                return Attachment("", None, why=f"pod {pod_ip} is in the subnet of {dev} of {netns.name}, and {why}")
            silent = self._silent
            if silent is not None and not self._answering:
                return self._by_hooks(Attachment(IPVLAN_L3, dev, because=silent, doubts=(IPVLAN_L3S, LAYER2)))
            because = f"{pod_ip} is in the subnet of {dev}, and {netns.name} has no other device for pods"
            return Attachment(LAYER2, dev, because=because, doubts=(IPVLAN_L3, IPVLAN_L3S))
        reason = f"{netns.name} reaches its pod {pod_ip} through gateway {gateway}"
        if why := self._elsewhere(netns, dev):
            return Attachment("", None, why=f"{reason}, and {why}")
        if not self._sent_here(netns, pod_ip):
            return Attachment("", None, why=f"{reason}, and no other node has a route to it by {netns.name}")
        because = f"other nodes send {pod_ip} to {netns.name}, which has no route to it and no device for pods"
        return self._by_hooks(Attachment(IPVLAN_L3, dev, because=because, doubts=(IPVLAN_L3S,)))

    def _by_mac(self, netns: Netns, pod_ip: Addr, dev: str) -> Attachment | None:
        """Told apart by the MAC address that answers for the pod, or for another one, or that the parent takes in."""
        own = next((n for n in self._neighbours(pod_ip) if n[0].mac and n[1] != netns.name), None)
        mine = netns.neighbour(pod_ip, dev)
        if mine is not None and mine.mac is not None:
            return Attachment(LINK, dev)
        for neighbour, _ in [own] if own is not None else self._answering:
            where = self.nodes[self.pods.get(neighbour.ip, netns.name)]
            macs = {link.mac for link in where.node.links if link.mac}
            if neighbour.mac in macs:
                because = f"{neighbour.ip} answers ARP with the MAC address of {where.name}{_place(neighbour.at)}"
                return Attachment(IPVLAN_L2, dev, because=because)
            because = f"{neighbour.ip} answers ARP with a MAC address of its own{_place(neighbour.at)}"
            return Attachment(MACVLAN, dev, because=because)
        link = netns.links[dev]
        for entry in netns.node.fdb:
            taken_in = entry.dev == dev and entry.master is None and {"self", "permanent"} <= set(entry.flags)
            if taken_in and entry.mac != link.mac and not _multicast(entry.mac):
                because = f"{dev} takes in {entry.mac}, which is not its own MAC address{_place(entry.at)}"
                return Attachment(MACVLAN, dev, because=because)
        return None

    def _elsewhere(self, netns: Netns, dev: str) -> str:
        """Which other device of the node pods may hang on, in words, "" when there is none."""
        if "link" not in netns.node.covered:
            return "no dump has its devices"
        for link in netns.node.links:
            ports = any(each.master == link.name for each in netns.node.links)
            ends = link.kind in ("veth", "tun", "") and link.master is None and not netns.addresses.get(link.name)
            if link.name not in (dev, "lo") and ((link.kind == "bridge" and ports) or (ends and link.kind)):
                return f"it may hang on {link.name} instead"
        return ""

    def _by_hooks(self, found: Attachment) -> Attachment:
        """Modes l3 and l3s told apart by what conntrack saw: packets to an l3 pod pass no hook of its node."""
        for netns in self.nodes.values():
            entries = (entry for table in netns.node.conntrack for entry in table.connections)
            for entry in islice(entries, MOST_ENTRIES):
                kind = self._seen_by_hooks(netns, entry)
                if kind:
                    other = (IPVLAN_L3S if kind == IPVLAN_L3 else IPVLAN_L3,)
                    doubts = tuple(d for d in found.doubts if d not in (*other, kind))
                    passed = "passed" if kind == IPVLAN_L3S else "did not pass"
                    because = f"{found.because}; packets to them {passed} the node's rules{_place(entry.at)}"
                    return replace(found, kind=kind, because=because, doubts=doubts)
        return found

    def _seen_by_hooks(self, netns: Netns, entry: ConntrackEntry) -> str:
        here = netns.name
        there, back = entry.original, entry.reply
        replied = "UNREPLIED" not in entry.flags
        if replied and self.pods.get(back.dst) == here:
            return IPVLAN_L3S  # the answer to a pod came by
        translated = (back.src, back.sport) != (there.dst, there.dport)
        if replied and self.pods.get(back.src) == here and self.pods.get(there.src) != here:
            own = netns.fib(back.src.version).lookup(back.src, None, iif="lo")
            on_link = bool(own.ways) and own.ways[0][1].gateway is None
            if not translated or on_link:
                return IPVLAN_L3S  # the packet to a pod came by
        if not replied and self.serving(there.src, there.sport, entry.protocol) and self.pods.get(there.src) == here:
            return IPVLAN_L3  # the answer of a pod is the first that was seen of its connection
        return ""

    def _sent_here(self, netns: Netns, pod_ip: Addr) -> bool:
        mine = {address.ip for address in netns.node.addresses} | netns.own
        for other in self.nodes.values():
            if other.name != netns.name and other.routes_known(pod_ip.version):
                found = other.fib(pod_ip.version).lookup(pod_ip, None, iif="lo")
                if any(hop.gateway in mine for _, hop in found.ways):
                    return True
        return False

    def _neighbours(self, pod_ip: Addr) -> Iterator[tuple[Neighbour, str]]:
        for name, netns in self.nodes.items():
            yield from ((n, name) for n in netns.node.neighbours if n.ip == pod_ip)

    @cached_property
    def _foreign(self) -> tuple[tuple[Neighbour, str], ...]:
        """What nodes know of the pods of other nodes that are on their own link."""
        out = []
        for name, netns in self.nodes.items():
            for neighbour in netns.node.neighbours:
                owner = self.pods.get(neighbour.ip)
                link = netns.links.get(neighbour.dev)
                if owner not in (None, name) and owner in self.nodes and link is not None and link.kind != "bridge":
                    out.append((neighbour, name))
        return tuple(out)

    @cached_property
    def _answering(self) -> tuple[tuple[Neighbour, str], ...]:
        return tuple((n, name) for n, name in self._foreign if n.mac is not None)

    @cached_property
    def _like(self) -> tuple[str, str, At] | None:
        """The attachment of some pod that a dump was taken in: pods are taken to be attached alike."""
        for netns in self.nodes.values():
            for name, inside in netns.node.pods.items():
                for link in inside.links:
                    if kind := _slave(link):
                        return kind, name, link.at
        return None

    @property
    def _silent(self) -> str | None:
        for neighbour, name in self._foreign:
            if neighbour.silent:
                return f"{neighbour.ip} answers no ARP of {name}{_place(neighbour.at)}"
        return None


def _multicast(mac: str) -> bool:
    first = mac.split(":")[0]
    return len(first) != 2 or not all(c in "0123456789abcdefABCDEF" for c in first) or bool(int(first, 16) & 1)


def _place(at: At) -> str:
    return f" ({at})" if at.origin else ""


def _slave(link: Link) -> str:
    """The kind of a pod's own macvlan or ipvlan device, "" for any other."""
    if link.kind in ("macvlan", "macvtap"):
        return MACVLAN
    return {"l2": IPVLAN_L2, "l3": IPVLAN_L3, "l3s": IPVLAN_L3S}.get(link.mode or "", "") if "ipv" in link.kind else ""


def _inside(netns: Netns, pod_ip: Addr) -> Attachment | None:
    """What a dump taken inside the pod says of it."""
    for name, inside in netns.node.pods.items():
        dev = next((a.dev for a in inside.addresses if a.ip == pod_ip), None)
        link = next((link for link in inside.links if link.name == dev), None)
        kind = _slave(link) if link is not None else ""
        if link is None or not kind:
            continue
        parent = next((each.name for each in netns.node.links if each.index == link.peer_index), None)
        if parent is not None:
            detail = link.detail
            apart = detail.private or detail.vepa if isinstance(detail, Ipvlan) else link.mode not in (None, "bridge")
            because = f"the devices of pod {name} say so{_place(link.at)}"
            sources = detail.sources if isinstance(detail, Macvlan) and link.mode == "source" else None
            return Attachment(kind, parent, because=because, proven=True, apart=apart, sources=sources)
    return None


def passed_through(netns: Netns, dev: str) -> str | None:
    """The pod that gets every frame which comes in by a device, None where none does.

    A macvlan in mode passthru is the only one on its parent and has its MAC address (macvlan_handle_frame).
    """
    index = netns.links[dev].index if dev in netns.links else None
    for name, inside in netns.node.pods.items() if index is not None else ():
        if any(link.mode == "passthru" and link.peer_index == index and _slave(link) for link in inside.links):
            return name
    return None


def _beside(netns: Netns, link: Link) -> Attachment:
    """A node with a macvlan or ipvlan device of its own reaches pods by it: they are slaves of the same parent."""
    return Attachment(LINK, link.name) if netns.links.get(link.parent or "") else Attachment("", None, why=link.name)


def _subnets(netns: Netns, dev: str, family: int) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [
        ipaddress.ip_network(f"{a.ip}/{a.prefixlen}", strict=False)
        for a in netns.addresses.get(dev, ())
        if a.ip.version == family and a.prefixlen < a.ip.max_prefixlen
    ]


def _port(netns: Netns, bridge: str, pod_ip: Addr) -> str | None:
    neighbour = netns.neighbour(pod_ip, bridge)
    port = netns.port_of(neighbour.mac, bridge) if neighbour is not None and neighbour.mac else None
    ports = [each.name for each in netns.node.links if each.master == bridge]
    return ports[0] if port is None and len(ports) == 1 else port
