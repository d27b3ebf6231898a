"""What became of a probe: netk8s.dev/observation/v1, the JSON of ``netk8s probe`` and ``netk8s verify --write``.

One document, or one a line. What a program of a later version adds is passed over, what this one needs is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._json import JsonObject, documents, head, outer_keys
from netk8s.model import (
    ICMP,
    ICMPV6,
    PROTOCOL_NAMES,
    Addr,
    At,
    ConntrackEntry,
    ConntrackTuple,
    Dump,
    Fact,
    Observation,
    Packet,
    Reached,
    Sighting,
    TracedRule,
)

NAME = "observation"
COMMAND = "netk8s probe"
SCHEMA = "netk8s.dev/observation/v1"

RESULTS = ("connected", "refused", "unreachable", "timeout")
_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}


def sniff(dump: Dump) -> bool:
    """A JSON object with the schema's name, of whatever version."""
    return b"netk8s.dev/observation/" in head(dump) and "schema" in outer_keys(dump, "{")


def decode(dump: Dump) -> Iterator[Fact]:
    """One Observation per document. Raises DecodeError."""
    for document in documents(dump, COMMAND, SCHEMA):
        yield _observation(document, document.at)


def _observation(document: JsonObject, at: At) -> Observation:
    sent = _need_child(document, "sent")
    protocol = _protocol(sent)
    if document.need("result") not in RESULTS:
        raise document.wrong("result", f"one of {', '.join(RESULTS)}")
    return Observation(
        source=document.text("source") or "",
        sent=_packet(sent, protocol),
        result=document.need("result"),
        answer=document.text("answer") or "",
        endpoint=_endpoint(document),
        source_seen=document.addr("source_seen"),
        seen=tuple(
            Sighting(item.need("place"), _packet(item, protocol), item.text("node"), item.text("dev"))
            for item in document.children("seen")
        ),
        path=tuple(
            TracedRule(
                item.need("node"),
                item.need("table"),
                item.need("chain"),
                item.text("rule"),
                item.text("action") or "",
                item.text("backend") or "",
            )
            for item in document.children("path")
        ),
        traced=document.texts("traced"),
        entry=_entry(document, protocol, at),
        time=document.text("time") or "",
        at=at,
    )


def _need_child(parent: JsonObject, key: str) -> JsonObject:
    child = parent.child(key)
    if child is None:
        raise parent.wrong(key, "an object")
    return child


def _protocol(sent: JsonObject) -> int:
    name = sent.need("protocol").lower()
    number = _NUMBERS.get(name)
    if number is None and name.isascii() and name.isdigit() and int(name[:4]) < 256:
        number = int(name)
    if number is None:
        raise sent.wrong("protocol", "a protocol: tcp, udp, icmp, icmpv6 or a number")
    return number


def _need_addr(item: JsonObject, key: str) -> Addr:
    ip = item.addr(key)
    if ip is None:
        raise item.wrong(key, "an IP address")
    return ip


def _packet(item: JsonObject, protocol: int) -> Packet:
    src, dst = _need_addr(item, "src"), _need_addr(item, "dst")
    if src.version != dst.version:
        raise item.wrong("dst", f"an IPv{src.version} address, as src is one")
    icmp = protocol in (ICMP, ICMPV6)
    return Packet(
        protocol,
        src,
        dst,
        item.number("sport", high=65535),
        item.number("dport", high=65535),
        item.number("mark") or 0,
        icmp_type=(item.number("icmp_type", high=255) or (8 if protocol == ICMP else 128)) if icmp else None,
        icmp_code=(item.number("icmp_code", high=255) or 0) if icmp else None,
    )


def _endpoint(document: JsonObject) -> Reached | None:
    item = document.child("endpoint")
    if item is None:
        return None
    return Reached(_need_addr(item, "ip"), item.number("port", high=65535), item.text("pod"), item.text("node"))


def _entry(document: JsonObject, protocol: int, at: At) -> ConntrackEntry | None:
    item = document.child("conntrack")
    if item is None:
        return None
    original, reply = (_tuple(_need_child(item, key)) for key in ("original", "reply"))
    return ConntrackEntry(protocol, original, reply, item.text("state") or "", mark=item.number("mark"), at=at)


def _tuple(item: JsonObject) -> ConntrackTuple:
    return ConntrackTuple(
        _need_addr(item, "src"),
        _need_addr(item, "dst"),
        item.number("sport", high=65535),
        item.number("dport", high=65535),
    )
