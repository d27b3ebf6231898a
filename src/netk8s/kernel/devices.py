"""The devices of a node as trees, which pod hangs on which of them, and what that means for a Service's packets.

Sources: Linux drivers/net/veth.c, macvlan.c, ipvlan/ipvlan_core.c and ipvlan_l3s.c, net/bridge/br_forward.c (should_deliver),
br_netfilter_hooks.c, drivers/net/dummy.c, vrf.c; Documentation/networking/ipvlan.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from netk8s.kernel import attachment, mtu
from netk8s.kernel.attachment import Attachments
from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Device, Hanging, Ipvlan, Link, Node, NodeDevices, Pod

_ENDED = frozenset({"Succeeded", "Failed"})
_SLAVES = {"macvlan": "macvlan", "macvtap": "macvlan", "ipvlan": "ipvlan", "ipvtap": "ipvlan", "vlan": "vlan"}
"""Kinds whose device in a pod sends by a parent on the node, by the name the kind goes by."""


def devices(
    netns: Netns,
    pods: Iterable[Pod],
    named: Mapping[str, str],
    attached: Attachments,
    service_ips: Iterable[Addr] = (),
) -> NodeDevices:
    """The trees of a node. ``named``: the pod that a device belongs to by its name, as a CNI made it."""
    hung: list[Hanging] = []
    mine = {f"{p.namespace}/{p.name}": p.ips for p in pods if _hangs(p, netns.name)}
    for pod, ips in sorted({**dict.fromkeys(netns.node.pods, ()), **mine}.items()):
        hung += _hanging(netns, pod, ips, named, attached)
    by_dev: dict[str, list[Hanging]] = {}
    for each in hung:
        if each.dev in netns.links:
            by_dev.setdefault(each.dev or "", []).append(each)
    virtual = frozenset(service_ips)
    seen: set[str] = set()
    trees = []
    roots = [link for link in netns.node.links if _below(netns, link) is None]
    # A device whose tree has no root (two that name each other) is one itself.
    for link in (*roots, *netns.node.links):
        if link.name not in seen:
            trees.append(_tree(netns, link, by_dev, virtual, seen))
    loose = tuple(each for each in hung if each.dev not in netns.links)
    return NodeDevices(netns.name, tuple(trees), loose, "link" in netns.node.covered)


def _hangs(pod: Pod, node: str) -> bool:
    return pod.node == node and not pod.host_network and pod.phase not in _ENDED


def _below(netns: Netns, link: Link) -> str | None:
    """The device that this one is shown on: its master before the parent it was made on."""
    return next((dev for dev in (link.master, link.parent) if dev in netns.links and dev != link.name), None)


def _tree(
    netns: Netns, link: Link, pods: Mapping[str, list[Hanging]], virtual: frozenset[Addr], seen: set[str]
) -> Device:
    seen.add(link.name)
    above = [
        _tree(netns, other, pods, virtual, seen)
        for other in netns.node.links
        if other.name not in seen and _below(netns, other) == link.name
    ]
    found = mtu.fit(netns, link)
    here = tuple(pods.get(link.name, ()))
    return Device(
        link=link,
        addresses=netns.addresses.get(link.name, ()),
        vlans=tuple(vlan for vlan in netns.node.port_vlans if vlan.dev == link.name),
        above=tuple(above),
        pods=here,
        fit=found,
        means=_means(netns, link, here, virtual),
    )


# ---------------------------------------------------------------- pods


def _hanging(
    netns: Netns, pod: str, ips: tuple[Addr, ...], named: Mapping[str, str], attached: Attachments
) -> Iterator[Hanging]:
    """What a pod hangs on: by a dump of its own namespace, by the name of a device, by routes and neighbours."""
    inside = netns.node.pods.get(pod)
    if inside is not None and inside.links:
        found = list(_by_dump(netns, pod, ips, inside))
        if found:
            yield from found
            return
    by_name = [netns.links[dev] for dev, owner in named.items() if owner == pod and dev in netns.links]
    if by_name:
        for link in by_name:
            kind = "bridge" if _kind(netns, link.master) == "bridge" else "routed"
            yield Hanging(pod, ips, link.name, kind, "name", f"{link.name} is named after it")
        return
    if not ips:
        yield Hanging(pod, ips, None, because="the API has no address of it, and no dump was taken inside it")
        return
    yield _by_route(netns, pod, ips, attached)


def _by_dump(netns: Netns, pod: str, ips: tuple[Addr, ...], inside: Node) -> Iterator[Hanging]:
    for link in inside.links:
        kind = _SLAVES.get(link.kind, link.kind)
        if link.name == "lo" or link.parent is not None or kind not in ("", "veth", *_SLAVES.values()):
            continue  # made inside the pod, on another device of its own or on none
        if not kind and "link" not in inside.covered:
            continue
        host = _other_end(netns.node.links, link)
        dev = host.name if host is not None else None
        if kind == "veth" and host is not None:
            kind = "bridge" if _kind(netns, host.master) == "bridge" else "routed"
        because = f"a dump of its own network ({link.at})"
        if host is None and kind:
            because += f"; device {link.peer_index} of the node, which {link.name} belongs to, is in no dump"
        addresses = tuple(address for address in inside.addresses if address.dev == link.name)
        own = tuple(address.ip for address in addresses if not address.ip.is_link_local)
        words = _service_words(netns, kind or "device", dev, link.mode, alone=_alone(link))
        yield Hanging(pod, own or ips, dev, kind or "device", "dump", because, link, addresses, words)


def _other_end(host: Iterable[Link], inner: Link) -> Link | None:
    """The device of the node that a pod's device is the other end of, or was made on."""
    for link in host:
        if inner.peer_index is None or link.index != inner.peer_index:
            continue
        if inner.kind == "veth":
            return link if link.kind == "veth" and link.peer_index == inner.index else None
        # A slave of ipvlan has its parent's MAC address: another one says that it is a device of another namespace.
        return None if inner.kind in ("ipvlan", "ipvtap") and inner.mac != link.mac else link
    return None


