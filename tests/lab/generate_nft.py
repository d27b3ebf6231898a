"""Random native nftables rulesets: tables, priorities, sets, maps, verdict maps, translations.

As in :mod:`.generate_rules`: one seed is one case, and values come from small pools that rules and packets share. What
nft itself refuses (a reject in POSTROUTING, a port translation without a protocol) is not generated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from random import Random

from .generate_rules import MARKS, MASKS, PORTS, USUAL, Generator, Layout, RuleSet
from .nft_rules import NftChain, NftRule, NftRuleSet, NftSet, NftTable

HOOKS = {
    "filter": ("prerouting", "input", "forward", "output", "postrouting"),
    "route": ("output",),
    "nat": ("prerouting", "input", "output", "postrouting"),
}
PRIORITIES = ("raw", "mangle", "mangle + 5", "filter", "filter", "filter - 1", "filter + 10", "security", "-250", "-199", "7", "99")  # fmt: skip
NAT_PRIORITIES = ("-100", "100", "filter", "-10", "security", "-199", "50")
NAME = {4: "ip", 6: "ip6"}
DESTINATION, SOURCE = ("prerouting", "output"), ("input", "postrouting")


_PROTOCOLS = re.compile(
    r"\b(tcp|udp) (?:dport|sport|flags)|(?:protocol|nexthdr|l4proto) (tcp|udp|icmp|ipv6-icmp|6)\b|\b(icmp|icmpv6) type|l4proto (\{)"
)
_FAMILIES = re.compile(
    r"\b(?:(ip6?) (?:saddr|daddr|protocol|nexthdr|ttl|hoplimit|dscp|addr|to)|meta protocol (?:!= )?(ip6?)|(?:l3proto|nfproto) (ipv[46])|with (icmp(?:v6)?) |(icmp(?:v6)?) type)"
)


_KINDS = (
    *["address"] * 4, *["port"] * 3, "source port", "any port", "protocol", "protocol", *["meta"] * 3, *["mark"] * 3,
    *["ct"] * 4, *["concatenated"] * 3, "flags", "header", "fib", "fib", "dice",
)  # fmt: skip
_OPEN = re.compile(r"numgen|hash|random mod|meta random|limit|quota|dscp|@seen|@timed")
MOST_OPEN = 4
"""Rules of a ruleset that dice, or that ask what no dump tells: each of them doubles the ways."""


@dataclass(slots=True)
class Where:
    """Where a rule stands: its table's family, its base chain's type and hook, what it may jump to and look up in."""

    family: str
    type: str
    hook: str
    tag: str
    sets: dict[str, NftSet] = field(default_factory=dict)
    users: Sequence[str] = ()
    verdict_maps: dict[str, NftSet] = field(default_factory=dict)


def _decided(rules: RuleSet) -> RuleSet:
    """iptables rules without those that dice or ask: with two backends the ways would be too many."""
    undecided = re.compile(r"-m (length|statistic|owner|limit|recent|dscp|ttl|hl) ")
    chains = tuple(
        replace(chain, rules=tuple(r for r in chain.rules if not undecided.search(r.text(""))))
        for chain in rules.chains
    )
    return RuleSet(rules.family, chains)


class NftGenerator:
    """Draws rulesets for one layout; packets are those of :class:`.generate_rules.Generator`."""

    def __init__(self, seed: int, layout: Layout = USUAL) -> None:
        self.random = Random(seed)  # noqa: S311
        self.layout = layout
        self.iptables = Generator(seed, layout)
        self._open = 0

    # ------------------------------------------------------------ rulesets

    def ruleset(self, mixed: bool = False) -> NftRuleSet:
        """Some tables; ``mixed``: between iptables rules of both backends."""
        rng = self.random
        self._open = 0
        tables = tuple(self._table(f"t{i}") for i in range(rng.choice((1, 1, 2, 2, 3))))
        iptables: list[tuple[str, RuleSet]] = []
        if mixed:
            for backend in ("legacy", "nft"):
                iptables += [(backend, _decided(self.iptables.ruleset(family, 3))) for family in (4, 6)]
        return NftRuleSet(tables, tuple(iptables))

    def _table(self, name: str) -> NftTable:
        rng = self.random
        family = rng.choice(("ip", "ip6", "inet", "inet"))
        sets = {s.name: s for s in self._sets(family)}
        chains: list[NftChain] = []
        maps: list[NftSet] = []
        for number in range(rng.choice((2, 3, 4, 5))):
            kind = rng.choice(("filter", "filter", "filter", "nat", "nat", "nat", "route"))
            hook = rng.choice(HOOKS[kind])
            where = Where(family, kind, hook, f"{kind[0]}{number}", sets)
            base, users = f"base{number}", [f"{where.tag}-{i}" for i in range(rng.randint(0, 4))]
            for i in range(len(users)):
                # A chain goes to later ones only: loops are refused at load.
                where.users = users[i + 1 :]
                chains.append(NftChain(users[i], self._rules(where, rng.randint(0, 4))))
            where.users = users
            if users and rng.random() < 0.5:
                found = self._verdict_map(where)
                where.verdict_maps = {found.name: found}
                maps.append(found)
            drop = rng.random() < 0.04
            text = f"type {kind} hook {hook} priority {self._priority(kind, hook)}"
            chains.append(NftChain(base, self._rules(where, rng.randint(1, 6)), text, drop))
        return NftTable(family, name, (*sets.values(), *maps), tuple(chains))

    def _priority(self, kind: str, hook: str) -> str:
        rng = self.random
        if kind == "nat":
            own = {"prerouting": "dstnat", "postrouting": "srcnat", "output": "-100", "input": "100"}[hook]
            return rng.choice((own, own, own, f"{own} + 5" if own.isalpha() else own, *NAT_PRIORITIES))
        more = {"prerouting": ("dstnat", "dstnat - 1"), "postrouting": ("srcnat", "srcnat + 7")}.get(hook, ())
        return rng.choice((*PRIORITIES, *more))

    def _rules(self, where: Where, count: int) -> tuple[NftRule, ...]:
        return tuple(self._rule(where) for _ in range(count))

    # ------------------------------------------------------------ sets

    def _sets(self, family: str) -> list[NftSet]:
        rng = self.random
        sets = [
            NftSet("ifaces", "type ifname", tuple(f'"{d}"' for d in self._devices(2))),
            NftSet("ports", "type inet_service; flags interval;", ("22", "80-443", "30000-32767")),
            NftSet("marks", "type mark", tuple(hex(m) for m in rng.sample(MARKS, 3))),
            NftSet("mports", "type inet_service : mark", ("80 : 0x1", "443 : 0x4000", "53 : 0xff"), map=True),
        ]
        for v in (4, 6):
            if family not in (NAME[v], "inet"):
                continue
            kind, ips = f"ipv{v}_addr", self._ips(v)
            some = rng.sample(ips, 4)
            pairs = tuple(f"{ip} . {p}" for ip in some for p in rng.sample(PORTS, 3))
            trios = tuple(
                f"{ip} . {p} . {port}" for ip in some for p in ("tcp", "udp") for port in rng.sample(PORTS, 2)
            )
            nets = self._disjoint(v)
            mixed = tuple(f"{net} . {ports}" for net in nets for ports in ("80-8080", "30000"))
            to = tuple(f"{key} : {ip} . {p}" for key, ip, p in zip(pairs, rng.choices(ips, k=9), PORTS, strict=False))
            typeof = rng.random() < 0.4
            pair = f"typeof {NAME[v]} daddr . tcp dport" if typeof else f"type {kind} . inet_service"
            dynamic = rng.choice(("flags dynamic,timeout; timeout 1h;", "flags dynamic; size 65535;", "flags timeout;"))
            timed = "timeout" in dynamic
            sets += [
                NftSet(f"addrs{v}", f"type {kind}", tuple(some[:3])),
                NftSet(f"nets{v}", f"type {kind}; flags interval;", nets),
                NftSet(f"pairs{v}", pair, pairs),
                NftSet(f"trios{v}", f"type {kind} . inet_proto . inet_service", trios),
                NftSet(f"netports{v}", f"type {kind} . inet_service; flags interval;", mixed),
                NftSet(f"seen{v}", f"type {kind}; {dynamic}", tuple(some[1:2]), dynamic=True),
                NftSet(
                    f"timed{v}",
                    f"type {kind} . inet_service; flags {'timeout' if timed else 'dynamic,timeout'}; timeout 2h;",
                    tuple(f"{ip} . {PORTS[i]} timeout {i + 1}h30m" for i, ip in enumerate(some)),
                    dynamic=not timed,
                ),
                NftSet(f"to{v}", f"type {kind} . inet_service : {kind} . inet_service", to, map=True),
                NftSet(f"swap{v}", f"type inet_service : {kind}", (f"80 : {ips[-1]}", f"443 : {ips[-2]}"), map=True),
            ]
        return sets

    def _verdict_map(self, where: Where) -> NftSet:
        rng = self.random
        verdicts = [self._verdict(where, True) for _ in range(6)]
        kinds: list[tuple[str, list[str]]] = [
            ("inet_service", [str(p) for p in PORTS]),
            ("mark", [hex(m) for m in MARKS]),
            ("inet_proto", ["tcp", "udp", "icmp", "ipv6-icmp"]),
            ("ifname", [f'"{d.name}"' for d in self.layout.devices]),
        ]
        version = self._version(where)
        ips = self._ips(version)
        some = [f"{ip} . {p} . {port}" for ip in rng.sample(ips, 4) for p in ("tcp", "udp") for port in PORTS[:4]]
        kinds += [(f"ipv{version}_addr . inet_proto . inet_service", some)] * 3
        name, keys = rng.choice(kinds)
        picked = rng.sample(keys, min(len(keys), len(verdicts)))
        elements = tuple(f"{k} : {v}" for k, v in zip(picked, verdicts, strict=False))
        if rng.random() < 0.2 and "ifname" not in name:
            elements = (*elements, f"* : {self._verdict(where, True)}")
        return NftSet(f"{where.tag}-map", f"type {name} : verdict", elements, map=True)

    def _disjoint(self, version: int) -> tuple[str, ...]:
        """Networks that do not overlap, as an interval set wants them."""
        kept: list[str] = []
        nets = list(self.layout.pick("nets", version))
        self.random.shuffle(nets)
        for net in nets:
            if not any(ip_network(net).overlaps(ip_network(other)) for other in kept) and not net.endswith("/0"):
                kept.append(net)
        return tuple(kept)

    # ------------------------------------------------------------ rules

    def _rule(self, where: Where) -> NftRule:
        """A rule whose parts are of one protocol and address family: nft refuses others."""
        while True:
            rule = self._any_rule(where)
            text = rule.text()
            protocols = {name.replace("ipv6-icmp", "icmpv6") for f in _PROTOCOLS.findall(text) for name in f if name}
            families = {"6" in "".join(found) for found in _FAMILIES.findall(text)}
            if re.search("(nfproto|meta protocol) .*tcp reset", text):
                continue  # nft 1.0.6 lists it without the first match
            if re.search("ct l3proto .*(tcp|udp|icmp|th |l4proto|ip6? |ct (state|status))", text):
                continue  # nft 1.0.6 takes it for what a later match implies, and lists it without
            if re.search(r"(\b(?:tcp|udp|th|ct|meta|ip6?) [^<>=]*?)[<>]=? \S+ .*\1[<>]=? ", text):
                continue  # nft 1.0.6 lists the two as one range
            opens = bool(_OPEN.search(text))
            if len(protocols) < 2 and len(families) < 2 and not (opens and self._open >= MOST_OPEN):
                self._open += opens
                return rule

    def _any_rule(self, where: Where) -> NftRule:
        rng = self.random
        version = self._version(where)
        parts = [self._match(where, version) for _ in range(rng.choice((0, 0, 1, 1, 1, 1, 2)))]
        if rng.random() < 0.25:
            parts.append(rng.choice(("counter", "counter", self._harmless(where, version))))
        if rng.random() < 0.35:
            parts.append(self._mark(where, version))
        parts += self._end(where, version)
        if rng.random() < 0.1:
            parts.append(f'comment "{rng.choice(("a word", "default/nginx:http", "x -> y", "drop {all}"))}"')
        return NftRule(tuple(parts or ["counter"]))

    def _version(self, where: Where) -> int:
        return {"ip": 4, "ip6": 6}.get(where.family) or self.random.choice((4, 6))

    def _ips(self, version: int) -> list[str]:
        return [*self.layout.pick("local", version), *self.layout.pick("remote", version)]

    def _devices(self, count: int) -> list[str]:
        return self.random.sample([device.name for device in self.layout.devices], count)

    def _op(self, share: float = 0.25) -> str:
        return "!= " if self.random.random() < share else ""

    def _address(self, version: int) -> str:
        """What an address is compared with."""
        rng = self.random
        ips = self._ips(version)
        nets = [net for net in self.layout.pick("nets", version) if not net.endswith("/0")]
        a, b = sorted(rng.sample(ips, 2), key=lambda ip: int(ip_address(ip)))
        several = ", ".join(dict.fromkeys(rng.sample(ips, 3)))
        disjoint = ", ".join(self._disjoint(version))
        return rng.choice(
            (
                *(rng.choice(ips) for _ in range(3)),
                *(rng.choice(nets) for _ in range(3)),
                f"{a}-{b}",
                f"{{ {several} }}",
                f"{{ {disjoint} }}",
                f"@addrs{version}",
                f"@nets{version}",
                f"@seen{version}",
            )
        )

    def _ports(self) -> str:
        rng = self.random
        return rng.choice(
            (
                *(f"{self._op()}{rng.choice(PORTS)}" for _ in range(4)),
                f"{self._op()}{{ {', '.join(map(str, rng.sample(PORTS, 3)))} }}",
                f"{self._op()}30000-32767",
                f"{self._op()}{{ 22, 53-443, 8080 }}",
                f"{self._op()}@ports",
                "< 1024",
                ">= 443",
                "> 30000",
                "<= 80",
            )
        )

    def _match(self, where: Where, version: int) -> str:
        rng = self.random
        draw = rng.choice(_KINDS)
        ip = NAME[version]
        if draw == "address":
            return f"{ip} {rng.choice(('saddr', 'daddr', 'daddr'))} {self._op()}{self._address(version)}"
        if draw == "port":
            return f"{rng.choice(('tcp', 'tcp', 'udp'))} dport {self._ports()}"
        if draw == "source port":
            return f"tcp sport {rng.choice(('1024-49999', '>= 40000', '!= 1024-2000'))}"
        if draw == "any port":
            return f"meta l4proto {{ tcp, udp }} th dport {self._ports()}"
        if draw == "protocol":
            names = ("tcp", "udp", "icmp", "ipv6-icmp", "{ tcp, udp }")
            return rng.choice(
                (
                    f"meta l4proto {self._op()}{rng.choice(names)}",
                    f"{ip} {'protocol' if version == 4 else 'nexthdr'} {self._op()}{rng.choice(('tcp', 'udp'))}",
                )
            )
        if draw == "meta":
            return self._meta(where)
        if draw == "mark":
            return self._mark_match()
        if draw == "ct":
            return self._ct(version)
        if draw == "concatenated":
            return self._concatenated(version)
        if draw == "flags":
            return f"tcp flags {self._tcp_flags()}"
        if draw == "fib":
            return self._fib(where)
        if draw == "header":
            return self._header(where, version)
        return self._dice()

    def _header(self, where: Where, version: int) -> str:
        rng = self.random
        if rng.random() < 0.3 and where.family == "inet":
            return f"meta nfproto {rng.choice(('ipv4', 'ipv6'))}"
        if rng.random() < 0.5:
            kinds = ("echo-request", "echo-reply", "{ echo-request, timestamp-request }")
            kinds6 = ("echo-request", "echo-reply", "{ echo-request, nd-redirect }")
            return f"{'icmp' if version == 4 else 'icmpv6'} type {self._op()}{rng.choice(kinds if version == 4 else kinds6)}"
        if rng.random() < 0.6:
            return f"{'ip ttl' if version == 4 else 'ip6 hoplimit'} {rng.choice(('64', '< 65', '> 5', '!= 63', '{ 63, 128 }'))}"
        return f"{NAME[version]} dscp {self._op()}{rng.choice(('cs0', 'cs1', '0x2e'))}"

    def _meta(self, where: Where) -> str:
        rng = self.random
        one, two = self._devices(2)
        way = rng.choice("io")
        if where.type != "filter" and rng.random() < 0.8:
            way = "o" if where.hook in ("output", "postrouting") else "i"
        if way == "o" and where.hook in ("prerouting", "input"):
            way = "i"
        return rng.choice(
            (
                f'{way}ifname {self._op()}"{one}"',
                f'{way}ifname {self._op()}"{rng.choice(("eth*", "pod*", "cali*", "lo"))}"',
                f'{way}ifname {self._op()}{{ "{one}", "{two}" }}',
                f"{way}ifname {self._op()}@ifaces",
                f'{way}if {self._op()}"{rng.choice((one, "lo"))}"',
                f'{way}if {self._op()}{{ "{one}", "lo" }}',
                f"meta pkttype {self._op()}{rng.choice(('host', 'broadcast', 'unicast'))}",
                f"meta protocol {self._op()}{rng.choice(('ip', 'ip6'))}"
                if where.family == "inet"
                else "meta pkttype host",
            )
        )

    def _mark_match(self) -> str:
        rng = self.random
        mark, mask = rng.choice((0, *MARKS)), rng.choice(MASKS)
        key = rng.choice(("meta mark", "meta mark", "ct mark"))
        return rng.choice(
            (
                f"{key} {self._op()}{mark:#x}",
                f"{key} & {mask:#x} {rng.choice(('==', '!='))} {mark & mask:#x}",
                f"{key} & {mask:#x} {rng.choice(('==', '!='))} {mark & mask:#x}",
                f"{key} {{ {', '.join(hex(m) for m in rng.sample(MARKS, 3))} }}",
                f"{key} {self._op()}@marks",
                f"{key} 0x1-0xff",
                f"{key} {rng.choice(('<', '>', '<=', '>='))} {mark:#x}",
                f"{key} and {mask:#x} != {mark & mask:#x}",
            )
        )

    def _ct(self, version: int) -> str:
        rng = self.random
        states = rng.sample(("new", "established", "related", "invalid", "untracked"), 2)
        ips = self._ips(version)
        return rng.choice(
            (
                f"ct state {states[0]}",
                f"ct state {','.join(states)}",
                f"ct state != {states[0]}",
                f"ct state {{ {', '.join(states)} }}",
                f"ct status {rng.choice(('dnat', 'snat', 'confirmed', 'seen-reply', 'dnat,snat'))}",
                f"ct status & (dnat | snat) {rng.choice(('== dnat', '!= 0', '== 0'))}",
                f"ct status != {rng.choice(('dnat', 'confirmed'))}",
                f"ct direction {self._op()}{rng.choice(('original', 'reply'))}",
                f"ct original {NAME[version]} {rng.choice(('saddr', 'daddr'))} {self._op()}{rng.choice(ips)}",
                f"ct reply {NAME[version]} {rng.choice(('saddr', 'daddr'))} {self._op()}{rng.choice(ips)}",
                f"ct original {NAME[version]} daddr {self._op()}{{ {', '.join(rng.sample(ips, 2))} }}",
                f"meta l4proto {rng.choice(('tcp', 'udp'))} ct {rng.choice(('original', 'reply'))} proto-dst {self._op()}{rng.choice(PORTS)}",
                f"ct protocol {rng.choice(('tcp', 'udp'))}",
                f"ct l3proto {rng.choice(('ipv4', 'ipv6'))}",
            )
        )

    def _concatenated(self, version: int) -> str:
        rng = self.random
        ip, ips = NAME[version], self._ips(version)
        a, b = rng.sample(ips, 2)
        p, q = rng.sample(PORTS, 2)
        one, two = self._devices(2)
        protocol = rng.choice(("tcp", "udp"))
        return rng.choice(
            (
                f"{ip} daddr . {protocol} dport {self._op()}{{ {a} . {p}, {b} . {q}, {a} . {q} }}",
                f"{ip} daddr . {protocol} dport {self._op()}@pairs{version}",
                f"{ip} daddr . meta l4proto . th dport {self._op()}@trios{version}",
                f"{ip} saddr . {protocol} dport {self._op()}@netports{version}",
                f"{ip} daddr . {protocol} dport {self._op()}@netports{version}",
                f"{ip} saddr . tcp dport @timed{version}",
                f"meta l4proto . th dport {{ tcp . {p}, udp . {p}, tcp . {q} }}",
                f"{ip} saddr . {ip} daddr {{ {a} . {b}, {b} . {a} }}",
                f'iifname . {ip} saddr {{ "{one}" . {a}, "{two}" . {b} }}',
                f"meta mark . {protocol} dport {{ 0x1 . {p}, 0x4000 . {q}, 0x0 . {p} }}",
                f"{ip} daddr . {protocol} dport {{ {rng.choice(self._disjoint(version))} . 80-443, {a} . 30000 }}",
            )
        )

    def _tcp_flags(self) -> str:
        return self.random.choice(
            (
                "syn",
                "syn,ack",
                "!= syn",
                "& (fin | syn | rst | ack) == syn",
                "& (syn | ack) != syn",
                "& (fin | syn) == fin | syn",
                "syn / fin,syn,rst,ack",
                "{ syn, syn | ack }",
                "! fin,rst",
            )
        )

    def _fib(self, where: Where) -> str:
        rng = self.random
        kind = rng.choice(("local", "local", "local", "unicast", "multicast", "{ local, multicast }", "broadcast"))
        side = rng.choice(("saddr", "daddr", "daddr"))
        device = ""
        if where.hook in ("prerouting", "input", "forward") and rng.random() < 0.3:
            device = " . iif"
        elif where.hook in ("output", "postrouting") and rng.random() < 0.2:
            device = " . oif"
        if where.hook == "prerouting" and rng.random() < 0.4:
            flags = rng.choice(("saddr . iif", "saddr . iif", "saddr . mark . iif", "saddr", "daddr"))
            return rng.choice(
                (
                    f"fib {flags} oif {rng.choice(('missing', 'exists'))}",
                    f'fib {flags} oifname {self._op()}"{self._devices(1)[0]}"',
                    f'fib {flags} oif {self._op()}"{self._devices(1)[0]}"',
                )
            )
        return f"fib {side}{device} type {self._op()}{kind}"

    def _dice(self) -> str:
        rng = self.random
        return rng.choice(
            (
                f"numgen inc mod {rng.randint(1, 3)} {rng.choice(('0', '!= 0', '{ 0, 1 }'))}",
                "numgen random mod 1 0",
                f"numgen random mod 4 {rng.choice(('< 2', '3', '!= 1'))}",
                "numgen inc mod 2 offset 5 6",
                "symhash mod 2 1",
                "meta random <= 2147483647",
            )
        )

    def _harmless(self, where: Where, version: int) -> str:
        """Statements that decide nothing, or are always within."""
        rng = self.random
        ip = NAME[version]
        choices = [
            "limit rate 10000/second burst 10000 packets",
            "limit rate over 1000 mbytes/second",
            "quota over 1000 mbytes",
            f"update @seen{version} {{ {ip} saddr }}",
            f"add @seen{version} {{ {ip} daddr }}",
            f"update @seen{version} {{ {ip} saddr limit rate 10000/second burst 10000 packets }}",
        ]
        if where.sets[f"timed{version}"].dynamic:
            choices.append(f"update @timed{version} {{ {ip} saddr . tcp dport timeout 1h }}")
        if where.type == "filter" and where.hook in ("prerouting", "output"):
            choices.append("notrack")
        return rng.choice(choices)

    def _mark(self, where: Where, version: int) -> str:
        rng = self.random
        value, mask = rng.choice(MARKS), rng.choice(MASKS)
        p, q = rng.sample(PORTS, 2)
        return rng.choice(
            (
                *[f"meta mark set {value:#x}"] * 3,
                f"meta mark set meta mark or {value:#x}",
                f"meta mark set meta mark and {mask:#x}",
                f"meta mark set meta mark xor {value:#x}",
                f"meta mark set meta mark and {~mask & 0xFFFFFFFF:#x} or {value:#x}",
                f"meta mark set meta mark and {~mask & 0xFFFFFFFF:#x} xor {value:#x}",
                "meta mark set ct mark",
                f"meta mark set ct mark and {mask:#x}",
                f"meta mark set tcp dport map {{ {p} : 0x1, {q} : 0x4000 }}",
                "meta mark set tcp dport map @mports",
                f"meta mark set ct mark or {value:#x}",
                f"ct mark set {value:#x}",
                "ct mark set meta mark",
                f"ct mark set ct mark or {value:#x}",
                f"ct mark set meta mark and {mask:#x}",
                "meta mark set numgen inc mod 2 offset 1",
            )
        )

    def _verdict(self, where: Where, plain: bool = False) -> str:
        rng = self.random
        if where.users and rng.random() < 0.7:
            return f"{rng.choice(('jump', 'jump', 'goto'))} {rng.choice(where.users)}"
        return rng.choice(("accept", "accept", "return", "continue", "drop" if rng.random() < 0.4 else "accept"))

    def _end(self, where: Where, version: int) -> list[str]:
        """The statements a rule ends with."""
        rng = self.random
        draw = rng.random()
        if draw < 0.15:
            return []
        if draw < 0.35:
            return self._vmap(where, version)
        if draw < 0.6 and where.type == "nat":
            return self._translation(where, version)
        if draw < 0.7 and where.type == "filter" and where.hook in ("input", "forward", "output"):
            return self._reject(where, version)
        return [self._verdict(where)]

    def _vmap(self, where: Where, version: int) -> list[str]:
        rng = self.random
        a, b, c = (self._verdict(where, True) for _ in range(3))
        p, q = rng.sample(PORTS, 2)
        ip = NAME[version]
        x, y = rng.sample(self._ips(version), 2)
        one, two = self._devices(2)
        if where.verdict_maps and rng.random() < 0.5:
            name, found = next(iter(where.verdict_maps.items()))
            key = found.declared.removeprefix("type ").removesuffix(" : verdict")
            field = {
                "inet_service": "tcp dport",
                "mark": "meta mark",
                "inet_proto": "meta l4proto",
                "ifname": "oifname" if where.hook in ("output", "postrouting") else "iifname",
            }.get(key) or f"{'ip6' if 'ipv6' in key else 'ip'} daddr . meta l4proto . th dport"
            return [f"{field} vmap @{name}"]
        net = rng.choice(self._disjoint(version))
        return [
            rng.choice(
                (
                    f"ct state vmap {{ new : {a}, established : {b}, invalid : {c} }}",
                    f"ct state vmap {{ established : accept, related : accept, invalid : {c}, untracked : {a} }}",
                    f"tcp dport vmap {{ {p} : {a}, {q} : {b} }}",
                    f"tcp dport vmap {{ 22 : {a}, 53-443 : {b}, 8080-32767 : {c} }}",
                    f"meta l4proto vmap {{ tcp : {a}, udp : {b} }}",
                    f"meta l4proto . th dport vmap {{ tcp . {p} : {a}, udp . {q} : {b}, tcp . {q} : {c} }}",
                    f"{ip} daddr vmap {{ {x} : {a}, {y} : {b} }}",
                    f"{ip} saddr vmap {{ {net} : {a}, * : {b} }}",
                    f"{ip} daddr . tcp dport vmap {{ {x} . {p} : {a}, {y} . {p} : {b}, {x} . {q} : {c} }}",
                    f"meta mark vmap {{ 0x0 : {a}, 0x1-0xff : {b}, 0x4000 : {c} }}",
                    f"meta mark & 0xff vmap {{ 0x0 : {a}, 0x1 : {b} }}",
                    f'iifname vmap {{ "{one}" : {a}, "{two}" : {b} }}',
                    f"numgen inc mod 2 vmap {{ 0 : {a}, 1 : {b} }}",
                    f"numgen random mod 3 vmap {{ 0 : {a}, 1-2 : {b} }}",
                    f"jhash {ip} saddr mod 2 vmap {{ 0 : {a}, 1 : {b} }}",
                    f"jhash {ip} saddr . tcp dport mod 3 seed 0xdead vmap {{ 0 : {a}, 1 : {b} }}",
                    f"symhash mod 2 vmap {{ 0 : {a}, 1 : {b} }}",
                    f"fib daddr type vmap {{ local : {a}, unicast : {b} }}",
                    f"ct direction vmap {{ original : {a}, reply : {b} }}",
                )
            )
        ]

    def _reject(self, where: Where, version: int) -> list[str]:
        rng = self.random
        kinds = ["reject", "meta l4proto tcp reject with tcp reset"]
        if where.family == "inet":
            kinds += [
                f"reject with icmpx {c}"
                for c in ("port-unreachable", "no-route", "host-unreachable", "admin-prohibited")
            ]
        if version == 4:
            kinds += [
                f"reject with icmp {c}"
                for c in (
                    *("port-unreachable", "net-unreachable", "host-unreachable", "prot-unreachable"),
                    *("net-prohibited", "host-prohibited", "admin-prohibited"),
                )
            ]
        else:
            kinds += [
                f"reject with icmpv6 {c}"
                for c in ("port-unreachable", "no-route", "admin-prohibited", "addr-unreachable")
            ]
        return [rng.choice(kinds)]

    def _translation(self, where: Where, version: int) -> list[str]:
        rng = self.random
        family = f"{NAME[version]} " if where.family == "inet" else ""
        flags = rng.choice(("", "", "", "", " random", " fully-random", " persistent", " random,persistent"))
        local, remote = self.layout.pick("local", version), self.layout.pick("remote", version)
        if where.hook in DESTINATION:
            ips, word = (*remote, *remote, *local), "dnat"
        else:
            ips, word = (*local, *remote), "snat"
        a, b = rng.choice(ips), rng.choice(ips)
        p, q = rng.sample(PORTS, 2)
        protocol = rng.choice(("tcp", "udp"))
        port = rng.choice((80, 8080, 9999))
        with_port = f"[{a}]:{port}" if version == 6 else f"{a}:{port}"
        ip = NAME[version]
        choices = [
            [f"{word} {family}to {a}{flags}"],
            [f"{word} {family}to {a}"],
            [f"meta l4proto {protocol}", f"{word} {family}to {with_port}{flags if 'random' not in flags else ''}"],
            [f"{word} {family}to tcp dport map {{ {p} : {a}, {q} : {b} }}"],
            [f"{word} {family}to {ip} daddr map {{ {rng.choice(ips)} : {a}, * : {b} }}"],
            [f"{word} {family}to {ip} saddr map {{ {rng.choice(self._disjoint(version))} : {b} }}"],
            [f"{word} {family}to tcp dport map @swap{version}"],
            [f"{word} {family}to numgen inc mod 2 map {{ 0 : {a}, 1 : {b} }}"],
            [f"{word} {family}to jhash {ip} saddr mod 2 map {{ 0 : {a}, 1 : {b} }}"],
        ]
        if where.hook in DESTINATION:
            choices += [
                [
                    f"meta l4proto {protocol}",
                    f"dnat {ip} addr . port to numgen random mod 2 map {{ 0 : {a} . {p}, 1 : {b} . {q} }}",
                ],
                [
                    f"dnat {ip} addr . port to {ip} daddr . {protocol} dport map {{ {a} . {p} : {b} . {port}, {b} . {q} : {a} . {p} }}"
                ],
                [f"dnat {ip} addr . port to {ip} daddr . tcp dport map @to{version}"],
                ["redirect"],
                [f"meta l4proto {protocol}", "redirect to :8080"],
                [f"tcp dport {p}", f"redirect to :{port}"],
            ]
        elif where.hook == "postrouting":
            choices += [
                ["masquerade"],
                [f"masquerade{rng.choice((' random', ' fully-random', ' persistent'))}"],
                [f"meta l4proto {protocol}", "masquerade to :50000"],
                [f"{ip} saddr != {a}", "masquerade"],
            ]
        return rng.choice(choices)
