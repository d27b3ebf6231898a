"""Which rules look at addresses in no other way than whether one is another, or lies in a network that is written.

A list of what is known to be so: a match, target or expression that is not here makes every flow of the world one of its
own, until somebody has looked at what it does.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from netk8s.model import NftElement, NftExpr, NftRule, NftStatement, NftVerdict

MATCHES = frozenset({
    "tcp", "udp", "sctp", "dccp", "udplite", "multiport", "icmp", "icmp6", "comment", "nfacct", "mark", "connmark",
    "conntrack", "state", "addrtype", "physdev", "rpfilter", "pkttype", "statistic", "recent", "set", "limit", "quota",
    "owner", "policy", "length", "ttl", "hl", "mac", "tos", "dscp", "connbytes", "helper", "devgroup", "cpu", "time",
    "hashlimit", "connlimit", "u32", "bpf", "ipvs",
})  # fmt: skip
"""Matches of iptables. Left out: iprange, whose ends may be addresses that are renamed, and those that ask
what is no rule's (cgroup, socket, string)."""

TARGETS = frozenset({
    "ACCEPT", "DROP", "RETURN", "REJECT", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "MARK", "CONNMARK", "NOTRACK", "CT",
    "LOG", "NFLOG", "TCPMSS", "CLASSIFY", "CHECKSUM", "TRACE",
})  # fmt: skip
"""Targets of iptables, user chains aside. Left out: NETMAP and CLUSTERIP, which make addresses of addresses."""

STATEMENTS = frozenset({
    "match", "verdict", "vmap", "mangle", "dnat", "snat", "masquerade", "redirect", "reject", "set", "limit", "quota",
    "ct count", "counter", "log", "notrack", "xt", "unknown",
})  # fmt: skip

EXPRESSIONS = frozenset({"payload", "meta", "ct", "fib", "numgen", "concat", "list", "prefix", "set", "@", "map", "*"})
"""Expressions of nft. Left out: jhash and symhash; bits of anything but a mark; ranges, whose ends may be addresses that
are renamed, stand in the sets and rules that are nobody's own only."""

_FIELDS = frozenset({
    "saddr", "daddr", "sport", "dport", "protocol", "nexthdr", "dscp", "ttl", "hoplimit", "length", "type", "code",
    "flags", "version",
})  # fmt: skip

_MATCH = re.compile(r" -m (\S+)")
_TARGET = re.compile(r" -[jg] (\S+)")
_COMMENT = re.compile(r"--comment (?:\"(?:[^\"\\]|\\.)*\"|\S+)")
_HASHED = re.compile(r" --persistent\b")


def plain_words(text: str, chains: Container[str]) -> bool:
    """Whether rules of iptables, a line each, are known to be so. ``chains``: those of their table."""
    text = _COMMENT.sub("", text)
    return (
        MATCHES.issuperset(_MATCH.findall(text))
        and all(name in TARGETS or name in chains for name in _TARGET.findall(text))
        and _HASHED.search(text) is None
    )


def plain_rule(rule: NftRule, *, own: bool) -> bool:
    """Whether a rule of nft is known to be so. ``own``: it is of a Service's own chain, so its addresses are renamed."""
    return all(map(_statement, rule.statements)) and not (own and any(_has_range(s) for s in rule.statements))


def _statement(s: object) -> bool:
    if not isinstance(s, NftStatement) or s.kind not in STATEMENTS:
        return False
    if s.kind in ("dnat", "snat") and any(isinstance(a, NftExpr) and a.op in ("prefix", "range") for a in s.args):
        return False
    return all(_statement(a) if isinstance(a, NftStatement) else _value(a) for a in s.args)


def _value(value: object) -> bool:
    match value:
        case NftExpr("payload", words, _):
            return len(words) == 2 and words[1] in _FIELDS
        case NftExpr("&" | "|" | "^", _, args):
            return all(isinstance(a, int) or _mark(a) for a in args)
        case NftExpr("range", _, args):
            return all(map(_value, args))
        case NftExpr(op, _, args):
            return op in EXPRESSIONS and all(map(_value, args))
        case NftElement():
            return _value(value.key) and (value.value is None or _value(value.value))
        case _:
            return isinstance(value, int | str | NftVerdict)


def _mark(value: object) -> bool:
    match value:
        case NftExpr("meta"):
            return True
        case NftExpr("ct", words, _):
            return words[:1] in (("mark",), ("state",), ("status",))
        case NftExpr("payload", words, _):
            return len(words) == 2 and words[1] == "flags"
        case NftExpr("&" | "|" | "^", _, args):
            return all(isinstance(a, int) or _mark(a) for a in args)
        case _:
            return False


def _has_range(value: object) -> bool:
    if isinstance(value, NftExpr) and value.op == "range":
        return any(isinstance(end, str) for end in value.args)
    inner: Iterable[object] = (
        value.args
        if isinstance(value, NftExpr | NftStatement)
        else (value.key, value.value)
        if isinstance(value, NftElement)
        else ()
    )
    return any(map(_has_range, inner))
