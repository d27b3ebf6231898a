# SPDX-License-Identifier: GPL-2.0-only
"""Sends one probe, listens, and says what was seen: an observation (netk8s.dev/observation/v1)."""

from __future__ import annotations

import errno
import select
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from netk8s_probes import __version__, wire
from netk8s_probes.namespaces import entered
from netk8s_probes.plan import Place, Plan, Refused
from netk8s_probes.wire import Headers

SCHEMA = "netk8s.dev/observation/v1"
QUIET = 0.15
"""Seconds to go on listening behind an answer: other places may be a little later."""
SENDER = Place("")


@dataclass(frozen=True, slots=True)
class Caught:
    """A packet that came by: where, when, in which direction, and by which device."""

    place: Place
    time: float
    outgoing: bool
    device: str
    headers: Headers


def run(plan: Plan, timeout: float, source: str = "") -> dict[str, object]:
    """Sends the probe of a plan and returns the observation. Raises Refused where the kernel does not let it."""
    with ExitStack() as open_:
        listeners: dict[socket.socket, Place] = {}
        try:
            with entered(plan.namespace):
                sock = open_.enter_context(_port(plan))
                listeners[open_.enter_context(wire.listener(None))] = SENDER
                raw = open_.enter_context(wire.raw(plan.dst.version)) if plan.kind != "connect" else None
            for place in plan.places:
                with entered(place.namespace):
                    listeners[open_.enter_context(wire.listener(place.device))] = place
        except PermissionError:
            raise Refused("raw sockets need root (CAP_NET_RAW)") from None
        except OSError as error:
            raise Refused(f"cannot listen or send: {error.strerror}") from None
        began = time.time()
        caught: list[Caught] = []
        told = _send(plan, sock, raw)
        end = time.monotonic() + timeout
        answer: Caught | None = None
        hurried = False
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select(list(listeners), [], [], left)
            for one in ready:
                caught += _received(one, listeners[one])
            if answer is None and (answer := _answer(_ours(plan, caught))) is not None:
                end = min(end, time.monotonic() + QUIET)
            if told and not hurried:
                end, hurried = min(end, time.monotonic() + QUIET), True
        if raw is not None and plan.kind == "syn" and answer is not None and "S" in answer.headers.flags:
            with suppress(OSError):
                raw.sendto(wire.reset(plan), (str(plan.dst), 0))
        if raw is None and not told:
            told = _outcome(sock)
    return document(plan, caught, began, source, told)


def _port(plan: Plan) -> socket.socket:
    """A socket that holds the source port; for a connection it is the one that connects."""
    family = socket.AF_INET if plan.dst.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM if plan.kind in ("udp", "echo") else socket.SOCK_STREAM)
    if plan.kind != "echo":
        sock.bind(("", plan.sport))
    if plan.kind == "connect":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, plan.mss)
    sock.setblocking(False)
    return sock


def _send(plan: Plan, sock: socket.socket, raw: socket.socket | None) -> str:
    """Returns why the kernel would not send, or ""."""
    try:
        if raw is None:
            number = sock.connect_ex((str(plan.dst), plan.dport))
            return "" if number in (0, errno.EINPROGRESS) else errno.errorcode.get(number, str(number))
        raw.sendto(wire.built(plan), (str(plan.dst), 0))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return ""


def _outcome(sock: socket.socket) -> str:
    """What the kernel says of a connection: "connected", an errno's name, "" while it waits."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        return errno.errorcode.get(number, str(number))
    with suppress(OSError):
        sock.getpeername()
        return "connected"
    return ""


def _received(sock: socket.socket, place: Place) -> list[Caught]:
    found: list[Caught] = []
    while True:
        try:
            data, (device, _, kind, *_rest) = sock.recvfrom(2048)
        except OSError:
            return found
        headers = wire.read(data)
        if headers is not None:
            found.append(Caught(place, time.time(), kind == wire.PACKET_OUTGOING, device, headers))


# ---------------------------------------------------------------- which of it is the probe, which is the answer


def _ours(plan: Plan, caught: list[Caught]) -> list[tuple[Caught, str]]:
    """(packet, "probe" or "answer") of what has to do with the probe, in the order of time."""
    caught = sorted(caught, key=lambda c: c.time)
    # The probe as it was sent: the sender's own rules may have translated it before any device, or stopped it.
    sent = Headers(plan.protocol, plan.src, plan.dst, plan.sport if plan.dport else None, plan.dport, ident=plan.tag)
    seq = wire.sequence(plan) if plan.kind == "syn" else None
    if plan.kind == "connect":
        seq = next((c.headers.seq for c in caught if _is_connection(plan, c)), None)
    found: list[tuple[Caught, str]] = []
    looks = {_ends(sent): None}
    for one in caught:
        headers = one.headers
        if _is_probe(plan, seq, headers):
            looks[_ends(headers)] = None
            found.append((one, "probe"))
        elif _is_answer(plan, seq, headers, looks):
            found.append((one, "answer"))
    return found


def _is_connection(plan: Plan, one: Caught) -> bool:
    """The kernel's SYN: by its addresses, or translated, by the segment size that was asked for."""
    headers = one.headers
    if one.place is not SENDER or headers.protocol != "tcp" or headers.flags != "S":
        return False
    untouched = (headers.src, headers.sport, headers.dst, headers.dport) == (plan.src, plan.sport, plan.dst, plan.dport)
    return untouched or (one.outgoing and headers.mss == plan.mss)


