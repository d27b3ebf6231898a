"""How people read packets, odds, endpoints and rules. Shared by the formats for people and for pictures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from socket import inet_ntoa

from netk8s.model import PROTOCOL_NAMES, Addr, Flow, Leg, Outcome, Packet, Reached, Rewrite, Step, Way


def address(ip: Addr, port: int | None) -> str:
    """``10.0.0.1:80``, ``[fd00::1]:80``, or the bare address without a port."""
    text = host(ip)
    if port is None:
        return text
    return f"[{text}]:{port}" if ip.version == 6 else f"{text}:{port}"


def host(ip: Addr) -> str:
    """An address as ``str`` has it, in half the time: a large node has hundreds of thousands."""
    return inet_ntoa(ip.packed) if ip.version == 4 else str(ip)


def percent(odds: Fraction) -> str:
    """``33.3%``, ``0.067%``: three significant digits, and never 0% or 100% of what is neither."""
    return _percent(odds.numerator, odds.denominator)


@lru_cache(maxsize=4096)
def _percent(numerator: int, denominator: int) -> str:
    if denominator == 1 and numerator in (0, 1):
        return f"{numerator * 100}%"
    value = float(Fraction(numerator * 100, denominator))
    if value >= 99.95:
        return ">99.9%"
    text = f"{value:.1f}" if value >= 1 else f"{value:.2g}" if value >= 0.0001 else "<0.0001"
    return f"{text.removesuffix('.0')}%"


def chance(odds: Fraction | None) -> str:
    """``1/3 (33.3%)``, ``always``, ``unknown odds``; a fraction that nobody reads is only a percentage."""
    if odds is None:
        return "unknown odds"
    if odds == 1:
        return "always"
    return f"{odds} ({percent(odds)})" if odds.denominator <= 99999 else percent(odds)


def protocol(packet: Packet) -> str:
    """The protocol's name, or its number."""
    return PROTOCOL_NAMES.get(packet.protocol, f"protocol {packet.protocol}")


def sender(flow: Flow) -> str:
    """Who sends, as a noun: ``the client``, ``pod default/web``, ``node n1``, ``the sender``."""
    if flow.source == "client":
        return "the client"
    kind, slash, name = flow.source.partition("/")
    return f"{kind} {name}" if slash and kind in ("pod", "node") else "the sender"


def stand_in(flow: Flow, ip: Addr | None) -> str:
    """What an address that no dump tells stands for; "" for a real address."""
    what = next((what for one, what in flow.stand_ins if one == ip), "")
    kind, slash, name = what.partition("/")
    if slash:
        return f"an address of {kind} {name}"
    return f"the {what}" if what and " " not in what else what


def where(reached: Reached) -> str:
    """``10.244.1.5:80 (pod default/nginx on n1)``."""
    place = f"pod {reached.pod}" if reached.pod else ""
    if reached.node:
        place += f"{' ' if place else ''}on {reached.node}"
    return address(reached.ip, reached.port) + (f" ({place})" if place else "")


def seen(flow: Flow, outcome: Outcome, sees: str = "it sees") -> str:
    """Which source address the endpoint sees: the half of the answer most people came for."""
    who, own = sender(flow), flow.packet.src
    shown = "" if stand_in(flow, own) else f" {own}"
    if outcome.preserved:
        return f"{sees} {who}'s own address{shown}"
    if outcome.source is None:
        if outcome.preserved is False:
            return f"{sees} an address that no dump tells, not {who}{shown}"
        return f"which source address {sees} is not known"
    other = stand_in(flow, outcome.source)
    source = f"{outcome.source}{f' (stands for {other})' if other else ''}"
    if outcome.preserved is None:
        return f"{sees} {source}"
    return f"{sees} {source}, not {who}{shown}"


