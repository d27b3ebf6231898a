"""Matches of iptables rules: does this packet match, by certainty, by dice, or unknown.

Each function takes one :class:`netk8s.model.Match` and the :class:`Seen` it is asked about. Sources: Linux
net/netfilter/xt_*.c, net/ipv4/netfilter/ip_tables.c (ip_packet_match), net/ipv6/netfilter/ip6_tables.c.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache

from msgspec import Struct

from netk8s.kernel import ipsets
from netk8s.kernel.flight import Flight, tuple_of
from netk8s.kernel.netns import Netns
from netk8s.kernel.routing import network
from netk8s.model import (
    ICMP,
    ICMPV6,
    PROTOCOL_NAMES,
    SCTP,
    TCP,
    UDP,
    Addr,
    Match,
    NftRule,
    Option,
    Question,
    Rule,
)


class Ask(Struct, frozen=True):
    """A match that holds if the question's answer is ``wanted``."""

    question: Question
    wanted: bool = True


Truth = bool | Fraction | Ask
"""Certain, by dice (the odds that it matches), or open."""


class Seen(Struct, frozen=True):
    """What a match is asked about: the packet in flight, the hook, the node and the rule."""

    flight: Flight
    hook: str
    netns: Netns
    rule: Rule | NftRule
    table: str = "nat"

    def ask(
        self, what: str, otherwise: str = "", default: bool | None = None, key: str = "", memory: bool = False
    ) -> Ask:
        """An open match. ``what`` completes "if …" for a packet that matches."""
        return Ask(
            Question(
                f"{self.netns.name}:{key or f'{self.rule.at}:{what}'}",
                what,
                otherwise or f"it is not so that {what}",
                default,
                memory,
            )
        )


def negate(truth: Truth) -> Truth:
    if isinstance(truth, bool):
        return not truth
    if isinstance(truth, Fraction):
        return 1 - truth
    return Ask(truth.question, not truth.wanted)


def conditions(rule: Rule, seen: Seen) -> list[Fraction | Ask] | None:
    """What is left open of a rule's matches: None if one certainly fails, [] if all certainly hold."""
    out: list[Fraction | Ask] = []
    for match in rule.matches:
        test = _MODULES.get(match.module)
        known = _OPTIONS.get(match.module)
        if known is not None and any(o.name not in known for o in match.options):
            test = None  # an option that is newer than this table may turn the match around
        for truth in test(match, seen) if test is not None else (_not_understood(match, seen),):
            if truth is False:
                return None
            if truth is not True:
                out.append(truth)
    return out


def _not_understood(match: Match, seen: Seen) -> Truth:
    words = " ".join([f"-m {match.module}", *(w for o in match.options for w in (o.name, *o.values))])
    return seen.ask(f"the packet matches “{words}”, which netk8s does not understand", f"it does not match “{words}”")


Test = Callable[[Match, Seen], Iterable[Truth]]


def _each(test: Callable[[Option, Seen], Truth]) -> Test:
    """A match whose options all have to hold, each negated by its own ``!``."""

    def run(match: Match, seen: Seen) -> Iterable[Truth]:
        for option in match.options:
            bare = not option.values and option.name not in ("-f", "--syn")
            truth = seen.ask(f"{option.name} holds") if bare else test(option, seen)
            yield negate(truth) if option.negated else truth

    return run


# ---------------------------------------------------------------- built-in options


@lru_cache(maxsize=65536)
def _net(text: str) -> tuple[int, int, int] | None:
    """(version, mask, network) of an address as written; None when it is none. Cached: dumps repeat addresses."""
    net = network(text)
    if net is None:
        return None
    return net.version, int(net.netmask), int(net.network_address)


def holds(text: str, address: Addr) -> bool | None:
    """Whether an address lies in a network as a rule writes it; None when the text is no network."""
    net = _net(text)
    if net is None:
        return None
    return net[0] == address.version and int(address) & net[1] == net[2]


def device_matches(pattern: str, name: str | None) -> bool:
    """Interface patterns: a trailing + stands for anything, a hook without the device has the name ""."""
    name = name or ""
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


def protocol_number(word: str) -> int | None:
    """Number of a protocol word; 0 for "all"."""
    word = word.lower()
    if word.isdecimal():
        return int(word)
    return {"all": 0, "icmpv6": ICMPV6, "ipv6-icmp": ICMPV6, "ipencap": 4, "ipv4": 4, "ospfigp": 89}.get(
        word, _NUMBERS.get(word)
    )


