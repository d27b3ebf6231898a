"""How large the packets of a connection may be, and where they do not fit.

Sources: Linux net/ipv4/ip_forward.c (ip_exceeds_mtu), include/net/ip.h (ip_dst_mtu_maybe_forward: a route's own MTU is
its device's), net/ipv6/ip6_output.c (ip6_pkt_too_big), tcp_output.c
(tcp_current_mss): TCP sends what both ends take, other protocols what the sender's device takes, with DF set.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from netk8s.kernel import mtu
from netk8s.kernel.flight import Conn
from netk8s.model import TCP, Addr, Hop, TooLarge, Way
from netk8s.trace import _errors
from netk8s.trace._state import End, Past, Scene, forwards


def marked(scene: Scene, way: Way, answer: End, known: int) -> tuple[tuple[Hop, ...], tuple[Hop, ...]]:
    """The hops of a question and of its answer, those marked where packets of the connection may not fit.

    ``known``: so many entries of the answer's past are the question's.
    """
    back = answer.past.hops
    asker, other = _asker(scene, answer.past, way), _other(scene, way, back)
    if way.packet.protocol == TCP:
        if any(_clamps(hop) for hop in (*way.hops, *back)) or asker is None or other is None:
            return way.hops, back
        asker = other = min(asker, other)
    return (
        tuple(_each(scene, way.hops, answer.past, asker, known, answers=False)),
        tuple(_each(scene, back, answer.past, other, known, answers=True)),
    )


def _each(
    scene: Scene, hops: tuple[Hop, ...], past: Past, size: int | None, known: int, *, answers: bool
) -> Iterator[Hop]:
    for hop in hops:
        netns = scene.netns[hop.node]
        link = netns.links.get(hop.oif or "")
        largest = _smaller(mtu.takes(link, hop.wraps), hop.route_mtu) if link is not None else None
        if size is None or largest is None or size <= largest:
            yield hop
            continue
        entry, answer = _entry(past, hop.node, known, answers=answers)
        if not forwards(hop) or entry is None:
            yield hop
        else:
            sender = entry.reply.src if answer else entry.original.src
            untold = _errors.too_large_untold(scene, netns, past, entry, answer=answer)
            yield replace(hop, too_large=TooLarge(size, largest, sender, untold))
        size = largest


def _entry(past: Past, node: str, known: int, *, answers: bool) -> tuple[Conn | None, bool]:
    """(a node's entry of the connection, whether the packets in question are its answers)."""
    asked = next((conn for name, conn in past.entries[:known] if name == node), None)
    if asked is not None or not answers:
        return asked, answers
    return next((conn for name, conn in past.entries[known:] if name == node), None), False


def _asker(scene: Scene, past: Past, way: Way) -> int | None:
    flow = past.flow
    if flow.origin == "pod":
        return _of_pod(scene, flow.node, flow.packet.src)
    first = way.hops[0] if way.hops else None
    if first is None or flow.origin != "node":
        return _of(scene, first.node, first.iif) if first is not None else None
    return _smaller(_of(scene, first.node, first.oif), first.route_mtu)


def _other(scene: Scene, way: Way, back: tuple[Hop, ...]) -> int | None:
    reached = way.reached
    if reached is None or reached.node is None:
        return None
    if (pod := scene.pod_by_ip.get(reached.ip)) is not None and not pod.host_network:
        return _of_pod(scene, reached.node, reached.ip)
    return _smaller(_of(scene, back[0].node, back[0].oif), back[0].route_mtu) if back else None


def _of_pod(scene: Scene, node: str, ip: Addr) -> int | None:
    """The MTU of a pod's device, taken to be that of its other end or parent."""
    hung = scene.around.attachment(scene.netns[node], ip)
    return _of(scene, node, hung.port or hung.dev)


def _of(scene: Scene, node: str, dev: str | None) -> int | None:
    link = scene.netns[node].links.get(dev or "")
    return link.mtu if link is not None else None


def _smaller(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


def _clamps(hop: Hop) -> bool:
    return any(step.action.startswith("TCPMSS") or "maxseg size set" in (step.rule or "") for step in hop.steps)
