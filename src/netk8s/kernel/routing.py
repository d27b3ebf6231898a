"""Route lookup: policy rules, tables, longest prefix; address types; source checks.

Sources: Linux net/ipv4/fib_rules.c, fib_trie.c, fib_frontend.c (fib_validate_source), route.c
(ip_route_input_slow, ip_route_output_key_hash_rcu), net/ipv6/ip6_fib.c, route.c.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from fractions import Fraction

from msgspec import Struct, field

from netk8s.model import Addr, Address, At, Net, NextHop, Route, RoutingRule

MAX_GOTO = 1000


class Lookup(Struct, frozen=True):
    """What a lookup found.

    ``kind``: unicast, local, broadcast, multicast, anycast, blackhole, unreachable, prohibit, none (no route), or
    unknown with ``why``. ``ways`` are (odds, next hop) pairs; several for a multipath route.
    """

    kind: str
    route: Route | None = None
    ways: tuple[tuple[Fraction, NextHop], ...] = ()
    why: str = ""
    rule: RoutingRule | None = None

    @property
    def at(self) -> At | None:
        return self.route.at if self.route is not None else self.rule.at if self.rule is not None else None


def default_rules(family: int) -> tuple[RoutingRule, ...]:
    """The rules a namespace starts with (fib_default_rules_init; IPv6 has no table "default")."""
    first = (RoutingRule(0, family, table="local"), RoutingRule(32766, family, table="main"))
    return first if family == 6 else (*first, RoutingRule(32767, 4, table="default"))


def local_routes(addresses: Iterable[Address]) -> tuple[Route, ...]:
    """The local table's routes that addresses bring with them (fib_add_ifaddr), for dumps without routes."""
    out = []
    for address in addresses:
        host = ipaddress.ip_network(address.ip)
        out.append(Route(host, "local", (NextHop(address.dev),), "local", address.ip, protocol="kernel", at=address.at))
    for net in ("127.0.0.0/8", "::1/128"):
        out.append(Route(ipaddress.ip_network(net), "local", (NextHop("lo"),), "local", protocol="kernel"))
    return tuple(out)


class _Trie(Struct):
    """Routes of one table by prefix length, longest first."""

    lengths: dict[int, dict[int, list[Route]]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)

    def add(self, route: Route) -> None:
        length = route.dst.prefixlen
        if length not in self.lengths:
            self.lengths[length] = {}
            self.order = sorted(self.lengths, reverse=True)
        self.lengths[length].setdefault(int(route.dst.network_address), []).append(route)

    def candidates(self, dst: Addr) -> Iterable[Route]:
        bits, value = dst.max_prefixlen, int(dst)
        for length in self.order:
            key = value >> (bits - length) << (bits - length) if length else 0
            yield from self.lengths[length].get(key, ())