_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}


def _builtin(option: Option, seen: Seen) -> Truth:
    flight = seen.flight
    name, value = option.name, option.values[0] if option.values else ""
    if name in ("-s", "-d"):
        inside = holds(value, flight.packet.src if name == "-s" else flight.packet.dst)
        if inside is None:
            return seen.ask(f"“{name} {value}” holds the packet's address")
        if name == "-s" and not flight.src_known:
            return seen.ask(f"the source address that an earlier rule gave the packet is in {value}")
        return inside
    if name in ("-i", "-o"):
        device, known = (flight.iif, flight.iif_known) if name == "-i" else (flight.oif, flight.oif_known)
        if known or value == "+":
            return device_matches(value, device)
        if value == "lo":
            return False
        direction = "comes in" if name == "-i" else "leaves"
        return seen.ask(
            f"the packet {direction} by {value} on {seen.netns.name}",
            f"the packet does not {'come in' if name == '-i' else 'leave'} by {value} on {seen.netns.name}",
            default=False,
            key=f"{name}:{value}",
        )
    if name == "-p":
        number = protocol_number(value)
        if number is None:
            return seen.ask(f"the packet is of protocol {value}")
        return number in (0, flight.packet.protocol)
    # -f: second and later fragments; the packets that are followed here are whole.
    return False


# ---------------------------------------------------------------- ports, flags, ICMP

_EPHEMERAL = (1024, 65535)


def port_range(text: str) -> tuple[int, int] | None:
    """ "80", "1024:2048", ":80", "80:" as a range; None for a service name or nonsense."""
    low, colon, high = text.partition(":")
    if not (low or "0").isdecimal() or not (high or "0").isdecimal() or not text:
        return _SERVICES.get(text)
    first = int(low or 0)
    last = int(high or 65535) if colon else first
    return (first, last) if first <= last <= 65535 else None


_SERVICES = {
    name: (port, port)
    for name, port in {
        "ssh": 22, "domain": 53, "http": 80, "https": 443, "ntp": 123, "bootps": 67, "bootpc": 68, "snmp": 161,
        "mdns": 5353, "smtp": 25, "ftp": 21, "telnet": 23,
    }.items()
}  # fmt: skip


def port_in(port: int | None, ranges: list[tuple[int, int]], what: str, seen: Seen) -> Truth:
    """Whether a port is in one of the ranges; a source port that no dump tells is any ephemeral one."""
    if port is not None:
        return any(low <= port <= high for low, high in ranges)
    if any(low <= _EPHEMERAL[0] and high >= _EPHEMERAL[1] for low, high in ranges):
        return True
    if all(high < _EPHEMERAL[0] for low, high in ranges):
        return False
    text = ",".join(f"{low}" if low == high else f"{low}:{high}" for low, high in ranges)
    few = sum(high - low + 1 for low, high in ranges) < 1000
    return seen.ask(f"the {what} port is in {text}", f"the {what} port is not in {text}", False if few else None)


def _ports(protocol: int) -> Test:
    def test(option: Option, seen: Seen) -> Truth:
        packet = seen.flight.packet
        if option.name in ("--sport", "--source-port", "--dport", "--destination-port"):
            # "-p tcp -m udp" cannot be loaded; a port match on another protocol never holds.
            ranges = port_range(option.values[0])
            if ranges is None:
                return seen.ask(f"port {option.values[0]} is the packet's")
            source = option.name in ("--sport", "--source-port")
            return port_in(
                packet.sport if source else packet.dport, [ranges], "source" if source else "destination", seen
            )
        if option.name == "--tcp-flags":
            mask, wanted = _flags(option.values[0]), _flags(option.values[1])
            return (packet.tcp_flags & mask) == wanted
        if option.name == "--syn":
            return packet.tcp_flags & _flags("FIN,SYN,RST,ACK") == {"SYN"}
        return seen.ask(f"the packet matches {option.name} {' '.join(option.values)}")

    each = _each(test)

    def run(match: Match, seen: Seen) -> Iterable[Truth]:
        if seen.flight.packet.protocol != protocol:
            return (False,)
        return each(match, seen)

    return run


def _flags(text: str) -> frozenset[str]:
    if text == "ALL":
        return frozenset({"FIN", "SYN", "RST", "PSH", "ACK", "URG"})
    return frozenset() if text == "NONE" else frozenset(text.split(","))


