"""Whether a device carries packets: switched on, and somebody at the other end of its line.

A route by a device without carrier stays (shown as linkdown), and what is sent by it is thrown away: nobody answers ARP.
A device that is switched off loses its routes. Source: Linux net/sched/sch_generic.c (noop_qdisc), net/core/dev.c
(__dev_queue_xmit), net/ipv4/fib_frontend.c (fib_disable_ip), include/uapi/linux/if.h (RFC 2863's states).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from netk8s.kernel.netns import Netns
from netk8s.model import Addr, Link, Question

_VIRTUAL = frozenset({"bridge", "dummy", "ifb", "nlmon"})


def lost(netns: Netns, dev: str | None) -> str:
    """Why what is sent by a device is gone and nothing comes in by it, "" where it carries or no dump tells."""
    link = netns.links.get(dev or "")
    return _dead(link, netns.name) if link is not None else ""


def cut_off(netns: Netns) -> str:
    """Why nothing comes to a node at all: each device that it has an address on for others, and that is no bridge's."""
    outward = [
        link
        for link in netns.node.links
        if link.kind not in _VIRTUAL
        and link.name != "lo"
        and any(a.scope == "global" for a in netns.addresses.get(link.name, ()))
    ]
    whys = [_dead(link, netns.name) for link in outward]
    return whys[0] if whys and all(whys) else ""


def of_pod(netns: Netns, bridge: str, port: str | None, pod: Addr, ips: Iterable[Addr] = ()) -> Question | str | None:
    """Why a pod's port of a bridge carries nothing, a question where no dump tells which port is its, None where it does.

    ``port``: its port, None when no dump tells; ``ips``: all of the pod's addresses. A bridge forgets what is behind a
    port that is down, so the port is one of those behind which nobody else is known to be.
    """
    heard = {n.ip: n.mac for n in netns.node.neighbours if n.dev == bridge and n.mac}
    own = {heard[ip] for ip in (pod, *ips) if ip in heard}
    port = port or next((found for mac in own if (found := netns.port_of(mac, bridge)) is not None), None)
    if port is not None:
        return lost(netns, port) or None
    ports = [link for link in netns.node.links if link.master == bridge and link.kind == "veth"]
    if not any(_dead(link, netns.name) for link in ports):
        return None
    others = _of_others(netns, bridge, heard.values(), own)
    left = [link for link in ports if link.name not in others]
    down = [link.name for link in left if _dead(link, netns.name)]
    if not down:
        return None
    if len(down) == len(left):
        return f"the port of {bridge} on {netns.name} for {pod} is down ({_names(down)})"
    some = _names(down)
    return Question(
        f"{netns.name}:carrier:{bridge}:{pod}",
        f"the port of {bridge} on {netns.name} for {pod} is none of those that are down ({some})",
        f"the port of {bridge} on {netns.name} for {pod} is down ({some})",
        default=True,
    )


def _of_others(netns: Netns, bridge: str, heard: Iterable[str], own: Collection[str]) -> set[str | None]:
    """The ports behind which somebody else is: a MAC address that is not the pod's, or that is another address's."""
    if not own:
        return {netns.port_of(mac, bridge) for mac in heard}
    learnt = (e for e in netns.node.fdb if e.dst is None and not {"permanent", "self"} & set(e.flags))
    return {entry.dev for entry in learnt if entry.mac not in own}


def _dead(link: Link, node: str) -> str:
    if link.carries:
        return ""
    return f"{link.name} of {node} {f'has no carrier (state {link.state})' if link.up else 'is switched off'}"


def _names(names: Iterable[str]) -> str:
    all_ = list(names)
    return ", ".join(all_[:3]) + (f" and {len(all_) - 3} more" if len(all_) > 3 else "")
