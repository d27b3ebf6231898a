"""``ip -j rule``: policy routing rules of one family (iproute2's ip/iprule.c, ``print_rule``)."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._iproute2 import ip_protocol, prefix, tos
from netk8s.decode._json import JsonObject, arrays, outer_keys
from netk8s.model import At, Coverage, Dump, Fact, RoutingRule

NAME = "ip-rule"
COMMAND = "ip -j rule"
_ACTIONS = ("blackhole", "unreachable", "prohibit")
_KNOWN = frozenset({
    "priority", "not", "src", "srclen", "dst", "dstlen", "tos", "dsfield", "fwmark", "fwmask", "iif", "oif", "ipproto",
    "sport", "sport_start", "sport_end", "dport", "dport_start", "dport_end", "uid_start", "uid_end", "table",
    "suppress_prefixlen", "goto", "nop", "action",
    # These change nothing about which packets a rule is for:
    "iif_detached", "oif_detached", "unresolved", "protocol", "flow_from", "flow_to",
})  # fmt: skip


def sniff(dump: Dump) -> bool:
    """A JSON array of rules: each has a priority, and a source if it is "all"."""
    keys = outer_keys(dump, "[")
    return {"priority", "src"} <= keys and not keys & {"ifindex", "mac", "flags"}


def decode(dump: Dump) -> Iterator[Fact]:
    """One RoutingRule per entry, after Coverage "rule4" or "rule6".

    The output does not name its family. Addresses tell it, else the table ``default``, which only IPv4 has a
    rule for: the kernel's own rules are local, main, default for IPv4 and local, main for IPv6
    (net/ipv4/fib_rules.c, net/ipv6/fib6_rules.c). What is not known of a rule, a selector of a newer iproute2,
    is in ``unknown`` and never left out. Raises DecodeError.
    """
    for at, items in arrays(dump, COMMAND):
        yield from of_items(items, at)


def of_items(items: list[JsonObject], at: At) -> Iterator[Fact]:
    """The same of the rules of one command's output, each with the members that its JSON has."""
    family = _family(items)
    yield Coverage(f"rule{family}", at)
    for item in items:
        yield _rule(item, family)


def _family(items: list[JsonObject]) -> int:
    for item in items:
        for net in (prefix(item, "src", "srclen"), prefix(item, "dst", "dstlen")):
            if net is not None:
                return net.version
    return 4 if any(item.word("table") in ("default", "253") for item in items) else 6


def _rule(item: JsonObject, family: int) -> RoutingRule:
    src, dst = prefix(item, "src", "srclen"), prefix(item, "dst", "dstlen")
    for key, net in (("src", src), ("dst", dst)):
        if net is not None and net.version != family:
            raise item.wrong(key, f"an IPv{family} prefix, as the other rules have; dump each family by itself")
    unknown = sorted(key for key in item.members if key not in _KNOWN)
    service = tos(item, "tos")
    if service is None and item.members.get("tos") is not None:
        unknown.append("tos")
    if "dsfield" in item.members:
        unknown.append("dsfield")
    action = item.text("action")
    if action is None:
        action = "goto" if "goto" in item.members else "nop" if item.present("nop") else "lookup"
    elif action not in (*_ACTIONS, "lookup", "goto", "nop"):
        unknown.append(f"action {action}")
    mask = item.number("fwmask")
    uids = _range(item, "uid_start", "uid_end", 0xFFFFFFFF)
    return RoutingRule(
        priority=item.number("priority") or 0,
        family=family,
        action=action,
        table=item.word("table"),
        src=src,
        dst=dst,
        iif=item.text("iif"),
        oif=item.text("oif"),
        fwmark=item.number("fwmark"),
        fwmask=0xFFFFFFFF if mask is None else mask,
        goto=item.number("goto"),
        ipproto=ip_protocol(item, "ipproto"),
        sport=_ports(item, "sport"),
        dport=_ports(item, "dport"),
        uidrange=uids,
        tos=service,
        negated=item.present("not"),
        suppress_prefixlength=item.number("suppress_prefixlen", -1, 128),
        unknown=tuple(unknown),
        at=item.at,
    )


def _ports(item: JsonObject, key: str) -> tuple[int, int] | None:
    port = item.number(key, 0, 65535)
    return (port, port) if port is not None else _range(item, f"{key}_start", f"{key}_end", 65535)


def _range(item: JsonObject, first: str, last: str, high: int) -> tuple[int, int] | None:
    low, top = item.number(first, 0, high), item.number(last, 0, high)
    if low is None and top is None:
        return None
    if low is None or top is None or low > top:
        raise item.wrong(first, f"a range with {last} not below it")
    return low, top