def _multiport(option: Option, seen: Seen) -> Truth:
    packet = seen.flight.packet
    if packet.protocol not in (TCP, UDP, SCTP, 33, 136):
        return option.negated  # the protocol test in front fails anyway; the match itself never holds
    ranges = [port_range(part) for part in option.values[0].split(",")]
    if any(r is None for r in ranges):
        return seen.ask(f"a port of the packet is in {option.values[0]}")
    known = [r for r in ranges if r is not None]
    source: Truth = False
    if option.name in ("--sports", "--source-ports", "--ports"):
        source = port_in(packet.sport, known, "source", seen)
    destination: Truth = False
    if option.name in ("--dports", "--destination-ports", "--ports"):
        destination = port_in(packet.dport, known, "destination", seen)
    if source is True or destination is True:
        return True
    return source if destination is False else destination


_ICMP_TYPES: Mapping[str, tuple[int, int | None]] = {
    "echo-reply": (0, None), "pong": (0, None), "destination-unreachable": (3, None), "network-unreachable": (3, 0),
    "host-unreachable": (3, 1), "protocol-unreachable": (3, 2), "port-unreachable": (3, 3),
    "fragmentation-needed": (3, 4), "source-route-failed": (3, 5), "network-unknown": (3, 6), "host-unknown": (3, 7),
    "network-prohibited": (3, 9), "host-prohibited": (3, 10), "communication-prohibited": (3, 13),
    "source-quench": (4, None), "redirect": (5, None), "network-redirect": (5, 0), "host-redirect": (5, 1),
    "echo-request": (8, None), "ping": (8, None), "router-advertisement": (9, None), "router-solicitation": (10, None),
    "time-exceeded": (11, None), "ttl-exceeded": (11, None), "ttl-zero-during-transit": (11, 0),
    "ttl-zero-during-reassembly": (11, 1), "parameter-problem": (12, None), "ip-header-bad": (12, 0),
    "required-option-missing": (12, 1), "timestamp-request": (13, None), "timestamp-reply": (14, None),
    "address-mask-request": (17, None), "address-mask-reply": (18, None),
}  # fmt: skip
_ICMP6_TYPES: Mapping[str, tuple[int, int | None]] = {
    "destination-unreachable": (1, None), "no-route": (1, 0), "communication-prohibited": (1, 1),
    "beyond-scope": (1, 2), "address-unreachable": (1, 3), "port-unreachable": (1, 4), "failed-policy": (1, 5),
    "reject-route": (1, 6), "packet-too-big": (2, None), "time-exceeded": (3, None), "ttl-exceeded": (3, None),
    "ttl-zero-during-transit": (3, 0), "ttl-zero-during-reassembly": (3, 1), "parameter-problem": (4, None),
    "bad-header": (4, 0), "unknown-header-type": (4, 1), "unknown-option": (4, 2), "echo-request": (128, None),
    "ping": (128, None), "echo-reply": (129, None), "pong": (129, None), "mld-listener-query": (130, None),
    "mld-listener-report": (131, None), "mld-listener-done": (132, None), "mld-listener-reduction": (132, None),
    "router-solicitation": (133, None), "router-advertisement": (134, None), "neighbour-solicitation": (135, None),
    "neighbor-solicitation": (135, None), "neighbour-advertisement": (136, None), "neighbor-advertisement": (136, None),
    "redirect": (137, None),
}  # fmt: skip


def _icmp(protocol: int, names: Mapping[str, tuple[int, int | None]]) -> Test:
    def test(option: Option, seen: Seen) -> Truth:
        packet = seen.flight.packet
        word = option.values[0]
        if word in ("any", "255", "255/255"):
            return True
        wanted = names.get(word)
        if wanted is None:
            kind, _, code = word.partition("/")
            if not kind.isdecimal() or (code and not code.isdecimal()):
                return seen.ask(f"the packet is of ICMP type {word}")
            wanted = (int(kind), int(code) if code else None)
        if packet.icmp_type is None:
            return seen.ask(f"the packet is of ICMP type {word}")
        return packet.icmp_type == wanted[0] and wanted[1] in (None, packet.icmp_code)

    each = _each(test)

    def run(match: Match, seen: Seen) -> Iterable[Truth]:
        if seen.flight.packet.protocol != protocol:
            return (False,)
        return each(match, seen)

    return run


# ---------------------------------------------------------------- marks, conntrack


