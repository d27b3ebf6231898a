"""A rule of nftables in the words of iptables, for a table that iptables-nft keeps. The kernel does the same for both."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from netk8s.model import NftElement, NftExpr, NftRule, NftStatement, NftVerdict

_VERDICTS = {"accept": "ACCEPT", "drop": "DROP", "return": "RETURN"}
_SIDES = {"saddr": "-s", "daddr": "-d"}
_DEVICES = {"iifname": "-i", "oifname": "-o"}
_CODES = {
    "icmp": {name: f"icmp-{name}" for name in (
        "net-unreachable", "host-unreachable", "port-unreachable", "net-prohibited", "host-prohibited", "admin-prohibited",
    )} | {"prot-unreachable": "icmp-proto-unreachable"},
    "icmpv6": {
        "no-route": "icmp6-no-route", "admin-prohibited": "icmp6-adm-prohibited", "addr-unreachable": "icmp6-addr-unreachable",
        "port-unreachable": "icmp6-port-unreachable",
    },
}  # fmt: skip
"""The codes of libxt_REJECT and libip6t_REJECT by nft's kinds and names."""
MOST_PORTS = 15
"""XT_MULTI_PORTS."""


class _NoForm(Exception):
    """A statement has no form here; raised and caught in this module."""


def as_iptables(rule: NftRule) -> str | None:
    """The words behind the chain, as iptables takes them; None where a part of the rule has no form that is known."""
    protocols = {name for s in rule.statements for name in _protocols(s)}
    if len(protocols) > 1:
        return None
    words = [f"-p {protocol}" for protocol in protocols]
    try:
        for s in rule.statements:
            words += _words(s, next(iter(protocols), ""))
    except _NoForm:
        return None
    if rule.comment:
        words.insert(-1 if words and words[-1].startswith(("-j", "-g")) else len(words),
                     f"-m comment --comment {shlex.quote(rule.comment)}")  # fmt: skip
    return " ".join(words)


def _protocols(s: NftStatement) -> Iterator[str]:
    """The protocol that a match asks for, also where it only looks at a field of it."""
    left = s.args[0] if s.kind == "match" else None
    if isinstance(left, NftExpr) and left.op == "payload" and left.words[0] in ("tcp", "udp", "sctp"):
        yield left.words[0]
    if _asks_protocol(s) and s.words == ("==",) and isinstance(s.args[1], str):
        yield s.args[1]


def _asks_protocol(s: NftStatement) -> bool:
    return s.kind == "match" and s.args[0] in (NftExpr("meta", ("l4proto",)), NftExpr("payload", ("ip", "protocol")))


def _words(s: NftStatement, protocol: str) -> list[str]:
    if s.kind == "counter":
        return []
    if s.kind == "verdict" and isinstance(s.args[0], NftVerdict):
        verdict = s.args[0]
        if verdict.kind in ("jump", "goto"):
            return [f"{'-j' if verdict.kind == 'jump' else '-g'} {verdict.chain}"]
        if verdict.kind in _VERDICTS:
            return [f"-j {_VERDICTS[verdict.kind]}"]
    if s.kind == "reject":
        return [f"-j REJECT{_code(*s.words)}"]
    if s.kind == "match" and isinstance(s.args[0], NftExpr):
        return _match(s, s.args[0], protocol)
    raise _NoForm


def _code(kind: str, code: str) -> str:
    if kind == "tcp reset":
        return " --reject-with tcp-reset"
    if not kind and not code:
        return ""
    if code not in _CODES.get(kind, {}):
        raise _NoForm
    return f" --reject-with {_CODES[kind][code]}"


def _match(s: NftStatement, left: NftExpr, protocol: str) -> list[str]:
    (operator,), right = s.words, s.args[1]
    if _asks_protocol(s) and operator == "==" and isinstance(right, str):
        return []
    if left == NftExpr("ct", ("state", "")) and operator == "in":
        states = right.args if isinstance(right, NftExpr) and right.op == "list" else (right,)
        return [f"-m conntrack --ctstate {','.join(str(state).upper() for state in states)}"]
    if operator not in ("==", "!="):
        raise _NoForm
    negated = "! " if operator == "!=" else ""
    if left.op == "payload" and left.words[0] in ("ip", "ip6") and left.words[1] in _SIDES:
        return [f"{negated}{_SIDES[left.words[1]]} {_address(right)}"]
    if left.op == "meta" and left.words[0] in _DEVICES and isinstance(right, str):
        name = f"{right[:-1]}+" if right.endswith("*") else right
        return [f"{negated}{_DEVICES[left.words[0]]} {shlex.quote(name)}"]
    if left == NftExpr("meta", ("mark",)) and isinstance(right, int):
        return [f"-m mark {negated}--mark {right:#x}"]
    if left.op == "payload" and left.words[1:] in (("dport",), ("sport",)) and left.words[0] in ("th", protocol):
        return [_ports(left.words[1], negated, right, protocol)]
    raise _NoForm


def _address(right: object) -> str:
    if isinstance(right, NftExpr) and right.op == "prefix":
        return f"{right.args[0]}/{right.args[1]}"
    if isinstance(right, str):
        return f"{right}/{128 if ':' in right else 32}"
    raise _NoForm


def _ports(side: str, negated: str, right: object, protocol: str) -> str:
    if protocol not in ("tcp", "udp", "sctp"):
        raise _NoForm
    if isinstance(right, NftExpr) and right.op == "set":
        keys = [element.key for element in right.args if isinstance(element, NftElement)]
        if not 0 < len(keys) <= MOST_PORTS or not all(isinstance(key, int) for key in keys):
            raise _NoForm
        return f"-m multiport {negated}--{side}s {','.join(map(str, keys))}"
    if isinstance(right, NftExpr) and right.op == "range":
        return f"-m {protocol} {negated}--{side} {right.args[0]}:{right.args[1]}"
    if not isinstance(right, int):
        raise _NoForm
    return f"-m {protocol} {negated}--{side} {right}"
