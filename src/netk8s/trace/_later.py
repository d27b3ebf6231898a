"""What becomes of a TCP client's next packet, once the answer has come: the first one that carries no SYN.

No nat rule is asked for it, so no mark of one sends it another way; the filter's rules see an established connection, and
a node that the answer did not pass sees none.

Sources: Linux net/netfilter/nf_conntrack_proto_tcp.c (tcp_conntracks: an ACK behind a SYN alone is invalid), nf_nat_core.c
(nf_nat_inet_fn, nf_nat_oif_changed).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from netk8s.kernel.flight import Conn
from netk8s.model import TCP, Choice, Way
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
    ends = [end for end in walk if _against(end.branch.choices) <= _against(way.choices)]
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
    heard = _errors.told(scene, heard, end, end.told) if end.told is not None else heard
    why = heard.reason
    if unheard := ", ".join(dict.fromkeys(name for name, conn in entries if conn.state == "INVALID")):
        return heard.verdict, (
            f"the way there leads over {unheard} and the way back does not (asymmetric): the client's next packet is "
            f"invalid to {unheard}, {why}"
        )
    return heard.verdict, f"the client's next packet does not come to where the first one came: {why}"


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