def value_mask(text: str) -> tuple[int, int] | None:
    """ "0x4000/0x4000", "16" as (value, mask); None when it is no number."""
    value, slash, mask = text.partition("/")
    try:
        pair = int(value, 0), int(mask, 0) if slash else 0xFFFFFFFF
    except ValueError:
        return None
    return pair if min(pair) >= 0 and max(pair) <= 0xFFFFFFFF else None


def _mark(option: Option, seen: Seen) -> Truth:
    wanted = value_mask(option.values[0])
    if wanted is None:
        return seen.ask(f"the mark matches {option.values[0]}")
    return seen.flight.packet.mark & wanted[1] == wanted[0]


def _connmark(match: Match, seen: Seen) -> Iterable[Truth]:
    for option in match.options:
        wanted = value_mask(option.values[0]) if option.values else None
        if wanted is None:
            yield seen.ask(f"the connection's mark matches {' '.join(option.values)}")
        elif seen.flight.conn.state in ("UNTRACKED", "INVALID"):
            # connmark_mt without an entry is false, also when inverted.
            yield False
        else:
            yield (seen.flight.conn.mark & wanted[1] == wanted[0]) != option.negated


def _conntrack(match: Match, seen: Seen) -> Iterable[Truth]:
    conn = seen.flight.conn
    if conn.state in ("UNTRACKED", "INVALID"):
        # conntrack_mt without an entry: a state that is asked for decides alone, and nothing else ever holds.
        states = [o for o in match.options if o.name in ("--ctstate", "--state")]
        yield all(_ct_state(o.values[0], seen) != o.negated for o in states) if states else False
        return
    for option in match.options:
        word = option.values[0] if option.values else ""
        if option.name in ("--ctstate", "--state"):
            truth: Truth = _ct_state(word, seen)
        elif option.name == "--ctproto":
            truth = protocol_number(word) == conn.original.protocol
        elif option.name in ("--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst"):
            direction = conn.original if "orig" in option.name else conn.reply
            inside = holds(word, direction.src if option.name.endswith("src") else direction.dst)
            truth = seen.ask(f"{option.name} {word} holds") if inside is None else inside
        elif option.name.endswith("port"):
            direction = conn.original if "orig" in option.name else conn.reply
            ranges = port_range(word)
            source = option.name.endswith("srcport")
            truth = (
                seen.ask(f"{option.name} {word} holds")
                if ranges is None
                else port_in(direction.sport if source else direction.dport, [ranges], option.name, seen)
            )
        elif option.name == "--ctdir":
            truth = word.upper() == conn.direction
        elif option.name == "--ctstatus":
            truth = _ct_status(word, seen)
        else:
            truth = seen.ask(f"{option.name} {word} holds for the connection")
        yield negate(truth) if option.negated else truth


def _ct_state(word: str, seen: Seen) -> bool:
    conn = seen.flight.conn
    have = {conn.state}
    if conn.state not in ("UNTRACKED", "INVALID"):
        if conn.dnat:
            have.add("DNAT")
        if conn.snat:
            have.add("SNAT")
    return bool(have & set(word.upper().split(",")))


def _ct_status(word: str, seen: Seen) -> Truth:
    bits = set(word.upper().split(","))
    conn = seen.flight.conn
    have = {bit.upper() for bit in conn.status}
    if seen.flight.looped:
        have.add("CONFIRMED")  # POSTROUTING confirmed the entry before the packet came back by lo
    if bits & have:
        return True
    if "ASSURED" in bits and have and conn.entry is None:
        return seen.ask("the connection is assured", default=False)
    return False


# ---------------------------------------------------------------- addresses, devices


def _addrtype(match: Match, seen: Seen) -> Iterable[Truth]:
    flight = seen.flight
    names = {o.name for o in match.options}
    device: str | None = None
    if "--limit-iface-in" in names or "--limit-iface-out" in names:
        inward = "--limit-iface-in" in names
        device = flight.iif if inward else flight.oif
        if not (flight.iif_known if inward else flight.oif_known):
            yield seen.ask("the address is of the packet's device")
            return
    for option in match.options:
        if option.name not in ("--src-type", "--dst-type"):
            continue
        source = option.name == "--src-type"
        address = flight.packet.src if source else flight.packet.dst
        if source and not flight.src_known:
            yield seen.ask(f"the source address that an earlier rule gave the packet is {option.values[0]}")
            continue
        truth = _address_is(set(option.values[0].upper().split(",")), address, device, seen)
        yield negate(truth) if option.negated else truth


