"""``ip rule`` as it prints for people, of one family (iproute2's ip/iprule.c, ``print_rule``).

A rule's words become the members that iproute2's JSON has, and are read as those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.decode._json import JsonObject
from netk8s.decode._text import first_lines, lines
from netk8s.decode.ip_rule import of_items
from netk8s.errors import DecodeError
from netk8s.model import At, Dump, Fact

NAME = "ip-rule-text"
COMMAND = "ip rule"

_RULE = re.compile(r"(\d{1,10}):\s+((?:not\s+)?from\s+\S.*)")
_VALUES = {
    "from": "src", "to": "dst", "tos": "tos", "dsfield": "tos", "iif": "iif", "oif": "oif", "ipproto": "ipproto",
    "lookup": "table", "suppress_prefixlength": "suppress_prefixlen", "goto": "goto", "proto": "protocol",
    "realms": "flow_to",
}  # fmt: skip
_RANGES = {"sport": "sport", "dport": "dport", "uidrange": "uid"}
_ACTIONS = frozenset({"blackhole", "unreachable", "prohibit"})
_NOTES = {"iif": "iif_detached", "oif": "oif_detached", "goto": "unresolved"}


def sniff(dump: Dump) -> bool:
    """The first line is a priority and what a rule is for."""
    found = first_lines(dump)
    return bool(found) and _RULE.fullmatch(found[0]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """One RoutingRule per line, after Coverage "rule4" or "rule6", as from JSON. Raises DecodeError.

    A word that is not known, a selector of a newer iproute2, is in ``unknown``.
    """
    items = []
    for number, line in lines(dump):
        if not line.strip():
            continue
        rule = _RULE.fullmatch(line.strip())
        if rule is None:
            raise DecodeError(
                dump.origin, number, f"expected a rule as `{COMMAND}` prints it: 32766: from all lookup main"
            )
        items.append(JsonObject({"priority": rule[1], **_members(rule[2].split())}, At(dump.origin, number)))
    yield from of_items(items, At(dump.origin, 1))


def _members(words: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    last = ""
    rest = iter(words)
    for word in rest:
        if word in ("[detached]", "[unresolved]"):
            found[_NOTES.get(last, word)] = None
            continue
        last = word
        if word == "fwmark":
            mark, slash, mask = next(rest, "").partition("/")
            found |= {"fwmark": mark, **({"fwmask": mask} if slash else {})}
        elif word in _RANGES:
            first, dash, top = next(rest, "").partition("-")
            name = _RANGES[word]
            if dash or name == "uid":
                found |= {f"{name}_start": first, f"{name}_end": top}
            else:
                found[name] = first
        elif word in _VALUES:
            value = next(rest, "")
            # The table of whichever VRF the packet is in; JSON has no table there either.
            found |= {"l3mdev": None} if value == "[l3mdev-table]" else {_VALUES[word]: value}
        elif word in _ACTIONS:
            found["action"] = word
        else:
            found[word] = None
    return found