def sentence(flow: Flow, outcome: Outcome) -> str:
    """One outcome as a sentence, without its odds."""
    if outcome.verdict == "delivered":
        to = f" to {where(outcome.reached)}" if outcome.reached else ""
        return f"delivered{to}; {seen(flow, outcome)}"
    by = f" by {where(outcome.reached)}" if outcome.reached and outcome.verdict == "refused" else ""
    verdict = "not known" if outcome.verdict == "unknown" else outcome.verdict
    return f"{verdict}{by}{f': {outcome.reason}' if outcome.reason else ''}"


def rewritten(rewrite: Rewrite) -> str:
    """Which rule, or conntrack entry of an earlier connection, replaced the source address, and why by this one."""
    chain = f"{rewrite.table} {rewrite.chain}".strip() or ("conntrack" if rewrite.rule is None else "a rule")
    at = f" ({rewrite.at})" if rewrite.at else ""
    after = rewrite.after if rewrite.after is not None else "an address that no dump tells"
    why = f": {rewrite.because}" if rewrite.because else ""
    return f"{chain} on {rewrite.node}{at} rewrites source {rewrite.before} to {after}{why}"


def ending(way: Way) -> str:
    """How a way ends, for the end of its path."""
    if way.verdict == "delivered" and way.reached:
        source = f"sees {way.source}" if way.source else "sees an address that no dump tells"
        return f"delivered: {address(way.reached.ip, way.reached.port)} {source}"
    verdict = "not known" if way.verdict == "unknown" else way.verdict
    return f"{verdict}: {way.reason}" if way.reason else verdict


_NFT_NOISE = re.compile(r'\s*\bcomment\s+"[^"]*"|\s*\bcounter(?: packets \d+ bytes \d+)?\b')
_HOST = re.compile(r"(?<=[0-9a-fA-F:.])/(?:32|128)$")


def short(step: Step) -> str:
    """The rule of a step without its chain, comments, module names and host masks; the action where no rule is.

    What is left is still the rule's own words in its own order. Odds of the step that the words do not tell
    stand behind them.
    """
    share = f" ({percent(step.odds)})" if step.odds < 1 else ""
    rule = step.rule
    if rule is None:
        return step.action + share
    if not rule.startswith("-A "):
        return (_NFT_NOISE.sub("", rule).strip() or step.action) + share
    try:
        words = shlex.split(rule)
    except ValueError:
        words = rule.split()
    kept: list[str] = []
    at = 2
    while at < len(words):
        word = words[at]
        at += 1
        if word in ("-m", "--match", "--comment") or (word == "--mode" and words[at : at + 1] == ["random"]):
            at += 1
        elif word == "--probability" and share and at < len(words):
            kept += [word, percent(step.odds)]
            share = ""
            at += 1
        else:
            word = _HOST.sub("", word)
            kept.append(word if word and " " not in word else f'"{word}"')
    return (" ".join(kept) or step.action) + share


def remarks(step: Step) -> list[str]:
    """What is not known of a step, or taken for granted."""
    notes = []
    if step.unknown:
        notes.append(f"not known: {step.unknown}")
    if step.assumed:
        notes.append("assumed")
    return notes


def changed(name: str, change: str) -> str:
    """One change as ``mark 0x0 → 0x4000``."""
    return f"{name} {change}"


def leg_title(legs: Sequence[Leg], number: int) -> str:
    """``Leg 2 of 3, after leg 1, 1/2 (50%): controller to pod``; counted from 1."""
    leg = legs[number]
    after = f", after leg {leg.after[0] + 1}" if leg.after else ""
    odds = "" if leg.odds == 1 else f", {chance(leg.odds)}" if leg.odds is not None else ""
    besides = ", besides" if leg.besides else ""
    return f"Leg {number + 1} of {len(legs)}{after}{besides}{odds}{f': {leg.name}' if leg.name else ''}"


def listed(items: Sequence[str], most: int | None) -> str:
    """``a, b, c``, or the first ``most`` of them and how many more there are."""
    if most is None or len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])} and {len(items) - most} more"