_ROUTE_TYPES = {"BLACKHOLE", "PROHIBIT", "THROW", "NAT", "XRESOLVE", "UNREACHABLE"}
"""Types of routes. For IPv4 the kernel looks in table local only, where addresses are and hardly ever one of these."""
_NO_WAY = {"none", "unreachable", "prohibit", "blackhole", "throw"}


def _address_is(kinds: set[str], address: Addr, device: str | None, seen: Seen) -> Truth:
    netns = seen.netns
    if kinds & _ROUTE_TYPES and not netns.routes_known(address.version):
        return seen.ask(f"{address} is of type {','.join(sorted(kinds))}")
    if netns.is_local(address) is None:
        question = netns.is_local_question(address)
        if kinds == {"LOCAL"}:
            return Ask(question)
        if "UNICAST" in kinds and "LOCAL" not in kinds and address.version == 4:
            return Ask(question, False)
        return "LOCAL" in kinds or "UNICAST" in kinds
    kind = "local" if address in netns.own else netns.fib(address.version).address_type(address, device)
    if address.version == 4:
        return kind.upper() in kinds
    if "MULTICAST" in kinds and not address.is_multicast:
        return False
    if "UNICAST" in kinds and address.is_multicast:
        return False
    if "UNSPEC" in kinds and not address.is_unspecified:
        return False
    rest = kinds & {"LOCAL", "ANYCAST", "UNREACHABLE"}
    if "UNREACHABLE" in rest:
        # match_lookup_rt6 asks for a route, and answers so when there is none.
        found = netns.fib(6).lookup(address, None, iif="lo", oif=device)
        if found.kind == "unknown":
            return seen.ask(f"{address} is of type {','.join(sorted(kinds))}")
        if found.kind in _NO_WAY:
            return True
    return not rest or kind.upper() in rest


def _iprange(option: Option, seen: Seen) -> Truth:
    packet = seen.flight.packet
    low, dash, high = option.values[0].partition("-")
    try:
        first = ipaddress.ip_address(low)
        last = ipaddress.ip_address(high) if dash else first
    except ValueError:
        return seen.ask(f"the address is in {option.values[0]}")
    source = option.name == "--src-range"
    if source and not seen.flight.src_known:
        return seen.ask(f"the source address that an earlier rule gave the packet is in {option.values[0]}")
    address = packet.src if source else packet.dst
    return first.version == address.version and int(first) <= int(address) <= int(last)


def _physdev(match: Match, seen: Seen) -> Iterable[Truth]:
    flight = seen.flight
    for option in match.options:
        truth: Truth
        if option.name == "--physdev-is-in":
            truth = flight.has_physin
        elif option.name in ("--physdev-is-out", "--physdev-is-bridged"):
            truth = flight.bridged
        else:
            inward = option.name == "--physdev-in"
            there = flight.has_physin if inward else flight.bridged
            port = flight.physin if inward else flight.physout
            if not there:
                truth = False
            elif port is None or not option.values:
                truth = seen.ask(f"the bridge port is {' '.join(option.values)}")
            else:
                truth = device_matches(option.values[0], port)
        yield negate(truth) if option.negated else truth


def _rpfilter(match: Match, seen: Seen) -> Iterable[Truth]:
    names = {o.name for o in match.options}
    flight, netns = seen.flight, seen.netns
    invert = "--invert" in names
    if flight.iif == "lo" or flight.looped:
        yield not invert
        return
    family = flight.packet.family
    if not netns.routes_known(family) or not flight.iif_known or flight.iif is None:
        passes: Truth = seen.ask("the reverse route check passes", default=True)
        yield negate(passes) if invert else passes
        return
    mark = flight.packet.mark if "--validmark" in names else 0
    found = netns.fib(family).lookup(flight.packet.src, flight.packet.dst, mark=mark)
    if found.kind == "unknown":
        passes = seen.ask("the reverse route check passes", default=True)
        yield negate(passes) if invert else passes
        return
    good = found.kind == "unicast" or (found.kind == "local" and "--accept-local" in names)
    # ip6t_rpfilter takes a local address of any device, ipt_rpfilter of this one only.
    if good and "--loose" not in names and (family == 4 or found.kind != "local"):
        good = any(hop.dev == flight.iif for _, hop in found.ways)
        if not good and family == 6 and found.route is not None:
            # Of the routes of one prefix IPv6 takes the one by this device (rt6_device_match).
            same = netns.fib(family).lookup(flight.packet.src, flight.packet.dst, mark=mark, oif=flight.iif)
            good = same.route is not None and same.kind == "unicast" and same.route.dst == found.route.dst
    yield good != invert


