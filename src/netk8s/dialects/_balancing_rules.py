"""What the rules of a balancing chain (KUBE-SVC, KUBE-SEP and the like) say, as far as balancing goes.

A large node has a million of them. kube-proxy writes few kinds of lines, which are read as they stand; a chain with any
other line is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from ipaddress import IPv4Address, ip_address
from socket import AF_INET, inet_aton, inet_pton

from msgspec import Struct

from netk8s.model import Addr, Option, Rule, Table

Said = tuple[str, str, str, str, str, str, str]
"""(what it asks of addresses and devices, of address types, of the recent list; for how many seconds; --probability;
target; --to-destination), each "" where the rule does not say."""
TARGET, TO = 5, 6

_WORD = r"[#-,./-\[\]-~][!#-\[\]-~]*+"
_HOST = r"[0-9a-fA-F.:/]++"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_COMMENT = rf"(?: -m comment --comment (?:\"[^\"\\\n]*+\"|{_WORD}))?"
_RULE = re.compile(
    rf"^(?:\[\d+:\d+\] )?-A \S++((?: (?:! )?-s {_HOST})?(?: (?:! )?-d {_HOST})?(?: (?:! )?-i {_WORD})?)"
    rf"(?: -p (?:tcp|udp|sctp))?{_COMMENT}"
    rf"( -m addrtype --src-type LOCAL)?"
    rf"( -m recent --(?:set|rcheck --seconds (\d++) --reap) --name {_WORD}(?: --mask {_WORD})?(?: --rsource)?)?"
    rf"(?: -m statistic --mode random --probability ([0-9.e-]++))?"
    rf"(?: -m (?:tcp|udp|sctp)(?: --dport \d++)?)?"
    rf"(?: -j (KUBE-[A-Z0-9-]++(?=\n)|DNAT(?= --to-d))(?: --to-destination ({_WORD}))?)?\n",
    re.M,
)


_ENDPOINT = re.compile(
    rf"-A \S+ -s {_HOST}{_COMMENT} -j KUBE-MARK-MASQ\n-A \S+ -p (?:tcp|udp|sctp){_COMMENT}"
    rf"(?: -m recent --set --name {_WORD} --mask {_WORD} --rsource)?"
    rf" -m (?:tcp|udp|sctp) -j DNAT --to-destination ({_OCTET}(?:\.{_OCTET}){{3}}):([1-9][0-9]{{0,4}}+)\n"
)


_COUNTED = r"(?:\[\d{1,20}:\d{1,20}\] )?"
_PROTOCOL = "(?:tcp|udp|sctp)"
_MARKED = "-j KUBE-MARK-MASQ"
_DIE = rf"{_COMMENT}(?: -m statistic --mode random --probability %s)? -j %s\n"
_THROWN = _DIE % ("[0-9.e-]++", "KUBE-SEP-[A-Z0-9-]++")
_AFFINE = (
    rf"{_COMMENT} -m recent --rcheck --seconds %s --reap --name {_WORD}(?: --mask {_WORD})?(?: --rsource)?"
    rf" -j KUBE-SEP-[A-Z0-9-]++\n{_COUNTED}-A \4"
)
_FIRST_AFFINE, _MORE_AFFINE = _AFFINE % "([0-9]{1,9}+)", _AFFINE % "[0-9]{1,9}+"


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Of a whole chain, and of a rule that throws dice. Not made where one Service is asked for."""
    chain = (
        rf"{_COUNTED}-A (?:"
        # 1 to 3: an endpoint's chain, its address and port.
        rf"(KUBE-SEP-\S++) -s {_HOST}{_COMMENT} {_MARKED}\n{_COUNTED}-A \1 -p {_PROTOCOL}{_COMMENT}"
        rf"(?: -m recent --set --name {_WORD} --mask {_WORD} --rsource)?"
        rf" -m {_PROTOCOL} -j DNAT --to-destination ({_OCTET}(?:\.{_OCTET}){{3}}):([1-9][0-9]{{0,4}}+)\n"
        rf"(?!{_COUNTED}-A \1\s)"
        # 4 to 6: a chain that throws dice, the seconds of its affinity, the rules with the dice.
        rf"|(KUBE-SV[CL]-\S++)(?:(?: (?:! )?-s {_HOST})?(?: (?:! )?-d {_HOST})? -p {_PROTOCOL}{_COMMENT}"
        rf" -m {_PROTOCOL} --dport \d++ {_MARKED}\n{_COUNTED}-A \4)?"
        rf"(?:{_FIRST_AFFINE}(?:{_MORE_AFFINE})*+)?({_THROWN}(?:{_COUNTED}-A \4{_THROWN})*+)(?!{_COUNTED}-A \4\s)"
        # 7 and 8: a chain that marks and goes on to another.
        rf"|(KUBE-EXT-\S++){_COMMENT} {_MARKED}\n{_COUNTED}-A \7 -j (KUBE-SVC-[A-Z0-9-]++)\n(?!{_COUNTED}-A \7\s)"
        # 9: any other.
        rf"|(\S++)(?:[ \t\r][^\n]*+)?(?:\n|\Z)(?:{_COUNTED}-A \9(?:[ \t\r][^\n]*+)?(?:\n|\Z))*+)"
    )
    dice = _DIE % ("([0-9.e-]++)", r"(\S++)")
    return re.compile(chain), re.compile(rf"^(?:{_COUNTED}-A \S++)?{dice}", re.M)


