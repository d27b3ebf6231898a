"""One nftables base chain: rules, verdicts, sets, maps and expressions.

Sources: Linux net/netfilter/nf_tables_core.c (nft_do_chain), nft_{cmp,bitwise,range,lookup,meta,ct,payload,fib,numgen,
hash,nat,masq,redir,reject,limit,dynset}.c, net/ipv{4,6}/netfilter/nft_fib_ipv{4,6}.c. What nft writes without saying so
(a payload's protocol) is from nftables src/payload.c.

A statement that does not hold ends its rule; what statements before it changed stays changed (NFT_BREAK).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from ipaddress import ip_address, ip_network

from netk8s.kernel import targets
from netk8s.kernel.flight import Branch, Conn, Flight
from netk8s.kernel.iptables import MOST_BRANCHES, MOST_FRAMES, Verdict
from netk8s.kernel.matches import Ask, Seen, Truth, negate, protocol_number
from netk8s.kernel.netns import Netns
from netk8s.model import (
    ICMP,
    ICMPV6,
    TCP,
    Addr,
    NftChain,
    NftElement,
    NftExpr,
    NftRule,
    NftSet,
    NftStatement,
    NftTable,
    NftValue,
    NftVerdict,
    Option,
    Packet,
    Question,
    Step,
    Target,
)

CONNTRACK_PRIORITY = -200
"""Before it, at PREROUTING and OUTPUT, a packet has no conntrack entry (NF_IP_PRI_CONNTRACK)."""
MOST_DICE = 256
"""Dice with more sides are not spelled out where each side leads elsewhere and no map tells where."""


# ---------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class Dice:
    """A number from ``offset`` on, each of ``count`` as likely. ``note`` says when it is no fresh dice."""

    count: int
    offset: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that no dump tells. ``what`` completes "… is"; ``low`` and ``high`` bound a number."""

    what: str
    default: bool | None = None
    low: int | None = None
    high: int | None = None
    key: str = ""


class Broken:
    """The packet has no such value: the rule does not match, also when the match is negated (NFT_BREAK)."""

    __slots__ = ()


BREAK = Broken()
Value = int | str | tuple["Value", ...] | Dice | Unknown | Broken
"""What an expression is for a packet: numbers (addresses, ports, marks, bits), names, or one of the above."""

Part = tuple[int, int] | str | None
"""A constant as it is compared: a range of numbers, a name (maybe with a trailing ``*``), or None: anything."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where rules are evaluated: their table, the hook, the node, and whether conntrack has seen the packet."""

    table: NftTable
    hook: str
    netns: Netns
    tracked: bool

    def seen(self, flight: Flight, rule: NftRule) -> Seen:
        return Seen(flight, self.hook, self.netns, rule, self.table.name)


@dataclass(frozen=True, slots=True)
class Hit:
    """A branch within a rule, and by which odds, answers and changes it came so far."""

    branch: Branch
    odds: Fraction = Fraction(1)
    asked: tuple[Ask, ...] = ()
    changes: tuple[tuple[str, str], ...] = ()

    def dice(self, odds: Fraction) -> Hit:
        return replace(self, branch=self.branch.dice(odds), odds=self.odds * odds)

    @property
    def assumed(self) -> bool:
        return any(a.question.default is not None for a in self.asked)

    @property
    def unknown(self) -> str:
        return "; ".join(
            a.question.if_true if a.wanted else a.question.if_false for a in self.asked if a.question.default is None
        )


_CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
_CT_STATUS = {
    "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512,
}  # fmt: skip
_TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
_ICMP_TYPES = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
    "timestamp-request": 13, "timestamp-reply": 14, "info-request": 15, "info-reply": 16, "address-mask-request": 17,
    "address-mask-reply": 18,
}  # fmt: skip
_ICMPV6_TYPES = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128,
    "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132,
    "mld-listener-reduction": 132, "nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138, "ind-neighbor-solicit": 141,
    "ind-neighbor-advert": 142, "mld2-listener-report": 143,
}  # fmt: skip
_ADDRESS_TYPES = {
    "unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6,
    "unreachable": 7, "prohibit": 8,
}  # fmt: skip
_ETHER_TYPES = {"ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD, "vlan": 0x8100, "8021q": 0x8100, "8021ad": 0x88A8}
_PACKET_TYPES = {"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3}
_WORDS: Mapping[str, Mapping[str, int]] = {
    "ct state": _CT_STATES,
    "ct status": _CT_STATUS,
    "ct direction": {"original": 0, "reply": 1},
    "tcp flags": _TCP_FLAGS,
    "icmp type": _ICMP_TYPES,
    "icmp code": {
        "net-unreachable": 0, "host-unreachable": 1, "prot-unreachable": 2, "port-unreachable": 3, "frag-needed": 4,
        "net-prohibited": 9, "host-prohibited": 10, "admin-prohibited": 13,
    },
    "icmpv6 type": _ICMPV6_TYPES,
    "icmpv6 code": {"no-route": 0, "admin-prohibited": 1, "addr-unreachable": 3, "port-unreachable": 4},
    "fib type": _ADDRESS_TYPES,
    "fib exists": {"missing": 0, "exists": 1},
    "nfproto": {"ipv4": 2, "ipv6": 10},
    "ether type": _ETHER_TYPES,
    "pkttype": _PACKET_TYPES,
}  # fmt: skip
"""Words that stand for numbers, by what they are compared with (nftables src/datatype.c, ct.c, fib.c, proto.c)."""

FLAG_KINDS = frozenset({"ct state", "ct status", "tcp flags"})


def kind(e: NftValue) -> str:
    """What a value is: decides what words and numbers beside it mean."""
    if not isinstance(e, NftExpr):
        return ""
    op, words = e.op, e.words
    if op in ("&", "|", "^", "<<", ">>"):
        return kind(e.args[0]) or kind(e.args[1])
    if op == "payload":
        proto, name = words[0], words[1] if len(words) > 1 else ""
        if name in ("saddr", "daddr") and proto in ("ip", "ip6"):
            return "address"
        if name in ("protocol", "nexthdr"):
            return "protocol"
        if (proto, name) == ("ether", "type"):
            return "ether type"
        return f"{proto} {name}"
    if op == "meta":
        return {
            "l4proto": "protocol", "protocol": "ether type", "iif": "device", "oif": "device", "iifname": "device",
            "oifname": "device",
        }.get(words[0], words[0])  # fmt: skip
    if op == "ct":
        name = words[0].rpartition(" ")[2]
        if name in ("saddr", "daddr"):
            return "address"
        return {"protocol": "protocol", "l3proto": "nfproto"}.get(name, f"ct {name}")
    if op == "fib":
        return {"type": "fib type", "oifname": "device", "oif": "device"}.get(words[0], "")
    if op == "rt":
        return "address" if words[0].endswith("nexthop") else words[0]
    return ""


def number(word: str, of: str) -> int | None:
    """A word or address as a number; None when it is none that is known here."""
    found = _WORDS.get(of, {}).get(word)
    if found is not None:
        return found
    if of == "protocol":
        return protocol_number(word)
    try:
        return int(ip_address(word)) if of == "address" or ":" in word or "." in word else int(word, 0)
    except ValueError:
        return None


def part(value: NftValue, of: str) -> Part | Unknown:
    """A constant as it is compared with something of a kind."""
    if isinstance(value, int):
        return (value, value)
    if isinstance(value, str):
        if of == "device":
            if value in ("exists", "missing"):
                return value
            return value
        found = number(value, of)
        return (found, found) if found is not None else Unknown(value)
    if isinstance(value, NftExpr):
        if value.op == "*":
            return None
        if value.op == "prefix" and len(value.args) == 2 and isinstance(value.args[1], int):
            try:
                net = ip_network(f"{value.args[0]}/{value.args[1]}", strict=False)
            except ValueError:
                return Unknown(str(value.args[0]))
            return int(net.network_address), int(net.broadcast_address)
        if value.op == "range" and len(value.args) == 2:
            low, high = part(value.args[0], of), part(value.args[1], of)
            if isinstance(low, tuple) and isinstance(high, tuple):
                return low[0], high[1]
        if value.op in ("list", "|"):
            bits = 0
            for item in value.args:
                one = part(item, of)
                if not isinstance(one, tuple):
                    return Unknown("flags")
                bits |= one[0]
            return bits, bits
    return Unknown("a constant that is not understood")


def holds(value: int | str, constant: Part) -> bool:
    """Whether a value is a constant, or in its range."""
    if constant is None:
        return True
    if isinstance(constant, str):
        if constant.endswith("*") and not constant.endswith("\\*"):
            return isinstance(value, str) and value.startswith(constant[:-1])
        return value == constant.replace("\\*", "*")
    return isinstance(value, int) and constant[0] <= value <= constant[1]


# ---------------------------------------------------------------- sets


class Index:
    """The elements of a set by their keys, for keys of certain kinds."""

    def __init__(self, elements: Iterable[NftElement], kinds: tuple[str, ...]) -> None:
        self.exact: dict[object, NftElement] = {}
        self.ranges: list[tuple[int, int, NftElement]] = []
        self.others: list[tuple[tuple[Part | Unknown, ...], NftElement]] = []
        self.all: list[tuple[tuple[Part | Unknown, ...], NftElement]] = []
        for element in elements:
            parts = self._parts(element.key, kinds)
            self.all.append((parts, element))
            first = parts[0]
            plain = tuple(_plain(p) for p in parts)
            if all(p is not None for p in plain):
                self.exact.setdefault(plain if len(plain) > 1 else plain[0], element)
            elif len(parts) == 1 and isinstance(first, tuple):
                self.ranges.append((first[0], first[1], element))
            else:
                self.others.append((parts, element))
        self.ranges.sort(key=lambda r: r[0])
        self._starts = [r[0] for r in self.ranges]

    @staticmethod
    def _parts(key: NftValue, kinds: tuple[str, ...]) -> tuple[Part | Unknown, ...]:
        keys = key.args if isinstance(key, NftExpr) and key.op == "concat" else (key,)
        if isinstance(key, NftExpr) and key.op == "*":
            return (None,) * len(kinds)
        if len(keys) != len(kinds):
            return (Unknown("an element of another shape"),) * len(kinds)
        return tuple(part(k, of) for k, of in zip(keys, kinds, strict=True))

    def find(self, value: int | str | tuple[int | str, ...]) -> NftElement | Unknown | None:
        """The element that a key is in. Elements do not overlap, but a ``*`` takes what no other does."""
        found = self.exact.get(value)
        if found is not None:
            return found
        if isinstance(value, int) and self.ranges:
            i = bisect_right(self._starts, value) - 1
            if i >= 0 and self.ranges[i][1] >= value:
                return self.ranges[i][2]
        values = value if isinstance(value, tuple) else (value,)
        rest: NftElement | Unknown | None = None
        for parts, element in self.others:
            if all(p is None for p in parts):
                rest = element
                continue
            fits = [not isinstance(p, Unknown) and holds(v, p) for v, p in zip(values, parts, strict=False)]
            if all(fits):
                return element
            if any(isinstance(p, Unknown) for p in parts) and all(
                f or isinstance(p, Unknown) for f, p in zip(fits, parts, strict=True)
            ):
                rest = Unknown("an element that is not understood")
        return rest


def _plain(p: Part | Unknown) -> int | str | None:
    """A part that only one value has, as that value."""
    if isinstance(p, tuple):
        return p[0] if p[0] == p[1] else None
    return p if isinstance(p, str) and not p.endswith("*") else None


def _kinds(key: NftValue) -> tuple[str, ...]:
    if isinstance(key, NftExpr) and key.op == "concat":
        return tuple(kind(a) for a in key.args)
    return (kind(key),)


def _named(ctx: Context, data: NftValue) -> NftSet | None:
    if isinstance(data, NftExpr) and data.op == "@":
        return ctx.table.sets.get(data.words[0])
    return None


def _index(ctx: Context, data: NftValue, key: NftValue) -> Index | None:
    """The index of a set, named or written in the rule; None when the dump does not have it."""
    kinds = _kinds(key)
    if isinstance(data, NftExpr) and data.op == "set":
        written = ("elements", id(data), kinds)
        found = ctx.netns.memo.get(written)
        if found is None or found[0] is not data:
            found = ctx.netns.memo[written] = (data, Index((a for a in data.args if isinstance(a, NftElement)), kinds))
        return _is_index(found[1])
    named = _named(ctx, data)
    if named is None:
        return None
    memo = ("set", ctx.table.family, ctx.table.name, named.name, kinds)
    if memo not in ctx.netns.memo:
        ctx.netns.memo[memo] = (named, Index(named.elements, kinds))
    return _is_index(ctx.netns.memo[memo][1])


def _is_index(found: object) -> Index:
    assert isinstance(found, Index)  # noqa: S101 - what this module put there
    return found


# ---------------------------------------------------------------- expressions


def value(e: NftValue, ctx: Context, flight: Flight) -> Value:
    """What an expression is for a packet. A map is not looked up here: see :func:`_valued`."""
    if isinstance(e, int):
        return e
    if isinstance(e, str):
        found = number(e, "")
        return found if found is not None else e
    if not isinstance(e, NftExpr):
        return Unknown("an expression that is not understood")
    read = _VALUES.get(e.op)
    if read is None:
        return Unknown(f"“{' '.join((e.op, *e.words))}”", key="expression")
    return read(e, ctx, flight)


def _concat(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    parts = tuple(value(a, ctx, flight) for a in e.args)
    return BREAK if any(p is BREAK for p in parts) else parts


def _bits(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    left = value(e.args[0], ctx, flight)
    constant = e.args[1]
    if isinstance(constant, NftExpr) and constant.op not in ("list", "|", "prefix"):
        found = value(constant, ctx, flight)
        if found is BREAK or isinstance(found, Broken):
            return BREAK
        mask = found if isinstance(found, int) else None
    else:
        of = part(constant, kind(e.args[0]))
        mask = of[0] if isinstance(of, tuple) else None
    if isinstance(left, Broken | Unknown):
        return left
    if mask is None:
        return Unknown("bit arithmetic that is not understood")
    if isinstance(left, Dice):
        if e.op == "&" and mask & (mask + 1) == 0 and left.offset == 0 and left.count == 1 << 32:
            return Dice(mask + 1, 0, left.note)
        return Unknown("bit arithmetic on dice")
    if not isinstance(left, int):
        return Unknown("bit arithmetic that is not understood")
    if e.op == "&":
        return left & mask
    if e.op == "|":
        return left | mask
    if e.op == "^":
        return left ^ mask
    if mask > 64:
        return 0
    return (left << mask) & 0xFFFFFFFF if e.op == "<<" else left >> mask


def _payload(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    proto, name = e.words[0], e.words[1] if len(e.words) > 1 else ""
    packet = flight.packet
    if proto in ("ip", "ip6"):
        if (proto == "ip") != (packet.family == 4):
            return BREAK
        if name == "saddr":
            if not flight.src_known:
                return Unknown("the source address that an earlier rule gave the packet", key="src")
            return int(packet.src)
        if name == "daddr":
            return int(packet.dst)
        if name in ("protocol", "nexthdr"):
            return packet.protocol
        if name in ("dscp", "ecn"):
            return Unknown(f"the packet's {name}", False)
        if name in ("version", "hdrlength"):
            return {"version": 4 if proto == "ip" else 6, "hdrlength": 5}[name]
        return Unknown(f"the packet's {proto} {name}")
    if proto in ("icmp", "icmpv6"):
        if packet.protocol != (ICMP if proto == "icmp" else ICMPV6):
            return BREAK
        found = {"type": packet.icmp_type, "code": packet.icmp_code}.get(name)
        return found if found is not None else Unknown(f"the packet's {proto} {name}")
    number_ = protocol_number(proto) if proto != "th" else packet.protocol
    if number_ is None or proto in ("ether", "vlan", "arp") or proto.startswith("@"):
        return Unknown(f"the packet's {' '.join(e.words)}")
    if number_ != packet.protocol:
        return BREAK
    if name in ("sport", "dport"):
        port = packet.sport if name == "sport" else packet.dport
        if port is not None:
            return port
        if name == "sport" and packet.dport is not None:
            return Unknown("the source port", low=1024, high=65535, key="sport")
        return Unknown(f"the packet's bytes in place of a {name}", False)
    if proto == "tcp" and name == "flags":
        return sum(_TCP_FLAGS.get(f.lower(), 0) for f in packet.tcp_flags)
    return Unknown(f"the packet's {proto} {name}")


def _meta(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    name = e.words[0]
    packet = flight.packet
    if name == "mark":
        return packet.mark
    if name == "l4proto":
        return packet.protocol
    if name == "nfproto":
        return 2 if packet.family == 4 else 10
    if name == "protocol":
        return 0x0800 if packet.family == 4 else 0x86DD
    if name in ("iifname", "iif", "oifname", "oif"):
        device, known = (flight.iif, flight.iif_known) if name[0] == "i" else (flight.oif, flight.oif_known)
        if not known:
            way = "the device the packet comes in by" if name[0] == "i" else "the device the packet leaves by"
            return Unknown(f"{way} on {ctx.netns.name}", False, key=name[:3])
        return device or ""
    if name == "pkttype":
        # The kernel takes it from the frame; that a frame for this host is unicast follows from its address.
        return _PACKET_TYPES["multicast" if packet.dst.is_multicast else "host"]
    if name == "random":
        return Dice(1 << 32)
    if name in ("skuid", "skgid", "cgroup"):
        if not flight.local or ctx.hook not in ("output", "postrouting"):
            return BREAK
        return Unknown(f"the {name} of the sending process", False)
    if name in ("iifkind", "oifkind"):
        device = flight.iif if name[0] == "i" else flight.oif
        link = ctx.netns.links.get(device or "")
        return link.kind if link is not None and link.kind else Unknown(f"the kind of {device}")
    if name in ("nftrace", "ipsec", "secpath"):
        return 0
    return Unknown(f"the packet's meta {name}")


def _conn(ctx: Context, flight: Flight) -> Conn | None:
    """The packet's conntrack entry, None while or because it has none."""
    if not ctx.tracked or flight.conn.state in ("UNTRACKED", "INVALID"):
        return None
    return flight.conn


def _ct(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    family, _, name = e.words[0].rpartition(" ")
    direction = e.words[1] if len(e.words) > 1 else ""
    conn = _conn(ctx, flight)
    if name == "state":
        if conn is None:
            return _CT_STATES["untracked" if flight.conn.state == "UNTRACKED" else "invalid"]
        return _CT_STATES.get(conn.state.lower(), 8)
    if conn is None:
        return BREAK
    if name == "status":
        replied = conn.state == "ESTABLISHED"
        return (
            (_CT_STATUS["dnat"] if conn.dnat else 0)
            | (_CT_STATUS["snat"] if conn.snat else 0)
            | (
                _CT_STATUS["confirmed"] | (_CT_STATUS["seen-reply"] if conn.direction == "REPLY" else 0)
                if replied
                else 0
            )
        )
    if name == "mark":
        return conn.mark
    if name == "direction":
        return 0 if conn.direction == "ORIGINAL" else 1
    if name == "protocol":
        return conn.original.protocol
    if name == "l3proto":
        return 2 if conn.original.src.version == 4 else 10
    if name in ("saddr", "daddr", "proto-src", "proto-dst"):
        side = conn.reply if direction == "reply" else conn.original
        if family and (family == "ip") != (side.src.version == 4):
            return BREAK
        if name in ("saddr", "daddr"):
            return int(side.src if name == "saddr" else side.dst)
        port = side.sport if name == "proto-src" else side.dport
        return port if port is not None else Unknown(f"the connection's {name}", low=1024, high=65535, key=name)
    if name in ("zone", "id", "bytes", "packets", "avgpkt", "label"):
        return 0 if name in ("zone", "label") else Unknown(f"the connection's {name}")
    if name in ("helper",):
        return ""
    return Unknown(f"the connection's {name}")


def _fib(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    result, flags = e.words[0], e.words[1:]
    netns, packet = ctx.netns, flight.packet
    source = "saddr" in flags
    if source and not flight.src_known:
        return Unknown("the source address that an earlier rule gave the packet", key="src")
    address = packet.src if source else packet.dst
    if result == "type":
        return _address_type(address, flags, netns, flight)
    if result not in ("oif", "oifname"):
        return Unknown(f"fib {result}")
    inward = "iif" in flags
    if inward and (flight.iif == "lo" or flight.looped):
        return "lo"
    if not netns.routes_known(packet.family):
        return Unknown(f"the device that {netns.name} routes {address} by", key="fib")
    mark = packet.mark if "mark" in flags else 0
    found = netns.fib(packet.family).lookup(address, packet.dst if source else packet.src, mark=mark)
    if found.kind == "unknown":
        return Unknown(f"the device that {netns.name} routes {address} by", key="fib")
    if found.kind != "unicast":
        return ""
    devices = [hop.dev or "" for _, hop in found.ways]
    if inward:
        if not flight.iif_known:
            return Unknown("the device the packet comes in by", key="iif")
        return flight.iif or "" if flight.iif in devices else ""
    return devices[0] if devices else ""


def _address_type(address: Addr, flags: Sequence[str], netns: Netns, flight: Flight) -> Value:
    device = flight.iif if "iif" in flags else flight.oif if "oif" in flags else None
    if ("iif" in flags and not flight.iif_known) or ("oif" in flags and not flight.oif_known):
        device = None
    if netns.is_local(address) is None:
        return Unknown(f"the type of {address}", key=f"type:{address}")
    found = "local" if address in netns.own else netns.fib(address.version).address_type(address, device)
    return _ADDRESS_TYPES.get(found.lower(), 1)


def _numgen(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    modulus, offset = _integers(e, 2)
    note = (
        "numgen inc takes its turn: each of its values is taken to be as likely for this packet"
        if e.words[0] == "inc"
        else ""
    )
    return Dice(max(modulus, 1), offset, note)


def _hash(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    modulus, offset = _integers(e, 2)
    return Dice(max(modulus, 1), offset, f"{e.op} decides by the packet's headers: one client always gets the same")


def _integers(e: NftExpr, count: int) -> tuple[int, ...]:
    return tuple(a if isinstance(a, int) else 0 for a in e.args[:count])


def _rt(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    if e.words[0].endswith("nexthop") and flight.oif_known:
        return int(flight.nexthop or flight.packet.dst)
    return 0 if e.words[0] == "ipsec" else Unknown(f"the route's {e.words[0]}")


def _socket(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    return Unknown(f"the {e.words[0]} of a socket of the node that takes the packet", False)


def _exthdr(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    default = None if e.words[0] == "tcp option" else False
    return Unknown(f"the packet's {' '.join(e.words)}", default)


_VALUES: Mapping[str, Callable[[NftExpr, Context, Flight], Value]] = {
    "concat": _concat,
    "&": _bits,
    "|": _bits,
    "^": _bits,
    "<<": _bits,
    ">>": _bits,
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "numgen": _numgen,
    "jhash": _hash,
    "symhash": _hash,
    "rt": _rt,
    "socket": _socket,
    "exthdr": _exthdr,
}


# ---------------------------------------------------------------- matches


def _ask(
    ctx: Context, rule: NftRule, text: str, default: bool | None = None, key: str = "", memory: bool = False
) -> Ask:
    return Ask(
        Question(
            f"{ctx.netns.name}:{key or f'{rule.at}:{rule.chain}:{text}'}",
            text,
            f"it is not so that {text}",
            default,
            memory,
        )
    )


def _in_parts(
    v: int | str | Dice | Unknown | Broken, p: Part | Unknown, ctx: Context, rule: NftRule, what: str
) -> Truth:
    """Whether one value is one constant."""
    if isinstance(v, Broken):
        return False
    if isinstance(p, Unknown):
        return _ask(ctx, rule, f"{what} is {p.what}")
    if p is None:
        return True
    if isinstance(v, Dice):
        return Fraction(_covered(v, p), v.count)
    if isinstance(v, Unknown):
        return _unknown_in(v, p, ctx, rule)
    return holds(v, p)


def _covered(dice: Dice, p: Part) -> int:
    """How many sides of a dice are in a range."""
    if not isinstance(p, tuple):
        return dice.count if p is None else 0
    low, high = max(p[0], dice.offset), min(p[1], dice.offset + dice.count - 1)
    return max(high - low + 1, 0)


def _unknown_in(v: Unknown, p: Part, ctx: Context, rule: NftRule) -> Truth:
    text = _said(p, v.what)
    if v.low is not None and v.high is not None and isinstance(p, tuple):
        if p[0] <= v.low and p[1] >= v.high:
            return True
        if p[1] < v.low or p[0] > v.high:
            return False
        return _ask(ctx, rule, f"{v.what} is {text}", False if p[1] - p[0] < 1000 else None, f"{v.key}:{text}")
    return _ask(ctx, rule, f"{v.what} is {text}", v.default, f"{v.key}:{text}" if v.key else "")


def _said(p: Part, what: str) -> str:
    if isinstance(p, tuple):
        if "address" in what:
            low, high = _address(p[0]), _address(p[1])
            return low if low == high else f"in {low}-{high}"
        return str(p[0]) if p[0] == p[1] else f"in {p[0]}-{p[1]}"
    return str(p)


def _address(value: int) -> str:
    return str(ip_address(value))


def _one_of(left: Value, data: NftValue, of: NftValue, ctx: Context, rule: NftRule) -> Truth:
    """Whether a value is in a set."""
    index = _index(ctx, data, of)
    named = _named(ctx, data)
    name = data.words[0] if isinstance(data, NftExpr) and data.op == "@" else "the rule's set"
    if index is None:
        return _ask(ctx, rule, f"the packet is in set {name}, which the dump does not have", key=f"set:{name}:{left}")
    if isinstance(left, Dice):
        return Fraction(sum(_covered(left, p[0]) for p, _ in index.all if not isinstance(p[0], Unknown)), left.count)
    known = _known(left)
    if known is not None:
        found = index.find(known)
        if isinstance(found, Unknown):
            return _ask(ctx, rule, f"the packet is {found.what} of {name}")
        if named is not None and named.dynamic:
            return _remembers(ctx, rule, named, found is not None, known)
        return found is not None
    if isinstance(left, Broken):
        return False
    return _may_be_in(left, index, ctx, rule, name)


def _known(v: Value) -> int | str | tuple[int | str, ...] | None:
    """A value when it is certain, and flat when it has parts."""
    if isinstance(v, int | str):
        return v
    if isinstance(v, tuple) and all(isinstance(p, int | str) for p in v):
        return tuple(p for p in v if isinstance(p, int | str))
    return None


def _may_be_in(left: Value, index: Index, ctx: Context, rule: NftRule, name: str) -> Truth:
    """A lookup by something not wholly known: open if one element fits what is known."""
    values = left if isinstance(left, tuple) else (left,)
    open_: list[Ask] = []
    for parts, _ in index.all:
        asks: list[Ask] = []
        for v, p in zip(values, parts, strict=False):
            truth = False if isinstance(v, tuple) else _in_parts(v, p, ctx, rule, "the packet")
            if truth is False or truth == 0:
                break
            if isinstance(truth, Ask):
                asks.append(truth)
        else:
            if not asks:
                return True
            open_.extend(asks)
    if not open_:
        return False
    if len(open_) == 1:
        return open_[0]
    what = ", ".join(dict.fromkeys(v.what for v in values if isinstance(v, Unknown)))
    default = False if all(a.question.default is False for a in open_) else None
    return _ask(ctx, rule, f"{what} is in {name}", default)


def _remembers(ctx: Context, rule: NftRule, named: NftSet, held: bool, key: object) -> Ask:
    """A set that rules add to, as session affinity does: what it holds now is not what the dump shows."""
    where = f"set {named.name} of {ctx.netns.name}"
    return Ask(
        Question(
            f"{ctx.netns.name}:set:{ctx.table.family}:{ctx.table.name}:{named.name}:{key}",
            f"{where} remembers the client",
            f"{where} does not remember the client{' any more' if held else ''}",
            default=held,
            memory=True,
        )
    )


def matches(s: NftStatement, rule: NftRule, ctx: Context, left: Value) -> Truth:
    """Whether a match statement holds for what is on its left."""
    operator = s.words[0]
    of, right = s.args[0], s.args[1]
    assert not isinstance(of, NftStatement) and not isinstance(right, NftStatement)  # noqa: S101, PT018 - model.NftStatement
    if isinstance(left, Broken):
        return False
    if isinstance(right, NftExpr) and right.op in ("set", "@"):
        truth = _one_of(left, right, of, ctx, rule)
        return negate(truth) if operator == "!=" else truth
    if isinstance(right, NftExpr) and right.op == "unknown":
        return _ask(ctx, rule, f"the packet matches “{right.words[0]}”")
    if right in ("exists", "missing"):
        return _exists(left, right == "exists", ctx, rule)
    if operator in ("in", "!"):
        bits = part(right, kind(of))
        if not isinstance(bits, tuple) or not isinstance(left, int):
            return (
                _ask(ctx, rule, f"the packet matches “{rule.raw}”")
                if isinstance(left, Unknown) or not isinstance(bits, tuple)
                else False
            )
        return bool(left & bits[0]) != (operator == "!")
    if isinstance(left, tuple):
        truth = _tuple_is(left, right, _kinds(of), ctx, rule)
        return negate(truth) if operator == "!=" else truth
    compared = part(right, kind(of))
    if kind(of) == "device" and isinstance(compared, tuple):
        # An interface by number; 0 is none.
        link = next((k.name for k in ctx.netns.links.values() if k.index == compared[0]), "")
        compared = link
    if operator in ("<", ">", "<=", ">="):
        if not isinstance(compared, tuple):
            return _ask(ctx, rule, f"the packet matches “{rule.raw}”")
        top = (1 << 128) - 1
        compared = {
            "<": (0, compared[0] - 1), "<=": (0, compared[1]), ">": (compared[1] + 1, top), ">=": (compared[0], top),
        }[operator]  # fmt: skip
        if isinstance(left, Unknown) and left.low is None:
            return _ask(ctx, rule, f"{left.what} is {operator} {s.args[1]}", left.default)
    truth = _in_parts(left, compared, ctx, rule, "the packet")
    return negate(truth) if operator == "!=" else truth


def _exists(left: Value, wanted: bool, ctx: Context, rule: NftRule) -> Truth:
    if isinstance(left, Unknown):
        ask = _ask(
            ctx,
            rule,
            f"{left.what} is there",
            left.default if left.default is not None or not left.key else True,
            left.key and f"{left.key}:exists",
        )
        return ask if wanted else negate(ask)
    return (left not in ("", 0)) == wanted


def _tuple_is(left: tuple[Value, ...], right: NftValue, kinds: tuple[str, ...], ctx: Context, rule: NftRule) -> Truth:
    index = Index((NftElement(right),), kinds)
    known = _known(left)
    if known is None:
        return _may_be_in(left, index, ctx, rule, "the rule's constants")
    found = index.find(known)
    return _ask(ctx, rule, f"the packet matches “{rule.raw}”") if isinstance(found, Unknown) else found is not None


# ---------------------------------------------------------------- a rule

NEXT, MISSED = "next", "missed"


@dataclass(frozen=True, slots=True)
class Done:
    """A branch at the end of a statement. ``end``: NEXT, MISSED, a verdict of nft, or what a target did."""

    hit: Hit
    end: str | NftVerdict | targets.Effect = NEXT


def _fork(truth: Truth, hit: Hit) -> Iterator[tuple[bool, Hit]]:
    """The branches of a truth."""
    if isinstance(truth, bool):
        yield truth, hit
    elif isinstance(truth, Fraction):
        if truth > 0:
            yield True, hit.dice(truth) if truth != 1 else hit
        if truth < 1:
            yield False, hit.dice(1 - truth) if truth != 0 else hit
    else:
        for answer, branch in hit.branch.ask(truth.question):
            matched = answer == truth.wanted
            asked = (*hit.asked, truth) if matched else hit.asked
            yield matched, replace(hit, branch=branch, asked=asked)


_STRANGE = NftElement("", NftExpr("unknown", ("an element that is not understood",)))
"""Stands for the element of a map that a packet has and that nobody can read."""


def _lookup(
    data: NftValue, key: NftValue, found: Value, hit: Hit, ctx: Context, rule: NftRule
) -> Iterator[tuple[Hit, NftElement | None]]:
    """The element of a map for a key, None where there is none."""
    if isinstance(found, Broken):
        yield hit, None
        return
    index = _index(ctx, data, key)
    if index is None:
        name = data.words[0] if isinstance(data, NftExpr) and data.words else "map"
        ask = _ask(
            ctx, rule, f"map {name}, which the dump does not have, has no element for the packet", key=f"map:{name}"
        )
        for absent, other in _fork(ask, hit):
            yield other, None if absent else _STRANGE
        return
    if isinstance(found, Dice):
        left = Fraction(1)
        noted = replace(hit, branch=hit.branch.assume(found.note)) if found.note else hit
        for parts, element in index.all:
            share = (
                Fraction(_covered(found, parts[0]), found.count) if not isinstance(parts[0], Unknown) else Fraction(0)
            )
            if share:
                left -= share
                yield noted.dice(share) if share != 1 else noted, element
        if left > 0:
            yield noted.dice(left), None
        return
    known = _known(found)
    if known is not None:
        here = index.find(known)
        named = _named(ctx, data)
        if isinstance(here, Unknown):
            for matched, other in _fork(_ask(ctx, rule, f"the packet is {here.what} of the map"), hit):
                yield other, _STRANGE if matched else None
        elif named is not None and named.dynamic and here is not None:
            for matched, other in _fork(_remembers(ctx, rule, named, True, known), hit):
                yield other, here if matched else None
        else:
            yield hit, here
        return
    # One element after the other: may it be this one?
    values = found if isinstance(found, tuple) else (found,)
    rest = [hit]
    for parts, element in index.all:
        truths = [
            False if isinstance(v, tuple) else _in_parts(v, p, ctx, rule, "the packet")
            for v, p in zip(values, parts, strict=False)
        ]
        if any(t is False for t in truths):
            continue
        following: list[Hit] = []
        for each in rest:
            hits = [each]
            for truth in truths:
                passed: list[Hit] = []
                for one in hits:
                    for matched, other in _fork(truth, one):
                        (passed if matched else following).append(other)
                hits = passed
            for one in hits:
                yield one, element
        rest = following
    for each in rest:
        yield each, None


def _valued(e: NftValue, hit: Hit, ctx: Context, rule: NftRule) -> Iterator[tuple[Hit, Value | NftValue]]:
    """The value of an expression, with maps looked up: the value that a map has for the packet, or BREAK."""
    if isinstance(e, NftExpr) and e.op == "map":
        key, data = e.args
        for keyed, found in _valued(key, hit, ctx, rule):
            for other, element in _lookup(data, key, _as_value(found), keyed, ctx, rule):
                if element is None or element.value is None:
                    yield other, BREAK
                else:
                    yield other, element.value
        return
    yield hit, value(e, ctx, hit.branch.flight)


def _as_value(found: Value | NftValue) -> Value:
    return (
        Unknown("an expression that is not understood")
        if isinstance(found, NftExpr | NftVerdict | NftElement)
        else found
    )


def evaluate(rule: NftRule, ctx: Context, branch: Branch) -> list[Done]:
    """What becomes of a packet at one rule: a branch for each way, MISSED where the rule does not match."""
    live = [Hit(branch)]
    out: list[Done] = []
    for s in rule.statements:
        following: list[Hit] = []
        for hit in live:
            for done in _statement(s, rule, ctx, hit):
                if done.end == NEXT:
                    following.append(done.hit)
                else:
                    out.append(done)
        live = following
        if not live:
            return out
    return [*(Done(hit, NftVerdict("continue")) for hit in live), *out]


def _statement(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    if s.kind in ("counter", "log", "flow", "dup", "last") or (s.kind.startswith("ct ") and s.kind != "ct count"):
        yield Done(hit)
        return
    run = _STATEMENTS.get(s.kind)
    if run is not None:
        yield from run(s, rule, ctx, hit)
        return
    text = s.words[0] if s.words else s.kind
    truth = _ask(ctx, rule, f"the packet matches “{text}”, which netk8s does not understand")
    for matched, other in _fork(truth, hit):
        yield Done(other, NEXT if matched else MISSED)


def _arg(s: NftStatement, i: int) -> NftValue:
    found = s.args[i]
    assert not isinstance(found, NftStatement)  # noqa: S101 - model.NftStatement says which operands a kind has
    return found


def _match(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    for valued, left in _valued(_arg(s, 0), hit, ctx, rule):
        plain = _as_value(left)
        if isinstance(plain, Dice) and plain.note:
            valued = replace(valued, branch=valued.branch.assume(plain.note))
        for matched, other in _fork(matches(s, rule, ctx, plain), valued):
            yield Done(other, NEXT if matched else MISSED)


def _verdict(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    found = s.args[0]
    assert isinstance(found, NftVerdict)  # noqa: S101 - model.NftStatement
    if found.kind == "queue":
        yield from _apply("NFQUEUE", (), rule, ctx, hit)
    else:
        yield Done(hit, found)


def _vmap(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    key, data = _arg(s, 0), _arg(s, 1)
    for valued, found in _valued(key, hit, ctx, rule):
        for other, element in _lookup(data, key, _as_value(found), valued, ctx, rule):
            if element is None:
                yield Done(other, MISSED)
            elif not isinstance(element.value, NftVerdict):
                yield _unclear(rule, other, f"the verdict of “{rule.raw}”")
            else:
                yield Done(other, NEXT if element.value.kind == "continue" else element.value)


def _limit(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    over = s.words[0] == "over"
    what = {"limit": "limit", "quota": "quota", "ct count": "number of connections"}[s.kind]
    text = f"traffic is {'above' if over else 'within'} the {what} of this rule"
    other_text = f"traffic is {'within' if over else 'above'} the {what} of this rule"
    ask = Ask(Question(f"{ctx.netns.name}:{rule.at}:{rule.chain}:{text}", text, other_text, not over))
    for matched, other in _fork(ask, hit):
        yield Done(other, NEXT if matched else MISSED)


def _dynset(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    """add, update, delete: what is remembered for later packets; limits within decide about this one."""
    if isinstance(value(_arg(s, 0), ctx, hit.branch.flight), Broken):
        yield Done(hit, MISSED)
        return
    live = [hit]
    for nested in s.args[1:]:
        if isinstance(nested, NftStatement):
            following = []
            for each in live:
                for done in _statement(nested, rule, ctx, each):
                    if done.end == NEXT:
                        following.append(done.hit)
                    else:
                        yield done
            live = following
    for each in live:
        yield Done(each)


def _mangle(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    key = _arg(s, 0)
    if not isinstance(key, NftExpr) or not _matters(key):
        yield Done(hit)
        return
    for valued, found in _valued(_arg(s, 1), hit, ctx, rule):
        new = _as_value(found) if not isinstance(found, str) else found
        if isinstance(new, str):
            new_number = number(new, kind(key))
            new = new_number if new_number is not None else Unknown(new)
        if isinstance(new, Broken):
            yield Done(valued, MISSED)
        elif isinstance(new, Dice) and new.count <= MOST_DICE:
            noted = replace(valued, branch=valued.branch.assume(new.note)) if new.note else valued
            for side in range(new.offset, new.offset + new.count):
                yield Done(_written(key, side, noted.dice(Fraction(1, new.count)), ctx))
        elif isinstance(new, int):
            yield Done(_written(key, new, valued, ctx))
        else:
            yield _unclear(rule, valued, f"what “{rule.raw}” sets")


def _matters(key: NftExpr) -> bool:
    """Whether rules, routes or delivery look at what is set."""
    if key.op == "payload":
        return len(key.words) > 1 and key.words[1] in ("saddr", "daddr", "sport", "dport")
    return key.op in ("meta", "ct") and key.words[0] == "mark"


def _written(key: NftExpr, new: int, hit: Hit, ctx: Context) -> Hit:
    flight = hit.branch.flight
    packet = flight.packet
    changed: tuple[tuple[str, str], ...] = ()
    if key.op == "ct":
        conn = flight.conn
        if _conn(ctx, flight) is not None:
            changed = (("connection mark", f"{conn.mark:#x} → {new:#x}"),) if conn.mark != new else ()
            flight = flight.with_(conn=replace(conn, mark=new))
    elif key.op == "meta":
        changed = (("mark", f"{packet.mark:#x} → {new:#x}"),) if packet.mark != new else ()
        flight = flight.with_(packet=packet.replace(mark=new))
    else:
        after = _with_header(packet, key.words[1], new)
        changed = ((key.words[1], f"{_header(packet, key.words[1])} → {_header(after, key.words[1])}"),)
        flight = flight.with_(packet=after)
    return replace(hit, branch=hit.branch.fly(flight), changes=(*hit.changes, *changed))


_HEADERS = {"saddr": "src", "daddr": "dst", "sport": "sport", "dport": "dport"}


def _header(packet: Packet, name: str) -> object:
    return getattr(packet, _HEADERS[name])


def _with_header(packet: Packet, name: str, new: int) -> Packet:
    return packet.replace(**{_HEADERS[name]: type(packet.src)(new) if name in ("saddr", "daddr") else new})


def _notrack(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    if ctx.tracked:
        yield Done(hit)  # nft_notrack_eval leaves a packet alone that has an entry
        return
    flight = hit.branch.flight
    yield Done(replace(hit, branch=hit.branch.fly(flight.with_(conn=replace(flight.conn, state="UNTRACKED")))))


# ---------------------------------------------------------------- translation, reject


def _unclear(rule: NftRule, hit: Hit, what: str) -> Done:
    return Done(hit, targets.Effect(hit.branch, targets.UNKNOWN, f"{what} ({rule.at}) is not understood"))


def _apply(name: str, options: tuple[Option, ...], rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    """The same code of the kernel stands behind a statement of nft and a target of iptables (nf_nat_*, nf_reject_*)."""
    for effect in targets.apply(Target(name, options), hit.branch, ctx.seen(hit.branch.flight, rule)):
        after = replace(hit, branch=effect.branch, changes=(*hit.changes, *effect.changes))
        yield Done(after, NEXT if effect.verdict == targets.CONTINUE else effect)


def _flags(words: Sequence[str]) -> tuple[Option, ...]:
    return tuple(Option(f"--{w}") for w in words if w in ("random", "fully-random", "persistent"))


def _translate(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    family, flags = s.words[0], s.words[1:]
    version = hit.branch.flight.packet.family
    if family and (family == "ip") != (version == 4):
        yield Done(hit)  # nft_nat_inet_eval: a packet of the other family is left alone
        return
    name, option = ("DNAT", "--to-destination") if s.kind == "dnat" else ("SNAT", "--to-source")
    for valued, found in _valued(_arg(s, 0), hit, ctx, rule):
        if isinstance(found, Broken):
            yield Done(valued, MISSED)
            continue
        address, port = _spelled(found, version), _spelled(_arg(s, 1), 0)
        if isinstance(found, NftExpr) and found.op == "concat" and len(found.args) == 2:
            address, port = _spelled(found.args[0], version), _spelled(found.args[1], 0)
        elif isinstance(found, tuple) and len(found) == 2:
            address, port = _spelled(_plain_value(found[0]), version), _spelled(_plain_value(found[1]), 0)
        if address is None or port is None:
            yield _unclear(rule, valued, f"“{rule.raw}”")
        elif "netmap" in flags:
            yield from _apply("NETMAP", (Option("--to", (address,)),), rule, ctx, valued)
        else:
            if port:
                address = f"[{address}]" if ":" in address else address
                address = f"{address}:{port}"
            yield from _apply(name, (Option(option, (address,)), *_flags(flags)), rule, ctx, valued)


def _plain_value(found: Value) -> Value | NftValue:
    return found


def _spelled(found: Value | NftValue, version: int) -> str | None:
    """An address or port, or a range of them, as iptables writes it; "" for none, None when it is not known."""
    if isinstance(found, bool) or found is None:
        return None
    if isinstance(found, int):
        if version == 0:
            return str(found)
        return str(ip_address(found.to_bytes(4 if version == 4 else 16, "big")))
    if isinstance(found, str):
        return found
    if isinstance(found, NftExpr) and found.op == "range":
        low, high = (_spelled(a, version) for a in found.args)
        return None if low is None or high is None else f"{low}-{high}"
    if isinstance(found, NftExpr) and found.op == "prefix":
        return f"{found.args[0]}/{found.args[1]}"
    return None


def _masquerade(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    ports = _spelled(_arg(s, 0), 0)
    options = _flags(s.words)
    if s.kind == "redirect":
        yield from _apply("REDIRECT", (*((Option("--to-ports", (ports,)),) if ports else ()), *options), rule, ctx, hit)
        return
    yield from _apply("MASQUERADE", (*((Option("--to-ports", (ports,)),) if ports else ()), *options), rule, ctx, hit)


_REJECTS = {
    4: {
        "no-route": "icmp-net-unreachable", "net-unreachable": "icmp-net-unreachable",
        "host-unreachable": "icmp-host-unreachable", "addr-unreachable": "icmp-host-unreachable",
        "prot-unreachable": "icmp-proto-unreachable", "port-unreachable": "icmp-port-unreachable",
        "net-prohibited": "icmp-net-prohibited", "host-prohibited": "icmp-host-prohibited",
        "admin-prohibited": "icmp-admin-prohibited",
    },
    6: {
        "no-route": "icmp6-no-route", "admin-prohibited": "icmp6-adm-prohibited",
        "addr-unreachable": "icmp6-addr-unreachable", "host-unreachable": "icmp6-addr-unreachable",
        "port-unreachable": "icmp6-port-unreachable", "policy-fail": "icmp6-policy-fail",
        "reject-route": "icmp6-reject-route",
    },
}  # fmt: skip
"""Codes of nft by the words that iptables has for them; icmpx has the ones both families share."""


def _reject(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    sort, code = s.words
    version = hit.branch.flight.packet.family
    if sort == "tcp reset":
        if hit.branch.flight.packet.protocol != TCP:
            yield Done(hit, MISSED)
            return
        word = "tcp-reset"
    else:
        word = _REJECTS[version].get(code or "port-unreachable", f"{'icmp' if version == 4 else 'icmp6'}-{code}")
    yield from _apply("REJECT", (Option("--reject-with", (word,)),), rule, ctx, hit)


def _tproxy(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    port = _spelled(_arg(s, 1), 0) or "0"
    for done in _apply("TPROXY", (Option("--on-port", (port,)),), rule, ctx, hit):
        # nft_tproxy_eval assigns the socket and goes on with the rule.
        yield Done(done.hit)


def _xt(s: NftStatement, rule: NftRule, ctx: Context, hit: Hit) -> Iterator[Done]:
    """An extension of iptables: JSON and text name it and keep its arguments to themselves."""
    sort, name = s.words
    if sort == "match":
        if name in ("comment", "nfacct"):
            yield Done(hit)
            return
        for matched, other in _fork(
            _ask(ctx, rule, f"the packet matches iptables' “{name}”, whose options this dump hides"), hit
        ):
            yield Done(other, NEXT if matched else MISSED)
    elif name in ("MASQUERADE", "NOTRACK") or targets.has_no_effect(Target(name)):
        yield from _apply(name, (), rule, ctx, hit)
    else:
        why = f"this dump hides the options of target {name} ({rule.at}); iptables-save shows them"
        yield Done(hit, targets.Effect(hit.branch, targets.UNKNOWN, why))


_STATEMENTS: Mapping[str, Callable[[NftStatement, NftRule, Context, Hit], Iterator[Done]]] = {
    "match": _match,
    "verdict": _verdict,
    "vmap": _vmap,
    "limit": _limit,
    "quota": _limit,
    "ct count": _limit,
    "set": _dynset,
    "mangle": _mangle,
    "notrack": _notrack,
    "dnat": _translate,
    "snat": _translate,
    "masquerade": _masquerade,
    "redirect": _masquerade,
    "reject": _reject,
    "tproxy": _tproxy,
    "xt": _xt,
}


# ---------------------------------------------------------------- a base chain


@dataclass(frozen=True, slots=True)
class _Frame:
    """A chain that jumped and goes on at rule ``index`` when the called chain returns."""

    chain: NftChain
    index: int
    below: _Frame | None
    depth: int


@dataclass(frozen=True, slots=True)
class _Task:
    branch: Branch
    chain: NftChain
    index: int
    caller: _Frame | None


@dataclass(slots=True)
class _Run:
    """The traversal of one base chain: what is left to follow, what is finished."""

    ctx: Context
    base: NftChain
    tasks: list[_Task] = field(default_factory=list)


def traverse(table: NftTable, base: NftChain, hook: str, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """What becomes of a packet in a base chain: one verdict per branch.

    Raises DecodeError for elements that cannot be decoded, when the packet is looked up in them.
    """
    looped = branch.flight.looped or hook not in ("prerouting", "output")
    ctx = Context(table, hook, netns, looped or base.priority > CONNTRACK_PRIORITY)
    run = _Run(ctx, base, [_Task(branch, base, 0, None)])
    done = 0
    while run.tasks:
        task = run.tasks.pop()
        done += 1  # chains that go to each other in a circle come to no verdict
        current, chain, index = task.branch, task.chain, task.index
        ended = False
        for i in range(index, len(chain.rules)):
            rule = chain.rules[i]
            ways = evaluate(rule, ctx, current)
            if len(ways) == 1 and ways[0].end == MISSED:
                current = ways[0].hit.branch
                continue
            following: list[_Task] = []
            for way in ways:
                if way.end == MISSED:
                    following.append(_Task(way.hit.branch, chain, i + 1, task.caller))
                    continue
                for item in _follow(run, rule, way, _Task(way.hit.branch, chain, i + 1, task.caller)):
                    if isinstance(item, Verdict):
                        yield item
                    else:
                        following.append(item)
            if len(following) == 1 and following[0].chain is chain and following[0].index == i + 1 and len(ways) == 1:
                current = following[0].branch
                continue
            run.tasks.extend(reversed(following))
            ended = True
            break
        if not ended:
            for item in _return(run, current, task.caller):
                if isinstance(item, Verdict):
                    yield item
                else:
                    run.tasks.append(item)
        if done + len(run.tasks) > MOST_BRANCHES:
            why = f"more than {MOST_BRANCHES} ways through chain {base.name} of table {table.family} {table.name}"
            yield Verdict(branch, targets.UNKNOWN, why)
            return


def _return(run: _Run, branch: Branch, caller: _Frame | None) -> Iterator[Verdict | _Task]:
    """The end of a chain or a return: back to the chain that jumped here, or the policy."""
    if caller is not None:
        yield _Task(branch, caller.chain, caller.index, caller.below)
        return
    base, table = run.base, run.ctx.table
    if base.policy != "drop":
        yield Verdict(branch, targets.ACCEPT)
        return
    step = Step(run.ctx.hook, table.name, base.name, None, base.at, "policy drop", means=f"policy of {base.name}")
    yield Verdict(branch.step(step), targets.DROP, f"policy drop of {table.name} {base.name} ({base.at})")


def _follow(run: _Run, rule: NftRule, way: Done, here: _Task) -> Iterator[Verdict | _Task]:
    """What follows of a rule that matched."""
    hit, end = way.hit, way.end
    if isinstance(end, targets.Effect):
        logged = _log(
            run,
            rule,
            hit,
            f"{rule_action(rule)} {end.detail}".strip() if end.verdict == targets.REJECT else rule_action(rule),
        )
        detail = end.detail
        if end.verdict == targets.DROP and not detail:
            detail = f"dropped by the rule at {rule.at}"
        yield Verdict(logged, end.verdict, detail, end.bound, rule)
        return
    assert isinstance(end, NftVerdict)  # noqa: S101 - the other ends are dealt with where evaluate() is called
    if end.kind == "continue":
        yield replace(here, branch=_log(run, rule, hit, "continue"))
    elif end.kind == "accept":
        yield Verdict(_log(run, rule, hit, "accept"), targets.ACCEPT, rule=rule)
    elif end.kind == "drop":
        yield Verdict(_log(run, rule, hit, "drop"), targets.DROP, f"dropped by the rule at {rule.at}", rule=rule)
    elif end.kind == "return":
        yield from _return(run, _log(run, rule, hit, "return"), here.caller)
    elif end.kind in ("jump", "goto"):
        yield _enter(run, rule, hit, end, here)
    else:
        yield Verdict(
            _log(run, rule, hit, end.kind), targets.UNKNOWN, f"verdict {end.kind} of the rule at {rule.at}", rule=rule
        )


def _enter(run: _Run, rule: NftRule, hit: Hit, verdict: NftVerdict, here: _Task) -> Verdict | _Task:
    logged = _log(run, rule, hit, f"{verdict.kind} {verdict.chain}")
    chain = run.ctx.table.chains.get(verdict.chain)
    if chain is None:
        why = f"the rule at {rule.at} goes to chain {verdict.chain}, which the dump does not have"
        return Verdict(logged, targets.UNKNOWN, why, rule=rule)
    if verdict.kind == "goto":
        # Not a call: what returns from there returns to the chain that last jumped.
        return _Task(logged, chain, 0, here.caller)
    depth = here.caller.depth + 1 if here.caller else 1
    if depth > MOST_FRAMES:
        why = f"chains jump in a circle: {rule.chain} to {verdict.chain} ({rule.at})"
        return Verdict(logged, targets.UNKNOWN, why, rule=rule)
    return _Task(logged, chain, 0, _Frame(here.chain, here.index, here.caller, depth))


_ACTIONS = frozenset({"dnat", "snat", "masquerade", "redirect", "reject", "xt"})


def rule_action(rule: NftRule) -> str:
    """The statement that decides about the packet, by its name."""
    for s in reversed(rule.statements):
        if s.kind in _ACTIONS:
            return s.words[1] if s.kind == "xt" else s.kind
        if s.kind == "verdict" and isinstance(s.args[0], NftVerdict):
            return s.args[0].kind
    return "continue"


def _log(run: _Run, rule: NftRule, hit: Hit, action: str) -> Branch:
    return hit.branch.step(
        Step(
            run.ctx.hook, run.ctx.table.name, rule.chain, rule.raw, rule.at, action, hit.odds, hit.changes,
            assumed=hit.assumed, unknown=hit.unknown, nft=rule,
        )
    )  # fmt: skip