def _pkttype(option: Option, seen: Seen) -> Truth:
    destination = seen.flight.packet.dst
    word = option.values[0].lower()
    kind = "unicast"
    if destination.is_multicast:
        kind = "multicast"
    elif destination.version == 4 and int(destination) == 0xFFFFFFFF:
        kind = "broadcast"
    return kind == {"host": "unicast", "any": kind}.get(word, word)


# ---------------------------------------------------------------- dice and memory


@lru_cache(maxsize=4096)
def probability(text: str) -> Fraction | None:
    """The odds of ``--probability``: 1/n where the text is what a balancer writes for 1/n, else the number itself.

    The kernel keeps 31 bits of it and iptables-save prints those, so 1/3 reads 0.33333333349 (xt_statistic.c).
    """
    try:
        exact = Fraction(text) if len(text) <= 32 and "e" not in text.lower() else Fraction(-1)
    except (ValueError, ZeroDivisionError):
        return None
    if not 0 <= exact <= 1:
        return None
    if exact > 0:
        near = Fraction(1, round(1 / exact))
        if abs(near - exact) < Fraction(1, 100000):
            return near
    return exact


def _statistic(match: Match, seen: Seen) -> Iterable[Truth]:
    by_name = {o.name: o for o in match.options}
    mode = by_name.get("--mode")
    value: Fraction | None = None
    if mode is not None and mode.values[0] == "random" and "--probability" in by_name:
        value = probability(by_name["--probability"].values[0])
    elif mode is not None and mode.values[0] == "nth" and "--every" in by_name:
        every = by_name["--every"].values[0]
        value = Fraction(1, int(every)) if every.isdecimal() and int(every) > 0 else None
    if value is None:
        yield seen.ask("the statistic match holds")
        return
    inverted = any(o.negated for o in match.options)
    value = 1 - value if inverted else value
    yield True if value == 1 else False if value == 0 else value


def _recent(match: Match, seen: Seen) -> Iterable[Truth]:
    names = {o.name for o in match.options}
    listed = next((o.values[0] for o in match.options if o.name == "--name"), "DEFAULT")
    for option in match.options:
        if option.name == "--set":
            yield not option.negated
            return
        if option.name in ("--rcheck", "--update", "--remove"):
            address = seen.flight.packet.dst if "--rdest" in names else seen.flight.packet.src
            truth: Truth = seen.ask(
                f"{seen.netns.name} remembers {address} in its list {listed} (-m recent)",
                f"{address} is not in list {listed} of {seen.netns.name} (-m recent; no dump shows the list)",
                default=False,
                key=f"recent:{listed}:{address}",
                memory=True,
            )
            yield negate(truth) if option.negated else truth
            return
    yield seen.ask("the recent match holds")


def _set(match: Match, seen: Seen) -> Iterable[Truth]:
    for option in match.options:
        if option.name != "--match-set":
            # Counters and return codes of a set do not change whether an element is in it, but for these:
            if option.name not in ("--update-counters", "--update-subcounters", "--return-nomatch"):
                yield seen.ask(f"{option.name} {' '.join(option.values)} holds")
            continue
        name, directions = option.values
        known = seen.netns.ipset(name)
        inside = ipsets.contains(known, directions.split(","), seen.flight, seen.netns.ipset) if known else None
        truth: Truth
        if inside is None:
            why = "is not in the dump" if known is None else f"of type {known.kind} is not understood"
            truth = seen.ask(
                f"the packet is in ipset {name} ({directions}), which {why}",
                f"the packet is not in ipset {name} ({directions}), which {why}",
                # A mark set in between does not change what a set holds: the answer of before stands.
                key=f"set:{name}:{directions}:{tuple_of(seen.flight.packet)}",
            )
        else:
            truth = inside
        yield negate(truth) if option.negated else truth


_METHOD_NAMES = {"GATE": "route", "IPIP": "tunnel", "MASQ": "masq"}