class Fib:
    """The forwarding tables and policy rules of one family of one node."""

    def __init__(self, family: int, routes: Iterable[Route], rules: Iterable[RoutingRule]) -> None:
        self.family = family
        self.tables: dict[str, _Trie] = {}
        seen: dict[object, Route] = {}
        for route in sorted((r for r in routes if r.dst.version == family), key=lambda r: (r.metric, -r.tos)):
            # ip-route.json prints both families with "table all" and ip6-route.json repeats one of them.
            key = (route.dst, route.kind, route.nexthops, route.table, route.metric, route.tos, route.prefsrc)
            if key in seen:
                continue
            seen[key] = route
            self.tables.setdefault(route.table, _Trie()).add(route)
        self.custom_local_routes = any(r.table == "local" and r.protocol != "kernel" for r in seen.values())
        """Whether somebody added a route to table local by hand (fib_has_custom_local_routes)."""
        mine = sorted((r for r in rules if r.family == family), key=lambda r: r.priority)
        self.rules = tuple(mine) or default_rules(family)

    @property
    def custom_rules(self) -> bool:
        """Whether there are rules beyond the three that every namespace has (fib4_has_custom_rules)."""
        return any(r.priority not in (0, 32766, 32767) or r.src or r.fwmark is not None for r in self.rules)

    @property
    def asks_for_marks(self) -> bool:
        """Whether a rule looks at a packet's mark."""
        return any(r.fwmark is not None for r in self.rules)

    def lookup(
        self,
        dst: Addr,
        src: Addr | None,
        *,
        iif: str | None = None,
        oif: str | None = None,
        mark: int = 0,
        protocol: int | None = None,
        sport: int | None = None,
        dport: int | None = None,
    ) -> Lookup:
        """The route to ``dst`` (fib_lookup). ``src`` None: not chosen yet; ``iif`` "lo" for a local sender."""
        i, jumps = 0, 0
        while i < len(self.rules):
            rule = self.rules[i]
            i += 1
            matched = _rule_matches(rule, dst, src, iif, oif, mark, protocol, sport, dport)
            if matched is None:
                return Lookup("unknown", None, (), f"routing rule {rule.priority} asks for what no dump tells", rule)
            if not matched:
                continue
            if rule.action == "goto":
                jumps += 1
                ahead = [k for k, r in enumerate(self.rules) if r.priority == rule.goto]
                if not ahead or ahead[0] < i or jumps > MAX_GOTO:
                    continue
                i = ahead[0]
                continue
            if rule.action in ("blackhole", "unreachable", "prohibit"):
                return Lookup(rule.action, rule=rule)
            if rule.action != "lookup":
                continue
            found = self._table(rule.table or "main", dst, oif)
            if found is None or found.kind == "throw":
                continue
            if (
                rule.suppress_prefixlength is not None
                and found.kind not in ("blackhole", "unreachable", "prohibit")  # fib_rules_lookup suppresses no error
                and found.route is not None
                and found.route.dst.prefixlen <= rule.suppress_prefixlength
            ):
                continue
            return found
        return Lookup("none")

    def _table(self, name: str, dst: Addr, oif: str | None) -> Lookup | None:
        table = self.tables.get(name)
        if table is None:
            return None
        for route in table.candidates(dst):
            if "dead" in route.flags or route.tos:
                continue
            hops = [hop for hop in route.nexthops if oif is None or hop.dev in (oif, None)]
            if route.nexthops and not hops:
                continue
            total = sum(hop.weight for hop in hops) or 1
            return Lookup(route.kind, route, tuple((Fraction(hop.weight, total), hop) for hop in hops))
        return None

    def address_type(self, addr: Addr, dev: str | None = None) -> str:
        """The type of an address as addrtype sees it (inet_dev_addr_type, match_lookup_rt6).

        With ``dev`` the address must be of that device. Returns the kind in lower case; "unicast" for foreign ones.
        """
        if addr.version == 4:
            value = int(addr)
            # Of 0.0.0.0/8 only the first address is special (ipv4_is_zeronet, Linux 5.3).
            if value in (0, 0xFFFFFFFF):
                return "broadcast"
            if addr.is_multicast:
                return "multicast"
        elif addr.is_multicast:
            return "multicast"
        table = self.tables.get("local")
        if table is not None:
            for route in table.candidates(addr):
                if dev is not None and all(hop.dev != dev for hop in route.nexthops):
                    if addr.version == 4:
                        break
                    continue
                return route.kind
        return "unicast"


def _rule_matches(
    rule: RoutingRule,
    dst: Addr,
    src: Addr | None,
    iif: str | None,
    oif: str | None,
    mark: int,
    protocol: int | None,
    sport: int | None,
    dport: int | None,
) -> bool | None:
    """fib_rule_match and fib4_rule_match; None when the rule asks for something no dump tells."""
    if rule.unknown:
        return None
    tests = [
        rule.src is None or (src in rule.src if src is not None else rule.src.prefixlen == 0),
        rule.dst is None or dst in rule.dst,
        rule.iif is None or rule.iif == iif,
        rule.oif is None or rule.oif == oif,
        rule.fwmark is None or (mark ^ rule.fwmark) & rule.fwmask == 0,
        rule.ipproto is None or rule.ipproto == protocol,
        rule.sport is None or (sport is not None and rule.sport[0] <= sport <= rule.sport[1]),
        rule.dport is None or (dport is not None and rule.dport[0] <= dport <= rule.dport[1]),
        rule.tos is None or rule.tos == 0,
    ]
    if rule.uidrange is not None and all(tests):
        return None if iif == "lo" or iif is None else bool(rule.negated)
    return all(tests) != rule.negated


