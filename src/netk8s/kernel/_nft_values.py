"""Expressions of nftables: what they are for a packet, and whether that is a constant or in a set.

Sources: Linux net/netfilter/nft_{cmp,bitwise,range,lookup,meta,ct,payload,fib,numgen,hash,rt,socket}.c,
net/ipv{4,6}/netfilter/nft_fib_ipv{4,6}.c. What nft takes for granted without saying so (a payload's protocol, the words
for numbers) is from nftables src/{payload,datatype,proto,ct,fib}.c.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from ipaddress import ip_address, ip_network
from socket import AF_INET, inet_pton

from msgspec import Struct

from netk8s.kernel.flight import Conn, Flight
from netk8s.kernel.matches import Ask, Seen, Truth, dscp_value, negate, protocol_number
from netk8s.kernel.netns import Netns
from netk8s.model import (
    ICMP,
    ICMPV6,
    Addr,
    NftElement,
    NftExpr,
    NftRule,
    NftSet,
    NftStatement,
    NftTable,
    NftValue,
    Question,
)

CONNTRACK_PRIORITY = -200
"""Before it, at PREROUTING and OUTPUT, a packet has no conntrack entry (NF_IP_PRI_CONNTRACK)."""


# ---------------------------------------------------------------- values


class Dice(Struct, frozen=True):
    """A number from ``offset`` on, each of ``count`` as likely. ``note`` says when it is no fresh dice."""

    count: int
    offset: int = 0
    note: str = ""


class Unknown(Struct, frozen=True):
    """A value that no dump tells. ``what`` completes "… is"; ``low`` and ``high`` bound a number, ``likely`` is what it
    is taken to be."""

    what: str
    default: bool | None = None
    low: int | None = None
    high: int | None = None
    key: str = ""
    likely: int | None = None

    def taken(self, p: Part) -> bool | None:
        """Whether it is taken to be a constant, None when either is as likely."""
        return self.default if self.likely is None else holds(self.likely, p)


class Broken:
    """The packet has no such value: the rule does not match, also when the match is negated (NFT_BREAK)."""

    __slots__ = ()


BREAK = Broken()
Value = int | str | tuple["Value", ...] | Dice | Unknown | Broken
"""What an expression is for a packet: numbers (addresses, ports, marks, bits), names, or one of the above."""

Part = tuple[int, int] | str | None
"""A constant as it is compared: a range of numbers, a name (maybe with a trailing ``*``), or None: anything."""


class Context(Struct, frozen=True):
    """Where rules are evaluated: their table, the hook, the node, and whether conntrack has seen the packet."""

    table: NftTable
    hook: str
    netns: Netns
    tracked: bool

    def seen(self, flight: Flight, rule: NftRule) -> Seen:
        return Seen(flight, self.hook, self.netns, rule, self.table.name)


_CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
_CT_STATUS = {
    "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512,
}  # fmt: skip
_SNAT_DONE, _DNAT_DONE = 128, 256
"""Status bits that nft has no words for: NAT has decided that side, also that it stays as it is (nf_conntrack_common.h)."""
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
    if of in ("ip dscp", "ip6 dscp"):
        return dscp_value(word)
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
        self._elements, self._kinds = tuple(elements), kinds
        known: dict[tuple[str, str], int | str | None] = {}
        for element in self._elements:
            plain = _exactly(element.key, kinds, known)
            if plain is not None:
                self.exact.setdefault(plain, element)
                continue
            parts = self._parts(element.key, kinds)
            first = parts[0]
            if len(parts) == 1 and isinstance(first, tuple):
                self.ranges.append((first[0], first[1], element))
            else:
                self.others.append((parts, element))
        self.ranges.sort(key=lambda r: r[0])
        self._starts = [r[0] for r in self.ranges]

    @cached_property
    def all(self) -> list[tuple[tuple[Part | Unknown, ...], NftElement]]:
        """Every element with its key, in the listing's order."""
        return [(self._parts(element.key, self._kinds), element) for element in self._elements]

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


def _exactly(key: NftValue, kinds: tuple[str, ...], known: dict[tuple[str, str], int | str | None]) -> object:
    """The only value that a key has, of a concatenation a tuple; None where it has several. ``known``: of words so far."""
    keys = key.args if isinstance(key, NftExpr) and key.op == "concat" else (key,)
    if len(keys) != len(kinds):
        return None
    out: list[int | str] = []
    for value, of in zip(keys, kinds, strict=True):
        if isinstance(value, int):
            out.append(value)
            continue
        if of == "address" and isinstance(value, str):
            found: int | str | None = _dotted(value)
        elif isinstance(value, str):
            if (value, of) not in known:
                known[value, of] = _plain(part(value, of))
            found = known[value, of]
        else:
            found = _plain(part(value, of))
        if found is None:
            return None
        out.append(found)
    return tuple(out) if len(out) > 1 else out[0]


def _plain(p: Part | Unknown) -> int | str | None:
    """A part that only one value has, as that value."""
    if isinstance(p, tuple):
        return p[0] if p[0] == p[1] else None
    return p if isinstance(p, str) and not p.endswith("*") else None