def _ipvs(match: Match, seen: Seen) -> Iterable[Truth]:
    """xt_ipvs.c ipvs_mt: a packet that IPVS has handled, and then only one on its way to the real server.

    The connection is looked up by the inverse of the packet's addresses, which an answer's never are.
    """
    flight = seen.flight
    known = flight.conn.ipvs
    asked = [o for o in match.options if o.name != "--ipvs"]
    if not asked:
        yield flight.ipvs_property != any(o.negated for o in match.options)
        return
    if not flight.ipvs_property or known is None or flight.conn.direction == "REPLY":
        yield False
        return
    for option in asked:
        word = option.values[0] if option.values else ""
        truth: Truth
        if option.name == "--vproto":
            truth = protocol_number(word) == flight.packet.protocol
        elif option.name == "--vaddr":
            inside = holds(word, known.vaddr)
            truth = seen.ask(f"“--vaddr {word}” holds the virtual server's address") if inside is None else inside
        elif option.name == "--vport":
            truth = port_range(word) == (known.vport, known.vport)
        elif option.name == "--vdir":
            truth = word.upper() == "ORIGINAL"
        elif option.name == "--vmethod":
            truth = _METHOD_NAMES.get(word.upper()) == known.method
        else:
            truth = seen.ask(f"{option.name} {word} holds for the IPVS connection")
        yield negate(truth) if option.negated else truth


def _rate(word: str, above: frozenset[str]) -> Test:
    def run(match: Match, seen: Seen) -> Iterable[Truth]:
        over = any(o.name in above for o in match.options)
        truth: Truth = seen.ask(
            f"traffic is above the {word} of this rule" if over else f"traffic is within the {word} of this rule",
            f"traffic is within the {word} of this rule" if over else f"traffic is above the {word} of this rule",
            default=not over,
        )
        yield negate(truth) if any(o.negated for o in match.options) else truth

    return run


# ---------------------------------------------------------------- sockets and the rest


def _sender(what: str) -> Test:
    """Matches on the sending socket: false for packets that no process of this node sent (owner_mt, cgroup_mt)."""

    def run(match: Match, seen: Seen) -> Iterable[Truth]:
        for option in match.options:
            if not seen.flight.local or seen.hook not in ("output", "postrouting"):
                yield option.negated
                continue
            if option.name == "--socket-exists":
                yield not option.negated
                continue
            value = " ".join(option.values)
            truth: Truth = seen.ask(
                f"the sending process has {what} {value}", f"the sending process has not {what} {value}"
            )
            yield negate(truth) if option.negated else truth

    return run


def _socket(match: Match, seen: Seen) -> Iterable[Truth]:
    yield seen.ask(
        "a socket of the node takes the packet (-m socket)", "no socket of the node takes it (-m socket)", default=False
    )


def _string(match: Match, seen: Seen) -> Iterable[Truth]:
    inverted = any(o.negated for o in match.options)
    if seen.flight.packet.protocol == TCP and "SYN" in seen.flight.packet.tcp_flags:
        yield inverted  # the first packet of a TCP connection carries no data
        return
    truth: Truth = seen.ask("the packet's data holds the string of this rule")
    yield negate(truth) if inverted else truth


def _ipsec(match: Match, seen: Seen) -> Iterable[Truth]:
    for option in match.options:
        if option.name == "--pol":
            truth: Truth = seen.ask(
                "IPsec protects the packet", "IPsec does not protect the packet", default=False, key="ipsec"
            )
            yield truth if option.values[0] == "ipsec" else negate(truth)
            return
    yield seen.ask("the IPsec policy match holds", default=False)


def _ttl(option: Option, seen: Seen) -> Truth:
    """TTL and hop limit: known as far as the sender's is, which is 64 unless it is told otherwise."""
    ttl = seen.flight.packet.ttl
    word = option.values[0]
    if not word.isdecimal():
        return seen.ask(f"the packet's TTL matches {option.name} {word}")
    wanted = int(word)
    kind = option.name.rpartition("-")[2]
    holds_now = ttl < wanted if kind == "lt" else ttl > wanted if kind == "gt" else ttl == wanted
    return seen.ask(
        f"the packet's TTL matches {option.name} {word} at {seen.hook} of {seen.netns.name}",
        f"the packet's TTL does not match {option.name} {word} at {seen.hook} of {seen.netns.name}",
        default=holds_now,
        key=f"ttl:{seen.hook}:{option.name}:{word}:{ttl}",
    )