def select_address(
    addresses: Mapping[str, tuple[Address, ...]],
    order: tuple[str, ...],
    dev: str,
    nexthop: Addr | None,
    *,
    scope: str = "global",
    route_localnet: bool = False,
) -> tuple[Address | None, str]:
    """IPv4 source address of a device for a next hop (inet_select_addr), and why that one.

    ``order``: devices in creation order, for the fallback to the addresses of other devices. The first primary
    address whose subnet holds the next hop wins, else the first primary one; then the first of any device that is not
    of scope link. ``nexthop`` None: any subnet will do. ``route_localnet`` of the device makes those of
    scope host as good as those of scope link.
    """
    first = None
    for address in addresses.get(dev, ()):
        if address.ip.version != 4 or address.secondary:
            continue
        if not _scope_reaches(address.scope, scope, _LINK if route_localnet else _HOST):
            continue
        subnet = ipaddress.ip_network(f"{address.peer or address.ip}/{address.prefixlen}", strict=False)
        if nexthop is None:
            return address, f"first address of {dev}"
        if nexthop in subnet:
            return address, f"first address of {dev} whose subnet holds {nexthop}"
        if first is None:
            first = address
    if first is not None:
        return first, f"first address of {dev}; no subnet of {dev} holds the next hop {nexthop}"
    for other in order:
        for address in addresses.get(other, ()):
            if address.ip.version != 4 or address.secondary or address.scope == "link":
                continue
            if _scope_reaches(address.scope, scope):
                why = f"{dev} has no usable address; first global address of the other devices is on {other}"
                return address, why
    return None, f"no device has a usable IPv4 address for {dev}"


_SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
"""rtnetlink's numbers."""
_LINK, _HOST = _SCOPES["link"], _SCOPES["host"]


def _scope_reaches(address_scope: str, wanted: str, most: int = _HOST) -> bool:
    """ifa_scope <= scope, where no scope of an address counts as more than ``most``."""
    return min(_scope_number(address_scope), most) <= _scope_number(wanted)


def _scope_number(scope: str) -> int:
    return int(scope) if scope.isdecimal() else _SCOPES.get(scope, 0)


def select_address6(
    addresses: Mapping[str, tuple[Address, ...]], dev: str | None, dst: Addr
) -> tuple[Address | None, str]:
    """IPv6 source address for a destination (RFC 6724 section 5 as ipv6_dev_get_saddr has it), and why that one."""
    best: tuple[tuple[int, ...], Address] | None = None
    scope = _scope6(dst)
    for name, items in addresses.items():
        for address in items:
            ip = address.ip
            if ip.version != 6 or address.tentative or ip.is_multicast or ip.is_unspecified:
                continue
            if (dst.is_link_local or dst.is_multicast) and dev is not None and name != dev:
                continue
            mine = _scope6(ip)
            score = (
                int(ip == dst),
                -(mine if mine >= scope else 256 - mine),
                int(not address.deprecated or _compatible(ip)),
                int(dev is None or name == dev),
                int(_label6(ip) == _label6(dst)),
                min(_common_prefix(ip, dst), address.prefixlen),
            )
            if best is None or score > best[0]:
                best = (score, address)
    if best is None:
        return None, f"no device has a usable IPv6 address towards {dst}"
    return best[1], f"address of {best[1].dev} that RFC 6724 prefers towards {dst}"


def _compatible(ip: Addr) -> bool:
    # IPv4-compatible addresses count as preferred even when deprecated (ipv6_saddr_preferred).
    return ip.version == 6 and int(ip) >> 32 == 0 and int(ip) > 1


def _scope6(ip: Addr) -> int:
    """ipv6_addr_scope: interface-local 1, link-local 2, site-local 5, global 14."""
    if ip.is_loopback:
        return 1
    if ip.is_link_local:
        return 2
    if ip.is_multicast:
        return (int(ip) >> 112) & 0xF
    if isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local:
        return 5
    return 14


_LABELS6 = tuple(
    (ipaddress.IPv6Network(net), label)
    for net, label in (
        ("::1/128", 0), ("::ffff:0:0/96", 4), ("::/96", 3), ("2001::/32", 6), ("2001:10::/28", 7),
        ("3ffe::/16", 12), ("2002::/16", 2), ("fec0::/10", 11), ("fc00::/7", 5), ("::/0", 1),
    )
)  # fmt: skip
"""net/ipv6/addrlabel.c ip6addrlbl_init_table."""


def _label6(ip: Addr) -> int:
    best = max((net.prefixlen, label) for net, label in _LABELS6 if ip in net)
    return best[1]


def _common_prefix(a: Addr, b: Addr) -> int:
    return 128 - (int(a) ^ int(b)).bit_length()


def network(text: str) -> Net | None:
    """An address or network as rules write it ("10.0.0.0/8", "10.0.0.0/255.0.0.0", "::1"), None for anything else."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