def _dotted(word: str) -> int | None:
    """An address as a number. inet_pton takes a tenth of ip_address's time, and refuses leading zeros as it does."""
    try:
        return int.from_bytes(inet_pton(AF_INET, word), "big")
    except (OSError, ValueError):
        return number(word, "address")


def _kinds(key: NftValue) -> tuple[str, ...]:
    if isinstance(key, NftExpr) and key.op == "concat":
        return tuple(kind(a) for a in key.args)
    return (kind(key),)


def named_set(ctx: Context, data: NftValue) -> NftSet | None:
    if isinstance(data, NftExpr) and data.op == "@":
        return ctx.table.sets.get(data.words[0])
    return None


def index_of(ctx: Context, data: NftValue, key: NftValue) -> Index | None:
    """The index of a set, named or written in the rule; None when the dump does not have it."""
    kinds = _kinds(key)
    if isinstance(data, NftExpr) and data.op == "set":
        written = ("elements", id(data), kinds)
        found = ctx.netns.memo.get(written)
        if found is None or found[0] is not data:
            found = ctx.netns.memo[written] = (data, Index((a for a in data.args if isinstance(a, NftElement)), kinds))
        return _is_index(found[1])
    named = named_set(ctx, data)
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
    if isinstance(left, Broken):
        return left
    if isinstance(left, Unknown):
        likely = _arithmetic(e.op, left.likely, mask) if left.likely is not None and mask is not None else None
        text = f" {e.op} {mask:#x}" if mask is not None else f" {e.op} …"
        return Unknown(f"{left.what}{text}", left.default, key=left.key and f"{left.key}{text}", likely=likely)
    if mask is None:
        return Unknown("bit arithmetic that is not understood")
    if isinstance(left, Dice):
        if e.op == "&" and mask & (mask + 1) == 0 and left.offset == 0 and left.count == 1 << 32:
            return Dice(mask + 1, 0, left.note)
        return Unknown("bit arithmetic on dice")
    if not isinstance(left, int):
        return Unknown("bit arithmetic that is not understood")
    return _arithmetic(e.op, left, mask)


def _arithmetic(op: str, left: int, mask: int) -> int:
    if op == "&":
        return left & mask
    if op == "|":
        return left | mask
    if op == "^":
        return left ^ mask
    if mask > 64:
        return 0
    return (left << mask) & 0xFFFFFFFF if op == "<<" else left >> mask


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
            likely = packet.tos >> 2 if name == "dscp" else packet.tos & 3
            return Unknown(f"the packet's {name}", key=f"{name}:{packet.tos}", likely=likely)
        if name in ("ttl", "hoplimit"):
            where = f"{ctx.hook} of {ctx.netns.name}"
            return Unknown(f"the packet's {name} at {where}", key=f"ttl:{ctx.hook}:{packet.ttl}", likely=packet.ttl)
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


def entry(ctx: Context, flight: Flight) -> Conn | None:
    """The packet's conntrack entry, None while or because it has none."""
    if not ctx.tracked or flight.conn.state in ("UNTRACKED", "INVALID"):
        return None
    return flight.conn


def _ct(e: NftExpr, ctx: Context, flight: Flight) -> Value:
    family, _, name = e.words[0].rpartition(" ")
    direction = e.words[1] if len(e.words) > 1 else ""
    conn = entry(ctx, flight)
    if name == "state":
        if conn is None:
            return _CT_STATES["untracked" if flight.conn.state == "UNTRACKED" else "invalid"]
        return _CT_STATES.get(conn.state.lower(), 8)
    if conn is None:
        return BREAK
    if name == "status":
        have = conn.status
        bits = [
            ("dnat", conn.dnat), ("snat", conn.snat), ("confirmed", "confirmed" in have or flight.looped),
            ("seen-reply", "seen_reply" in have), ("assured", "assured" in have),
        ]  # fmt: skip
        done = _SNAT_DONE * conn.src_bound + _DNAT_DONE * conn.dst_bound if _has_nat(ctx.netns, flight) else 0
        return done + sum(_CT_STATUS[word] for word, there in bits if there)
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


def _has_nat(netns: Netns, flight: Flight) -> bool:
    """Whether some nat chain has switched the kernel's nat function on for the packet's family."""
    family = flight.packet.family
    memo = ("nat", family)
    if memo not in netns.memo:
        names = ("inet", "ip" if family == 4 else "ip6")
        native = (c for t in netns.node.nft if t.family in names and not t.dormant for c in t.chains.values())
        found = bool(netns.tables(family, "nat")) or any(c.type == "nat" for c in native)
        netns.memo[memo] = (netns.node, found)
    return bool(netns.memo[memo][1])


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
    if ctx.hook in ("prerouting", "input") and flight.iif == "lo":
        return "lo"  # nft_fib_is_loopback
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
    if len(e.args) > 3 and isinstance(value(e.args[3], ctx, flight), Broken):
        return BREAK
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