def _by_route(netns: Netns, pod: str, ips: tuple[Addr, ...], attached: Attachments) -> Hanging:
    """What the node's routes and neighbours, and those of other nodes, tell of a pod that nothing else tells of."""
    why = ""
    for ip in ips:
        found = attached.of(netns, ip)
        if found.dev is None:
            why = why or found.why
        elif found.port is not None:
            because = f"{found.dev} learnt the MAC address of its neighbour {ip} on {found.port}"
            if sum(link.master == found.dev for link in netns.node.links) == 1:
                because = f"a route leads to {ip} by {found.dev}, whose only port is {found.port}"
            return Hanging(pod, ips, found.port, "bridge", "neighbour", because)
        elif found.kind == attachment.BRIDGE:
            because = f"a route leads to {ip} by {found.dev}; behind which of its ports is in no dump"
            return Hanging(pod, ips, found.dev, "bridge", "route", because)
        elif found.shared:
            because = found.because
            if found.doubts:
                because += f"; {' or '.join(attachment.WORDS[d] for d in found.doubts)} is not ruled out"
            kind, _, mode = found.kind.partition("-")
            words = _service_words(netns, kind, found.dev, mode, alone=bool(found.apart))
            return Hanging(pod, ips, found.dev, attachment.WORDS[found.kind], "conclusion", because, means=words)
        else:
            return Hanging(pod, ips, found.dev, found.kind, "route", f"a route leads to {ip} by {found.dev}")
    return Hanging(pod, ips, None, because=why)


# ---------------------------------------------------------------- what it means


def _service_words(netns: Netns, kind: str, dev: str | None, mode: str | None, *, alone: bool) -> str:
    """What a pod's own device means for what it sends to a ClusterIP, in one clause.

    Of a veth device that is said once, of the bridge or of the device that it hangs on. ``alone``: it is kept from the
    other slaves of its parent.
    """
    if kind in ("bridge", "routed", "veth"):
        return ""
    there = "OUTPUT and POSTROUTING of " + netns.name
    if kind == "ipvlan" and mode == "l3":
        return f"what it sends passes {there}, so ClusterIPs are translated; the answers go past them and are not"
    if kind == "ipvlan" and mode == "l3s":
        return f"what it sends passes {there}, what it gets passes INPUT: ClusterIPs are translated both ways"
    past = f"what it sends goes past the rules of {netns.name}: ClusterIPs are not translated for it"
    if kind not in ("macvlan", "ipvlan", attachment.LAYER2):
        return past
    parent = dev or "its parent"
    also = f"; pods on {parent} do not reach each other directly" if alone else ""
    return f"{past}; it and the node do not reach each other by {parent}{also}"


def _alone(link: Link) -> bool:
    """Whether a slave is kept from the others of its parent."""
    own = isinstance(link.detail, Ipvlan) and (link.detail.private or link.detail.vepa)
    return own or link.mode in ("private", "vepa")


def _means(netns: Netns, link: Link, pods: tuple[Hanging, ...], virtual: frozenset[Addr]) -> str:
    """What a device means for Services, in one clause; "" where that goes without saying."""
    own = [address.ip for address in netns.addresses.get(link.name, ())]
    if link.kind == "bridge" and any(other.master == link.name for other in netns.node.links):
        return _of_bridge(netns, link)
    if link.master is not None and _kind(netns, link.master) == "bridge":
        return _of_port(netns, link)
    if link.kind == "dummy" and virtual.intersection(own):
        return "holds Service addresses: packets to them stay on the node, for IPVS or a process that listens there"
    if link.kind == "dummy":
        return "what is sent by it is swallowed" + ("; its addresses are the node's" if own else "")
    if link.kind == "tun":
        return "a process of the node takes what is sent by it; where that goes is in no dump"
    if any(pod.kind == "routed" for pod in pods):
        return f"what its pod sends passes the rules of {netns.name}, PREROUTING first"
    return ""


def _of_bridge(netns: Netns, link: Link) -> str:
    passes = netns.bridge_netfilter(4, link.name)
    sends = f"what pods on it send to a ClusterIP passes the rules of {netns.name}"
    if passes is None:
        return f"{sends}; whether what they send each other does (bridge-nf-call-iptables) is in no dump"
    if passes:
        return f"{sends}; so does what they send each other (bridge-nf-call-iptables)"
    return f"{sends}; their answers to each other do not (bridge-nf-call-iptables is 0) and stay untranslated"


def _of_port(netns: Netns, link: Link) -> str:
    said = []
    if link.port_state in ("disabled", "blocking", "listening"):
        said.append(f"port is {link.port_state}: nothing passes it")
    passes = netns.bridge_netfilter(4, link.master)
    if link.hairpin is False and passes is not False:
        when = "" if passes else " if frames pass iptables"
        said.append(f"no hairpin mode: its pod does not reach itself through a Service{when}")
    if link.isolated:
        said.append("isolated: frames to other isolated ports are dropped")
    return "; ".join(said)


def _kind(netns: Netns, dev: str | None) -> str:
    link = netns.links.get(dev or "")
    return link.kind if link is not None else ""