def _is_probe(plan: Plan, seq: int | None, headers: Headers) -> bool:
    """By what no NAT changes: a SYN's sequence number, the tag in a payload."""
    if headers.protocol != plan.protocol:
        return False
    if plan.protocol == "tcp":
        return headers.flags == "S" and headers.seq == seq
    if plan.kind == "udp":
        return plan.payload == headers.payload
    return headers.icmp in ((8, 0), (128, 0)) and plan.payload in headers.payload


def _is_answer(plan: Plan, seq: int | None, headers: Headers, looks: dict[tuple[object, ...], None]) -> bool:
    if headers.inner is not None:
        inner = headers.inner
        return inner.protocol == plan.protocol and (
            inner.ident == plan.tag if plan.kind == "echo" else _ends(inner) in looks
        )
    if headers.protocol != plan.protocol:
        return False
    if plan.protocol == "tcp":
        known = (headers.dst, headers.dport, headers.src, headers.sport) in looks
        return known and headers.ack == ((seq or 0) + 1) & 0xFFFFFFFF and bool(set(headers.flags) & set("SR"))
    if plan.kind == "udp":
        return (headers.dst, headers.dport, headers.src, headers.sport) in looks
    return headers.icmp in ((0, 0), (129, 0)) and plan.payload in headers.payload


def _ends(headers: Headers) -> tuple[object, ...]:
    return headers.src, headers.sport, headers.dst, headers.dport


def _answer(ours: list[tuple[Caught, str]]) -> Caught | None:
    """The first answer that came back to who sent."""
    return next((c for c, what in ours if what == "answer" and c.place is SENDER and not c.outgoing), None)


def _result(answer: Caught | None, told: str) -> tuple[str, str]:
    """(result, what answered) in the words of an observation. ``told``: what the kernel said to who sent."""
    if answer is None:
        if told in ("connected", ""):
            return told or "timeout", ""
        result = {"ECONNREFUSED": "refused", "EPERM": "timeout", "ETIMEDOUT": "timeout"}.get(told, "unreachable")
        return result, f"{told} from the sender's own kernel"
    headers = answer.headers
    if headers.inner is not None and headers.icmp is not None:
        kind, code = headers.icmp
        port = (3, 3) if headers.protocol == "icmp" else (1, 4)
        return ("refused" if (kind, code) == port else "unreachable"), f"{headers.protocol} {kind}/{code}"
    if headers.protocol == "tcp":
        return ("refused", "tcp-reset") if "R" in headers.flags else ("connected", "syn-ack")
    return "connected", "data" if headers.protocol == "udp" else "echo-reply"


# ---------------------------------------------------------------- the document


def document(plan: Plan, caught: list[Caught], began: float, source: str = "", told: str = "") -> dict[str, object]:
    """The observation. An endpoint is claimed only where somebody said that a place is the other end."""
    ours = _ours(plan, caught)
    result, answer = _result(_answer(ours), told)
    end = next((c.headers for c, what in reversed(ours) if what == "probe" and c.place.end), None)
    seen = [_seen(c, what) for c, what in _once(ours)]
    icmp = {"icmp_type": 8 if plan.dst.version == 4 else 128, "icmp_code": 0} if plan.kind == "echo" else {}
    sport = plan.sport if plan.kind != "echo" else None
    return {
        "schema": SCHEMA,
        "made_by": f"netk8s-probes {__version__}",
        "time": datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds"),
        "source": source or plan.namespace or "here",
        "sent": {
            "kind": plan.kind, "protocol": plan.protocol, "src": str(plan.src), "sport": sport,
            "dst": str(plan.dst), "dport": plan.dport, **icmp,
        },
        "result": result,
        "answer": answer,
        "endpoint": None if end is None else {"ip": str(end.dst), "port": end.dport},
        "source_seen": None if end is None else str(end.src),
        "seen": [one for one in seen if one["what"] == "probe"],
        "answers": [one for one in seen if one["what"] == "answer"],
    }  # fmt: skip


def _once(ours: list[tuple[Caught, str]]) -> list[tuple[Caught, str]]:
    """lo and listening at one device twice show a packet more than once: the same headers at the same place are one."""
    found: dict[tuple[object, ...], tuple[Caught, str]] = {}
    for one, what in ours:
        found.setdefault(
            (str(one.place), one.device, one.outgoing, what, _ends(one.headers), one.headers.flags), (one, what)
        )
    return list(found.values())


def _seen(one: Caught, what: str) -> dict[str, object]:
    headers = one.headers
    found: dict[str, object] = {
        "what": what,
        "place": str(one.place) or f"sender {one.device}",
        "node": one.place.node,
        "dev": one.device,
        "direction": "out" if one.outgoing else "in",
        "time": round(one.time, 6),
        "src": str(headers.src),
        "sport": headers.sport,
        "dst": str(headers.dst),
        "dport": headers.dport,
    }
    if headers.flags:
        found["flags"] = headers.flags
    if headers.icmp is not None:
        found |= {"icmp_type": headers.icmp[0], "icmp_code": headers.icmp[1]}
    return found
