"""What becomes of a TCP client's next packet, once the answer has come: the first one that carries no SYN.

No nat rule is asked for it, so no mark of one sends it another way; the filter's rules see an established connection, and
a node that the answer did not pass sees none.

Sources: Linux net/netfilter/nf_conntrack_proto_tcp.c (tcp_conntracks: an ACK behind a SYN alone is invalid), nf_nat_core.c
(nf_nat_inet_fn, nf_nat_oif_changed).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from netk8s.kernel.flight import Conn
from netk8s.model import TCP, Choice, Hop, Way
from netk8s.trace import _errors, _walk
from netk8s.trace._state import DELIVERED, DROPPED, REFUSED, UNKNOWN, UNREACHABLE, End, Scene


def lost(scene: Scene, way: Way, answer: End, known: int) -> tuple[str, str]:
    """(verdict, why) of a packet that does not come to where the first one came; "" where it does or nobody knows.

    What the client hears of it, its connect() or its next call reports (sk_err_soft, SO_ERROR).

    ``known``: so many entries of the answer's past are the question's.
    """
    flow, reached = answer.past.flow, way.reached
    if flow.packet.protocol != TCP or way.verdict != DELIVERED or reached is None:
        return "", ""
    entries = tuple(_entries(answer, known))
    if any(
        conn.ipvs is not None and (conn.state != "ESTABLISHED" or conn.ipvs.method != "masq") for _, conn in entries
    ):
        return "", ""
    flow = replace(flow, packet=flow.packet.replace(tcp_flags=frozenset({"ACK"})))
    walk = _walk.start(replace(scene, flow=flow), entries, way.choices)
    ends = _by_the_same_hops(way, [end for end in walk if _against(end.branch.choices) <= _against(way.choices)])
    there = (reached.ip, reached.port, reached.node)
    gone = [
        e for e in ends if e.verdict != UNKNOWN
        and (e.verdict != DELIVERED or e.reached is None or (e.reached.ip, e.reached.port, e.reached.node) != there)
    ]  # fmt: skip
    if not gone or len(gone) < len(ends):
        return "", ""
    end = gone[0]
    why = end.reason or f"it comes to {end.branch.flight.packet.dst}"
    heard = replace(way, verdict=end.verdict if end.verdict in (REFUSED, UNREACHABLE) else DROPPED, reason=why)
    if end.told is not None:
        some = list(_errors.told(scene, heard, end, end.told))
        heard = next((each for each in some if each.verdict != DROPPED), some[0])
    why = heard.reason
    unheard = list(dict.fromkeys(name for name, conn in entries if conn.state == "INVALID"))
    if unheard:
        names = ", ".join(unheard)
        passed, returned = [name for name, _ in entries], [hop.node for hop in answer.past.hops]
        because = (
            f"the way there leads over {names} and the way back does not (asymmetric)"
            if any(returned.count(name) < passed.count(name) for name in unheard)
            else f"{names} does not count the answer as one of the connection"
        )
        return heard.verdict, f"{because}: the client's next packet is invalid to {names}, {why}"
    return heard.verdict, f"the client's next packet does not come to where the first one came: {why}"


def _by_the_same_hops(way: Way, ends: list[End]) -> list[End]:
    """Those ends that keep to the way longest: of several next hops a connection has one, for it has one hash.

    Source: Linux net/ipv4/route.c (fib_multipath_hash), net/ipv6/route.c (rt6_multipath_hash).
    """
    first = [_sent(hop) for hop in way.hops]
    kept = [_shared(first, [_sent(hop) for hop in end.past.hops]) for end in ends]
    return [end for end, n in zip(ends, kept, strict=True) if n == max(kept, default=0)]


def _sent(hop: Hop) -> tuple[str, tuple[str, ...]]:
    return hop.node, tuple(step.action for step in hop.steps if step.hook == "routing")


def _shared(a: Sequence[object], b: Sequence[object]) -> int:
    return next((i for i, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))


def _entries(answer: End, known: int) -> Iterator[tuple[str, Conn]]:
    """The nodes' entries of the connection: established where the answer passed too, else none."""
    for name, conn in answer.past.entries[:known]:
        if conn.state == "NEW" and (name, conn.original) not in answer.past.heard:
            there = conn.original
            yield name, Conn("INVALID", "ORIGINAL", there, there.reversed())
        else:
            yield name, replace(conn, state="ESTABLISHED") if conn.state == "NEW" else conn


def _against(choices: tuple[Choice, ...]) -> set[Choice]:
    return {choice for choice in choices if choice.off_default}