Place = tuple[int, Addr, int | None]
"""The line, address and port of an endpoint that a rule rewrites the destination to."""
Dice = tuple[int | None, tuple[str, ...], tuple[str, ...]]
"""For how many seconds a client keeps its endpoint (None: it does not), the probabilities ("": what is left), the chains of
the endpoints."""


class Whole(Struct, frozen=True):
    """What the chains of a table say that are as kube-proxy writes most of them: read all at once, in a tenth of the time.

    ``onward``: the chain that another one goes on to, once it marked the packet for masquerade.
    """

    places: dict[str, Place]
    dice: dict[str, Dice]
    onward: dict[str, str]


def whole(table: Table) -> Whole:
    """Reads every rule of a table; nothing of one with anything but rules of declared chains, each chain's together.

    What other chains say is told by :func:`said` and :func:`endpoints`.
    """
    places: dict[str, Place] = {}
    dice: dict[str, Dice] = {}
    onward: dict[str, str] = {}
    chains, rules = _patterns()
    others: list[str] = []
    number = 0
    for line, text in table.pieces():
        counted = end = 0
        for found in chains.finditer(text):
            kind = found.lastindex
            start = found.start()
            if start != end:
                return Whole({}, {}, {})
            end, number = found.end(), number + 1
            if kind == 3:
                if start != counted:
                    line += text.count("\n", counted, start)
                name, ip, port = found.group(1, 2, 3)
                places[name] = (line + 1, IPv4Address(inet_aton(ip)), int(port))
                line, counted = line + 2, end
            elif kind == 6:
                name, seconds, block = found.group(4, 5, 6)
                thrown = rules.findall(block)
                dice[name] = (
                    None if seconds is None else int(seconds),
                    tuple([share for share, _ in thrown]),
                    tuple([target for _, target in thrown]),
                )
            elif kind == 8:
                onward[found[7]] = found[8]
            else:
                others.append(found[9])
        if end != len(text):
            return Whole({}, {}, {})
    names = {*places, *dice, *onward, *others}
    if len(names) != number or not table.declares(names):
        return Whole({}, {}, {})
    return Whole(places, dice, onward)


def endpoints(table: Table, chain: str) -> Sequence[Place]:
    """(line, address, port) of the endpoints that the rules of a chain rewrite the destination to.

    Raises DecodeError for a rule that cannot be decoded.
    """
    runs = table.runs(chain)
    found = _ENDPOINT.fullmatch(runs[0][1]) if len(runs) == 1 else None
    if found is not None:
        return ((runs[0][0] + 1, IPv4Address(inet_aton(found[1])), int(found[2])),)
    lines, rules = said(table, chain)
    places = ((line, host_port(rule[TO])) for line, rule in zip(lines, rules, strict=True) if rule[TARGET] == "DNAT")
    return [(line, *place) for line, place in places if place is not None]


def said(table: Table, chain: str) -> tuple[Sequence[int], Sequence[Said]]:
    """The lines of a chain's rules and what each says; nothing for a chain that is not there.

    Raises DecodeError for a rule that cannot be decoded.
    """
    runs = table.runs(chain)
    if not runs:
        return (), ()
    if len(runs) == 1:
        line, text = runs[0]
        found: list[Said] = _RULE.findall(text)
        if len(found) == text.count("\n"):
            return range(line, line + len(found)), found
    rules = tuple(table.chains[chain].rules)
    return [rule.at.line for rule in rules], [of(rule) for rule in rules]


def of(rule: Rule) -> Said:
    """What a decoded rule says."""
    modules = {m.module for m in rule.matches}
    asks = modules - {"", "comment", "tcp", "udp", "sctp", "recent"}
    addressed = any(not m.module and m.options[0].name != "-p" for m in rule.matches)
    target = rule.target
    to = next((o for o in target.options if o.name == "--to-destination"), None) if target is not None else None
    return (
        "asked" if addressed else "", "asked" if asks else "", "asked" if "recent" in modules else "",
        _value(option(rule, "--seconds")), _value(option(rule, "--probability")), target.name if target else "",
        _value(to),
    )  # fmt: skip


def option(rule: Rule, name: str) -> Option | None:
    """The first option of that name in a rule's matches that is not negated."""
    for match in rule.matches:
        for found in match.options:
            if found.name == name and not found.negated:
                return found
    return None


def _value(found: Option | None) -> str:
    return found.values[0] if found is not None else ""


def ipv4(text: str) -> IPv4Address | None:
    """An IPv4 address, None for any other text. In a third of ip_address's time: a large dump has hundreds of thousands."""
    try:
        return IPv4Address(inet_pton(AF_INET, text))
    except (OSError, ValueError):
        return None


def host_port(text: str) -> tuple[Addr, int | None] | None:
    """ "10.0.0.1:80", "[fd00::1]:80" as address and port; None for anything else."""
    host, _, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    try:
        quick = ipv4(host) if port else None
        if quick is not None:
            return quick, int(port)
        return ip_address(host.strip("[]") if host else text), int(port) if host and port else None
    except ValueError:
        return None
