"""Asks everything of a snapshot: every Service port, every kind of address, every kind of client.

One decoded world serves all questions. ``questions`` says what to ask, ``answer`` asks it; nodes that are alike have one
of them stand for all, and each question says for whom.
"""

from __future__ import annotations

from netk8s import dialects
from netk8s.model import Addr, Trace
from netk8s.survey._answers import Answer, Because, Result, reduced
from netk8s.survey._arrivals import ENDPOINT, arrivals
from netk8s.survey._kindred import Kindred
from netk8s.survey._names import Names, Renaming
from netk8s.survey._ports import CLUSTER_IP, Dialled, Key, Place, Port, ports
from netk8s.survey._questions import BESIDE, IN_RANGE, OUTSIDE, Ground, Question, Stop, questions
from netk8s.survey._sites import clients
from netk8s.trace import trace


def answer(ground: Ground, question: Question) -> tuple[Answer, Trace]:
    """What becomes of a question, reduced, and the whole trace of it.

    Raises DecodeError for a rule that cannot be decoded on the packet's way.
    """
    flow = dialects.resolve(ground.world, question.ask)
    walked = dialects.label(ground.world, trace(ground.world, flow, ground.around(flow)))
    return reduced(ground.world, walked, _note(ground, question, flow.packet.dst)), walked


def _note(ground: Ground, question: Question, dialled: Addr) -> str:
    """What the rules say of NodePorts at an address that they do not serve."""
    port = ground.port(question.port.key)
    for row in port.rows if port is not None else ():
        if question.dialled.kind == row.kind == "NodePort" and question.at is not None and row.node == question.at.node:
            if row.addresses and dialled not in row.addresses:
                return f"{row.node} takes NodePorts at {', '.join(map(str, row.addresses))} only"
            if row.mode == "nftables" and dialled.is_loopback:
                return f"{row.node} takes no NodePorts at {dialled}"
    return ""


__all__ = [
    "BESIDE",
    "CLUSTER_IP",
    "ENDPOINT",
    "IN_RANGE",
    "OUTSIDE",
    "Answer",
    "Because",
    "Dialled",
    "Ground",
    "Key",
    "Kindred",
    "Names",
    "Place",
    "Port",
    "Question",
    "Renaming",
    "Result",
    "Stop",
    "answer",
    "arrivals",
    "clients",
    "ports",
    "questions",
]
