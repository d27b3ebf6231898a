"""Words of the command line that stand by themselves: names, numbers, protocols, families."""

from __future__ import annotations

import difflib
import heapq
import itertools
from collections.abc import Iterable
from ipaddress import ip_address

from netk8s.errors import UsageError
from netk8s.model import Ask, World

_MANY = 300
"""Of more names than these only the likeliest are compared: that takes 0.1 ms for each."""

_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


def protocol_number(word: str | None) -> int | None:
    if word is None:
        return None
    if word.lower() not in _PROTOCOLS:
        raise UsageError(f"unknown protocol {word}", sorted(_PROTOCOLS))
    return _PROTOCOLS[word.lower()]


def near(name: str, names: Iterable[str]) -> list[str]:
    """At most five: the same name in another namespace, what is spelt alike, then what is so but for the namespace."""
    pool = list(dict.fromkeys(names))
    last = name.rpartition("/")[2]
    if len(pool) > _MANY:
        pairs = {*itertools.pairwise(name), *itertools.pairwise(last)}

        def common(one: str) -> int:
            return len(pairs.intersection(itertools.pairwise(one))) * 2 - abs(len(one) - len(name))

        own = [one for one in pool if one.rpartition("/")[2] == last]
        pool = list(dict.fromkeys([*own, *heapq.nlargest(_MANY, pool, common)]))
    by_last: dict[str, list[str]] = {}
    for one in pool:
        by_last.setdefault(one.rpartition("/")[2], []).append(one)
    found = [*by_last.get(last, ()), *difflib.get_close_matches(name, pool, n=5, cutoff=0.7)]
    found += [one for alike in difflib.get_close_matches(last, by_last, n=5, cutoff=0.6) for one in by_last[alike]]
    return (list(dict.fromkeys(found)) or difflib.get_close_matches(name, pool, n=5, cutoff=0.5) or pool)[:5]


def node_names(world: World) -> list[str]:
    return list(dict.fromkeys([*world.nodes, *(n.name for n in world.cluster.nodes)]))


def port_number(text: str | None) -> int | None:
    if text is None or not text.isdecimal():
        return None
    if not 0 < int(text) < 65536:
        raise UsageError(f"port {text} is not between 1 and 65535")
    return int(text)


def family_of(ask: Ask) -> int | None:
    """The family that the words ask for: by --family, else by the sender's address."""
    if ask.family in ("4", "6"):
        return int(ask.family)
    try:
        return ip_address(ask.source).version if ask.source else None
    except ValueError:
        return None


def no_rules(world: World) -> UsageError:
    """Why nothing can be answered where no node's rules are known, with the dumps that were refused."""
    refused = "".join(f" ({gap.what})" for gap in world.missing if gap.what.startswith("the rules in "))
    return UsageError(f"the dumps hold the cluster's objects and no node's rules{refused}; add a node's iptables-save")
