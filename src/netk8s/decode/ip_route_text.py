"""``ip route show table all`` as it prints for people (iproute2's ip/iproute.c, ``print_route``), with ``-d`` and ``-o`` too.

A route's words become the members that iproute2's JSON has, and are read as those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network

from netk8s.decode._json import JsonObject
from netk8s.decode._text import first_lines, lines
from netk8s.decode.ip_neigh_text import STATES
from netk8s.decode.ip_route import of_items
from netk8s.errors import DecodeError
from netk8s.model import At, Dump, Fact

NAME = "ip-route-text"
COMMAND = "ip route show table all"

_KINDS = frozenset({
    "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat", "xresolve",
})  # fmt: skip
# The words with a value -> the members of the JSON. What is not among them says nothing of which way a packet takes.
_VALUES = {
    "dev": "dev", "table": "table", "proto": "protocol", "scope": "scope", "src": "prefsrc", "metric": "metric",
    "from": "from", "tos": "tos", "dsfield": "tos", "pref": "pref", "weight": "weight", "nhid": "nhid",
}  # fmt: skip
_FLAGS = frozenset({"onlink", "pervasive", "offload", "trap", "notify", "linkdown", "dead", "unresolved"})
_TELLING = re.compile(r"(?:via|dev|proto|scope|metric|table|nhid|tos|src|encap|nexthop|from|onlink|linkdown)\b")
_SURE = frozenset({"metric", "proto", "scope", "src", "table", "via"})
_ENCAP_ENDS = frozenset({"via", "dev", "table", "proto", "scope"})


def sniff(dump: Dump) -> bool:
    """The first line is a destination, of a kind or not, with the words of a route."""
    found = first_lines(dump)
    kind, words = _kind(found[0].split("\\")[0].split()) if found else ("", [])
    if not words or not _is_destination(words[0]):
        return False
    if {"lladdr", *STATES} & set(words[3:]):
        return False  # a neighbour
    if len(words) == 1:
        # A route without a word after its destination: of a kind, or with next hops below.
        return bool(kind) or (len(found) > 1 and found[1].startswith("nexthop ")) or "\\" in found[0]
    sure = bool(kind) or words[0] == "default" or "/" in words[0] or bool(_SURE & set(words[1:]))
    return sure and _TELLING.match(words[1]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """One Route per entry, and Coverage "route4" or "route6" for each family that has a route, as from JSON.

    Raises DecodeError for a line that is no route.
    """
    yield from of_items(list(_items(dump)), At(dump.origin, 1))


def _kind(words: list[str]) -> tuple[str, list[str]]:
    return (words[0], words[1:]) if words and words[0] in _KINDS else ("", words)


def _is_destination(word: str) -> bool:
    if word in ("default", "0/0"):
        return True
    try:
        ip_network(word, strict=False)
    except ValueError:
        return False
    return "." in word or ":" in word


def _items(dump: Dump) -> Iterator[JsonObject]:
    members: dict[str, object] = {}
    hops: list[object] | None = None
    place = At(dump.origin, 1)
    for number, line in lines(dump):
        for part in line.split("\\"):  # -o prints a backslash for each line end
            words = part.split()
            if not words:
                continue
            at = At(dump.origin, number)
            if words[0] == "nexthop" and hops is not None:
                hops.append(_members(words[1:], at))
                continue
            if members:
                yield JsonObject({**members, **({"nexthops": hops} if hops else {})}, place)
            kind, rest = _kind(words)
            if not rest or not _is_destination(rest[0]):
                raise DecodeError(
                    at.origin, at.line, f"expected a route as `{COMMAND}` prints it, found {' '.join(words)[:60]!r}"
                )
            members = {"dst": rest[0], **({"type": kind} if kind else {}), **_members(rest[1:], at)}
            place, hops = at, []
    if members:
        yield JsonObject({**members, **({"nexthops": hops} if hops else {})}, place)


def _members(words: list[str], at: At) -> dict[str, object]:
    found: dict[str, object] = {"flags": []}
    flags: list[str] = []
    rest = iter(enumerate(words))
    for i, word in rest:
        if word == "encap":
            found["encap"] = words[i + 1] if i + 1 < len(words) else ""
            # An encapsulation has a source, destination and type of service of its own, up to the way that it goes.
            skip = next((j for j in range(i + 1, len(words)) if words[j] in _ENCAP_ENDS), len(words))
            for _ in range(skip - i - 1):
                next(rest)
        elif word == "via":
            first = next(rest, (0, ""))[1]
            if first in ("inet", "inet6", "link", "mpls"):
                found["via"] = {"family": first, "host": next(rest, (0, ""))[1]}
            else:
                found["gateway"] = first
        elif word in _VALUES or word == "mtu":
            value = next(rest, None)
            if word == "mtu" and value is not None and value[1] == "lock":
                value = next(rest, None)
            if value is None:
                raise DecodeError(at.origin, at.line, f"the line ends after {word!r}; take the dump again")
            if word == "mtu":
                found["metrics"] = [{"mtu": value[1]}]
            else:
                found[_VALUES[word]] = value[1]
        elif word in _FLAGS:
            flags.append(word)
    found["flags"] = flags
    return found
