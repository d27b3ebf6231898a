"""An observation as the document that ``netk8s.decode.observation`` reads (netk8s.dev/observation/v1)."""

from __future__ import annotations

import json

from netk8s.model import ICMP, ICMPV6, PROTOCOL_NAMES, ConntrackTuple, Observation, Packet

SCHEMA = "netk8s.dev/observation/v1"


def render(observation: Observation, made_by: str) -> str:
    """The document, on one line, so that several can stand in one file."""
    end, entry = observation.endpoint, observation.entry
    document: dict[str, object] = {
        "schema": SCHEMA,
        "made_by": made_by,
        "time": observation.time,
        "source": observation.source,
        "sent": {"protocol": _protocol(observation.sent.protocol), **_packet(observation.sent)},
        "result": observation.result,
        "answer": observation.answer,
        "endpoint": None if end is None else {"ip": str(end.ip), "port": end.port, "pod": end.pod, "node": end.node},
        "source_seen": None if observation.source_seen is None else str(observation.source_seen),
        "seen": [
            {"place": one.place, "node": one.node, "dev": one.dev, **_packet(one.packet)} for one in observation.seen
        ],
        "traced": list(observation.traced),
        "path": [
            {
                "node": one.node,
                "table": one.table,
                "chain": one.chain,
                "rule": one.rule,
                "action": one.action,
                "backend": one.backend,
            }
            for one in observation.path
        ],
        "conntrack": None
        if entry is None
        else {
            "original": _tuple(entry.original),
            "reply": _tuple(entry.reply),
            "state": entry.state,
            "mark": entry.mark,
        },
    }
    return json.dumps(document, ensure_ascii=False) + "\n"


def _protocol(number: int) -> str:
    return PROTOCOL_NAMES.get(number, str(number))


def _packet(packet: Packet) -> dict[str, object]:
    found: dict[str, object] = {
        "src": str(packet.src),
        "sport": packet.sport,
        "dst": str(packet.dst),
        "dport": packet.dport,
        "mark": packet.mark,
    }
    if packet.protocol in (ICMP, ICMPV6):
        found |= {"icmp_type": packet.icmp_type, "icmp_code": packet.icmp_code}
    return found


def _tuple(one: ConntrackTuple) -> dict[str, object]:
    return {"src": str(one.src), "dst": str(one.dst), "sport": one.sport, "dport": one.dport}