def ask(
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


def in_constant(
    v: int | str | Dice | Unknown | Broken, p: Part | Unknown, ctx: Context, rule: NftRule, what: str
) -> Truth:
    """Whether one value is one constant."""
    if isinstance(v, Broken):
        return False
    if isinstance(p, Unknown):
        return ask(ctx, rule, f"{what} is {p.what}")
    if p is None:
        return True
    if isinstance(v, Dice):
        return Fraction(covered(v, p), v.count)
    if isinstance(v, Unknown):
        return _unknown_in(v, p, ctx, rule)
    return holds(v, p)


def covered(dice: Dice, p: Part) -> int:
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
        return ask(ctx, rule, f"{v.what} is {text}", False if p[1] - p[0] < 1000 else None, f"{v.key}:{text}")
    return ask(ctx, rule, f"{v.what} is {text}", v.taken(p), f"{v.key}:{text}" if v.key else "")


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
    index = index_of(ctx, data, of)
    named = named_set(ctx, data)
    name = data.words[0] if isinstance(data, NftExpr) and data.op == "@" else "the rule's set"
    if index is None:
        return ask(ctx, rule, f"the packet is in set {name}, which the dump does not have", key=f"set:{name}:{left}")
    if isinstance(left, Dice):
        return Fraction(sum(covered(left, p[0]) for p, _ in index.all if not isinstance(p[0], Unknown)), left.count)
    known = known_value(left)
    if known is not None:
        found = index.find(known)
        if isinstance(found, Unknown):
            return ask(ctx, rule, f"the packet is {found.what} of {name}")
        if named is not None and named.dynamic:
            return remembers(ctx, rule, named, found is not None, known)
        return found is not None
    if isinstance(left, Broken):
        return False
    return _may_be_in(left, index, ctx, rule, name)


def known_value(v: Value) -> int | str | tuple[int | str, ...] | None:
    """A value when it is certain, and flat when it has parts."""
    if isinstance(v, int | str):
        return v
    if isinstance(v, tuple) and all(isinstance(p, int | str) for p in v):
        return tuple(p for p in v if isinstance(p, int | str))
    return None


def _may_be_in(left: Value, index: Index, ctx: Context, rule: NftRule, name: str) -> Truth:
    """A lookup by something not wholly known: open if one element fits what is known."""
    values = left if isinstance(left, tuple) else (left,)
    open_: list[list[Ask]] = []
    for parts, _ in index.all:
        asks: list[Ask] = []
        for v, p in zip(values, parts, strict=False):
            truth = False if isinstance(v, tuple) else in_constant(v, p, ctx, rule, "the packet")
            if truth is False or truth == 0:
                break
            if isinstance(truth, Ask):
                asks.append(truth)
        else:
            if not asks:
                return True
            open_.append(asks)
    if not open_:
        return False
    if len(open_) == 1 and len(open_[0]) == 1:
        return open_[0][0]
    what = ", ".join(dict.fromkeys(v.what for v in values if isinstance(v, Unknown)))
    defaults = [[a.question.default for a in asks] for asks in open_]
    default = None
    if any(all(d is True for d in each) for each in defaults):
        default = True
    elif all(False in each for each in defaults):
        default = False
    return ask(ctx, rule, f"{what} is in {name}", default)


def remembers(ctx: Context, rule: NftRule, named: NftSet, held: bool, key: object) -> Ask:
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
        return ask(ctx, rule, f"the packet matches “{right.words[0]}”")
    if right in ("exists", "missing"):
        return _exists(left, right == "exists", ctx, rule)
    if operator in ("in", "!"):
        bits = part(right, kind(of))
        if not isinstance(bits, tuple) or not isinstance(left, int):
            return (
                ask(ctx, rule, f"the packet matches “{rule.raw}”")
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
            return ask(ctx, rule, f"the packet matches “{rule.raw}”")
        top = (1 << 128) - 1
        compared = {
            "<": (0, compared[0] - 1), "<=": (0, compared[1]), ">": (compared[1] + 1, top), ">=": (compared[0], top),
        }[operator]  # fmt: skip
        if isinstance(left, Unknown) and left.low is None and left.likely is None:
            return ask(ctx, rule, f"{left.what} is {operator} {s.args[1]}", left.default)
    truth = in_constant(left, compared, ctx, rule, "the packet")
    return negate(truth) if operator == "!=" else truth


def _exists(left: Value, wanted: bool, ctx: Context, rule: NftRule) -> Truth:
    if isinstance(left, Unknown):
        there = ask(
            ctx,
            rule,
            f"{left.what} is there",
            left.default if left.default is not None or not left.key else True,
            left.key and f"{left.key}:exists",
        )
        return there if wanted else negate(there)
    return (left not in ("", 0)) == wanted


def _tuple_is(left: tuple[Value, ...], right: NftValue, kinds: tuple[str, ...], ctx: Context, rule: NftRule) -> Truth:
    index = Index((NftElement(right),), kinds)
    known = known_value(left)
    if known is None:
        return _may_be_in(left, index, ctx, rule, "the rule's constants")
    found = index.find(known)
    return ask(ctx, rule, f"the packet matches “{rule.raw}”") if isinstance(found, Unknown) else found is not None