def _service_class(option: Option, seen: Seen) -> Truth:
    """Type of service and DSCP: taken as 0, as of a sender that sets none, until a rule sets them."""
    tos = seen.flight.packet.tos
    word = option.values[0]
    if option.name == "--tos":
        parsed = (0, 0xFF) if word == "Normal-Service" else value_mask(word)
        likely = parsed is not None and tos & (parsed[1] & 0xFF) == parsed[0]
    else:
        likely = dscp_value(word) == tos >> 2
    return seen.ask(
        f"the packet's type of service matches {option.name} {word}",
        f"the packet's type of service does not match {option.name} {word}",
        default=likely,
        key=f"tos:{option.name}:{word}:{tos}",
    )


def dscp_value(word: str) -> int | None:
    """A DSCP as number or class (RFC 2474, 2597, 3246): "0x2e", "CS1", "AF21", "EF", "BE"."""
    name = word.upper()
    if name in ("BE", "EF"):
        return 46 if name == "EF" else 0
    if name[:2] == "CS" and name[2:].isdecimal():
        return int(name[2:]) * 8
    if name[:2] == "AF" and len(name) == 4 and name[2:].isdecimal():
        return int(name[2]) * 8 + int(name[3]) * 2
    parsed = value_mask(word)
    return parsed[0] if parsed is not None else None


def _open(text: str, default: bool | None = None) -> Test:
    def run(match: Match, seen: Seen) -> Iterable[Truth]:
        words = " ".join(w for o in match.options for w in (o.name, *o.values))
        truth: Truth = seen.ask(f"{text} ({match.module} {words})".replace(" )", ")"), default=default)
        # A default speaks of the match as written, so an inverted option takes the other default.
        yield negate(truth) if any(o.negated for o in match.options) else truth

    return run


def _always(value: bool) -> Test:
    return lambda match, seen: (value,)


_OPTIONS: Mapping[str, frozenset[str]] = {
    module: frozenset(options.split())
    for module, options in {
        "mark": "--mark",
        "connmark": "--mark",
        "multiport": "--sports --source-ports --dports --destination-ports --ports",
        "addrtype": "--src-type --dst-type --limit-iface-in --limit-iface-out",
        "iprange": "--src-range --dst-range",
        "physdev": "--physdev-in --physdev-out --physdev-is-in --physdev-is-out --physdev-is-bridged",
        "rpfilter": "--loose --validmark --accept-local --invert",
        "pkttype": "--pkt-type",
        "statistic": "--mode --probability --every --packet",
        "icmp": "--icmp-type",
        "icmp6": "--icmpv6-type",
    }.items()
}
"""The options of matches that are understood whole."""

_MODULES: Mapping[str, Test] = {
    "": _each(_builtin),
    "tcp": _ports(TCP),
    "udp": _ports(UDP),
    "sctp": _ports(SCTP),
    "dccp": _ports(33),
    "udplite": _ports(136),
    "multiport": _each(_multiport),
    "icmp": _icmp(ICMP, _ICMP_TYPES),
    "icmp6": _icmp(ICMPV6, _ICMP6_TYPES),
    "comment": _always(True),
    "nfacct": _always(True),
    "mark": _each(_mark),
    "connmark": _connmark,
    "conntrack": _conntrack,
    "state": _conntrack,
    "addrtype": _addrtype,
    "iprange": _each(_iprange),
    "physdev": _physdev,
    "rpfilter": _rpfilter,
    "pkttype": _each(_pkttype),
    "statistic": _statistic,
    "recent": _recent,
    "set": _set,
    "limit": _rate("limit", frozenset()),
    "hashlimit": _rate("limit", frozenset({"--hashlimit-above"})),
    "connlimit": _rate("connection limit", frozenset({"--connlimit-above"})),
    "quota": _open("the quota is not used up", default=True),
    "owner": _sender("owner"),
    "cgroup": _sender("cgroup"),
    "socket": _socket,
    "string": _string,
    "policy": _ipsec,
    "ipvs": _ipvs,
    "u32": _open("the packet's bytes match"),
    "bpf": _open("the BPF program matches"),
    "length": _open("the packet's length matches"),
    "ttl": _each(_ttl),
    "hl": _each(_ttl),
    "mac": _open("the sender's MAC address matches"),
    "tos": _each(_service_class),
    "dscp": _each(_service_class),
    "connbytes": _open("the connection's byte count matches", default=False),
    "helper": _open("a conntrack helper owns the connection", default=False),
    "devgroup": _open("the device group matches"),
    "cpu": _open("this CPU handles the packet"),
    "time": _open("it is the time of this rule"),
}
