"""Who is asked by ARP, or by IPv6's neighbour discovery, on a link, and does not answer.

Source: Linux net/ipv4/arp.c (arp_process, arp_solicit), net/ipv6/ndisc.c (ndisc_solicit).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.kernel import links, martians
from netk8s.kernel.flight import Branch
from netk8s.kernel.netns import Netns
from netk8s.kernel.routing import select_address
from netk8s.model import Addr, NextHop, Packet, Question
from netk8s.trace import _discovery
from netk8s.trace._delivery import unresolved
from netk8s.trace._state import OnLink


def answers(branch: Branch, doubt: Question | None) -> Iterator[tuple[Branch, str]]:
    """The branch with why nobody answers, "" where somebody does: both, where that is in doubt."""
    if doubt is None:
        yield branch, ""
        return
    for known, there in branch.ask(doubt):
        yield there, "" if known else doubt.if_false


def mute(event: OnLink) -> str:
    """Why the next hop does not answer, by the sending node's own neighbour entry."""
    entry = unresolved(event.netns, event.dev or "", event.target) if not event.foreign else None
    if entry is None:
        return ""
    state = f"neighbour {entry.states[0]}, {entry.at}"
    return f"nobody answers for {event.target} on {event.dev} of {event.netns.name} ({state})"


def refused(event: OnLink, other: Netns, iif: str | None) -> Question | None:
    """Whether a node that does not answer ARP for its address is known all the same, from when it asked itself."""
    dev, packet, netns = event.dev or "", event.branch.flight.packet, event.netns
    known = None if event.foreign else netns.neighbour(event.target, dev)
    if iif is None or (known is not None and known.mac is not None):
        return None
    if packet.family == 6:
        return undiscovered(_solicitor(event), event.target, None if event.foreign else (netns, dev), (other, iif))
    asker: Addr | None = packet.src
    if not event.foreign and not netns.is_local(packet.src):
        # arp_solicit with arp_announce 0
        found, _ = select_address(netns.addresses, netns.devices, dev, event.target, scope="link")
        asker = found.ip if found is not None else None
    return _question(other, iif, asker, event.target, default=event.foreign or "neigh" not in netns.node.covered)


def refused_outside(netns: Netns, packet: Packet, back: NextHop) -> Question | None:
    """The same of a packet from outside: who sends it to the node is who the way ``back`` to its source leads to.

    A node that has the MAC address of its neighbour was asked by it or has asked it, so that one has the node's.
    """
    asker = back.gateway or packet.src
    if back.dev is None:
        return None
    known = netns.neighbour(asker, back.dev)
    if known is not None and known.mac is not None:
        return None
    target: Addr | None = packet.dst
    if not netns.is_local(packet.dst):
        target = next((a.ip for a in netns.addresses.get(back.dev, ()) if links.within(a, asker)), None)
    if packet.family == 6:
        return undiscovered(asker, target, None, (netns, back.dev)) if target is not None else None
    return _question(netns, back.dev, asker, target, default="neigh" not in netns.node.covered)


def of_own_pod(event: OnLink) -> Question | None:
    """The same of a pod that its own node asks for: the node's rules may keep the two apart."""
    netns, dev = event.netns, event.dev or ""
    known = netns.neighbour(event.target, dev)
    if event.foreign or event.target.version == 4 or (known is not None and known.mac is not None):
        return None
    return undiscovered(_solicitor(event), event.target, (netns, dev), None)


def of_gateway(netns: Netns, dev: str, pod: Addr, *, back: bool) -> Question | None:
    """Whether a pod knows its node, which does not answer, from when the node asked for it.

    Before an answer the node has asked, to deliver the question: then ARP is not needed. Discovery may be, for the node
    may have known the pod from when that one asked; what came last is in no dump.
    """
    own = [address for address in netns.addresses.get(dev, ()) if address.ip.version == pod.version]
    if pod.version == 6:
        gateway = next((a.ip for a in own if not a.ip.is_link_local), own[0].ip if own else None)
        return undiscovered(pod, gateway, None, (netns, dev), default=back) if gateway is not None else None
    gateway = next((a.ip for a in own if links.within(a, pod)), None)
    why = martians.arp_refused(netns, dev, pod, gateway) if gateway is not None and not back else ""
    if not why:
        return None
    return Question(
        f"{netns.name}:arp:{pod}",
        f"pod {pod} knows the MAC address of {gateway} from when {netns.name} asked for the pod's; {netns.name} does not "
        f"answer ARP for it: {why}",
        f"{netns.name} does not answer its pod {pod}'s ARP for {gateway}: {why}",
        default=True,
    )


def across_bridge(netns: Netns, bridge: str, pod: Addr, target: Addr) -> Question | None:
    """The same of two pods on one bridge, where br_netfilter shows its node's rules what goes between them."""
    return undiscovered(pod, target, None, None, (netns, bridge)) if pod.version == 6 else None


def undiscovered(
    asker: Addr,
    target: Addr,
    by: tuple[Netns, str] | None,
    owner: tuple[Netns, str] | None,
    across: tuple[Netns, str] | None = None,
    *,
    default: bool = False,
) -> Question | None:
    """Whether a neighbour is known although rules stop the discovery of it, from when it asked itself."""
    why = _discovery.stopped(asker, target, by, owner, across)
    if not why:
        return None
    return Question(
        f"discovery:{asker}:{target}",
        f"{asker} knows the MAC address of {target} from when it was asked by it; {why}",
        f"{asker} does not find {target}: {why}",
        default=default,
    )


def _solicitor(event: OnLink) -> Addr:
    """Who the node asks as: the packet's source if that is an address of the device, else its own of the link."""
    own = [address.ip for address in event.netns.addresses.get(event.dev or "", ()) if address.ip.version == 6]
    src = event.branch.flight.packet.src
    return src if event.foreign or src in own else next((ip for ip in own if ip.is_link_local), src)


def _question(netns: Netns, iif: str, asker: Addr | None, target: Addr | None, *, default: bool) -> Question | None:
    why = martians.arp_refused(netns, iif, asker, target) if asker is not None and target is not None else ""
    if not why:
        return None
    silent = f"{netns.name} does not answer ARP for {target}: {why}"
    return Question(
        f"{netns.name}:arp:{asker}:{target}",
        f"{asker} knows the MAC address of {target} from when {netns.name} asked for its own; {silent}",
        silent,
        default=default,
    )
