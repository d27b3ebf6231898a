"""Random rulesets over the iptables vocabulary, and random packets that have a fair chance to meet them.

Everything comes from one :class:`random.Random`, so a seed is a case. Values are drawn from small pools shared by rules
and packets: a rule that never matches tests nothing. What iptables itself refuses (a REJECT in nat, a MASQUERADE that
INPUT can reach) is not generated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from random import Random

from .frames import ICMP, ICMPV6, TCP, UDP, Probe
from .rules import HOOKS, TABLES, restore_text
from .shrink import Place

PORTS = (22, 53, 80, 443, 8080, 30000, 30001, 32767)
MARKS = (0x1, 0x2, 0x4000, 0x4001, 0x8000, 0xC000, 0xFF, 0x80000000, 0xDEADBEEF)
MASKS = (0x1, 0x3, 0x4000, 0xC000, 0xFFFF, 0xFFFFFFFF, 0xFF00)
SPORTS = (1024, 40000, 50000)


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the node under test: the far end is a bare wire. ``addresses`` in the order they are added."""

    name: str
    addresses: tuple[str, ...]
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """The node under test: its devices in creation order, and where packets may go and come from, by family.

    ``rules`` and ``routes`` are what follows "ip"; a rule of IPv6 has -6 in front.
    """

    devices: tuple[Device, ...]
    local: tuple[str, ...]
    remote: tuple[str, ...]
    nets: tuple[str, ...]
    sysctls: tuple[tuple[str, str], ...] = ()
    rules: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()

    def pick(self, what: str, family: int) -> tuple[str, ...]:
        values: tuple[str, ...] = getattr(self, what)
        return tuple(v for v in values if (":" in v) == (family == 6))


USUAL = Layout(
    devices=(
        Device(
            "eth0",
            ("192.168.52.201/24", "192.168.52.211/24", "172.20.0.5/16", "fd00:52::201/64", "2001:db8:52::201/64"),
            ("default via 192.168.52.1", "default via fd00:52::1"),
        ),
        Device(
            "eth1", ("10.9.0.5/24", "fd00:9::5/64"), ("198.51.100.0/24 via 10.9.0.1", "2001:db8:51::/48 via fd00:9::1")
        ),
        Device("pod0", ("10.244.1.1/24", "fd00:10:244:1::1/64")),
        Device("bare0", (), ("203.0.113.0/24 dev bare0", "2001:db8:113::/64 dev bare0")),
    ),
    local=(
        "192.168.52.201",
        "192.168.52.211",
        "172.20.0.5",
        "10.9.0.5",
        "10.244.1.1",
        "fd00:52::201",
        "2001:db8:52::201",
        "fd00:9::5",
        "fd00:10:244:1::1",
    ),
    remote=(
        "192.168.52.50",
        "172.20.0.9",
        "10.9.0.7",
        "198.51.100.4",
        "10.244.1.5",
        "10.244.1.6",
        "203.0.113.9",
        "8.8.8.8",
        "fd00:52::50",
        "fd00:9::7",
        "2001:db8:51::4",
        "fd00:10:244:1::5",
        "fd00:10:244:1::6",
        "2001:db8:113::9",
        "2001:4860::8",
    ),
    nets=(
        "192.168.52.0/24",
        "172.16.0.0/12",
        "10.0.0.0/8",
        "10.244.0.0/16",
        "10.244.1.0/30",
        "0.0.0.0/0",
        "198.51.100.0/24",
        "fd00::/16",
        "fd00:52::/64",
        "fd00:10:244::/48",
        "2001:db8::/32",
        "::/0",
    ),
    sysctls=(("net.ipv4.conf.all.route_localnet", "1"),),
)


@dataclass(frozen=True, slots=True)
class GeneratedRule:
    """A rule in pieces, so that a shrinker can leave some out."""

    matches: tuple[str, ...]
    target: str

    def text(self, chain: str) -> str:
        return " ".join(part for part in (f"-A {chain}", *self.matches, self.target) if part)


@dataclass(frozen=True, slots=True)
class GeneratedChain:
    table: str
    name: str
    policy: str | None
    rules: tuple[GeneratedRule, ...]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All tables of one family."""

    family: int
    chains: tuple[GeneratedChain, ...]

    def text(self) -> str:
        """For iptables-restore; names every table and hook, so that nothing of an earlier ruleset stays."""
        policies = {(chain.table, chain.name): chain.policy for chain in self.chains if chain.policy}
        users = [(chain.table, chain.name) for chain in self.chains if not chain.policy]
        return restore_text(policies, users, [(c.table, rule.text(c.name)) for c in self.chains for rule in c.rules])

    def places(self) -> list[Place]:
        """Every rule, as (chain, position); position -1 is a DROP policy."""
        return [
            (i, j)
            for i, chain in enumerate(self.chains)
            for j in (*([-1] if chain.policy == "DROP" else []), *range(len(chain.rules)))
        ]

    def only(self, kept: Sequence[Place]) -> RuleSet:
        """The ruleset with nothing but these rules and the user chains they name."""
        places = set(kept)
        chains = [
            replace(
                chain,
                rules=tuple(rule for j, rule in enumerate(chain.rules) if (i, j) in places),
                policy="ACCEPT" if chain.policy and (i, -1) not in places else chain.policy,
            )
            for i, chain in enumerate(self.chains)
        ]
        named = {(chain.table, rule.target.split()[1]) for chain in chains for rule in chain.rules if rule.target}
        left = [c for c in chains if c.rules or c.policy == "DROP" or (c.table, c.name) in named]
        return RuleSet(self.family, tuple(left))

    def simpler(self) -> Iterator[RuleSet]:
        """Rulesets with one match or one target left out."""
        for i, chain in enumerate(self.chains):
            for j, rule in enumerate(chain.rules):
                fewer = [
                    GeneratedRule(rule.matches[:k] + rule.matches[k + 1 :], rule.target)
                    for k in range(len(rule.matches))
                ]
                for simple in (*fewer, *([GeneratedRule(rule.matches, "")] if rule.target else [])):
                    changed = replace(chain, rules=(*chain.rules[:j], simple, *chain.rules[j + 1 :]))
                    yield RuleSet(self.family, (*self.chains[:i], changed, *self.chains[i + 1 :]))


@dataclass(frozen=True, slots=True)
class Sending:
    """A packet and where it enters: by ``iif``, or from the node itself ("")."""

    iif: str
    probe: Probe


def sets_text(layout: Layout) -> str:
    """Sets of the usual kinds for ``ipset restore``, over the layout's pools; IPv6 ones have a 6 in their names."""
    lines = []
    for family in (4, 6):
        name = "inet6" if family == 6 else "inet"
        ips = (*layout.pick("local", family)[:2], *layout.pick("remote", family)[::2])
        others = (*layout.pick("local", family)[1:3], *layout.pick("remote", family)[1::2])
        lines += [f"create ip{family} hash:ip family {name}", *(f"add ip{family} {ip}" for ip in ips)]
        lines += [
            f"create port{family} hash:ip,port family {name}",
            *(f"add port{family} {ip},{p}:{port}" for ip in others for p in ("tcp", "udp") for port in PORTS[::2]),
        ]
        lines += [f"create net{family} hash:net family {name}"]
        nets = [net for net in layout.pick("nets", family) if not net.endswith("/0")]
        lines += [f"add net{family} {net}" for net in nets[::2]]
        # A longer prefix that is excepted: the longest one decides.
        lines += [f"add net{family} {layout.pick('remote', family)[0]} nomatch"]
        lines += [
            f"create trio{family} hash:ip,port,ip family {name}",
            *(f"add trio{family} {ip},tcp:{port},{ip}" for ip in ips for port in PORTS[:4]),
        ]
        lines += [
            f"create netport{family} hash:net,port family {name}",
            *(f"add netport{family} {net},udp:{PORTS[i % 4]}" for i, net in enumerate(nets)),
        ]
        lines += [f"create list{family} list:set", f"add list{family} ip{family}", f"add list{family} port{family}"]
    lines += ["create ports bitmap:port range 0-65535", *(f"add ports {port}" for port in PORTS[1::2])]
    return "\n".join(lines) + "\n"


class Generator:
    """Draws rulesets and packets for one layout."""

    def __init__(self, seed: int, layout: Layout = USUAL) -> None:
        self.random = Random(seed)  # noqa: S311
        self.layout = layout
        self._tag = 0

    # ------------------------------------------------------------ packets

    def sending(self, family: int) -> Sending:
        """A packet in from a device to the node, through it, or out from it."""
        rng = self.random
        local, remote = self.layout.pick("local", family), self.layout.pick("remote", family)
        way = rng.choice(("local", "local", "forward", "forward", "out", "out", "self"))
        iif = "" if way in ("out", "self") else rng.choice([device.name for device in self.layout.devices])
        src = rng.choice(local if not iif else remote)
        if iif and rng.random() < 0.03:
            src = rng.choice(local)  # a martian, unless accept_local says otherwise
        dst = rng.choice(local if way in ("local", "self") else [ip for ip in remote if ip != src])
        if way == "self":
            src = dst
        self._tag = self._tag % 60000 + 1
        protocol = rng.choice((TCP, TCP, TCP, UDP, UDP, ICMPV6 if family == 6 else ICMP))
        flags: tuple[str, ...] = ("SYN",)
        if protocol == TCP and rng.random() < 0.12:
            flags = rng.choice(
                (("ACK",), ("SYN", "ACK"), ("RST",), ("FIN", "ACK"), ("PSH", "ACK"), ("FIN", "PSH", "URG"), ())
            )
        probe = Probe(protocol, src, dst, tag=self._tag, tcp_flags=flags, ttl=rng.choice((64, 64, 64, 128, 5, 1)))
        if protocol in (TCP, UDP):
            # Source ports differ from packet to packet: earlier connections stay in conntrack.
            probe = replace(probe, sport=rng.choice(SPORTS) + self._tag % 9000, dport=rng.choice(PORTS))
        else:
            kinds = (128, 128, 128, 129) if family == 6 else (8, 8, 8, 0, 13)
            probe = replace(probe, sport=self._tag, icmp_type=rng.choice(kinds))
        if not iif and rng.random() < 0.3:
            probe = replace(probe, mark=rng.choice(MARKS))
        return Sending(iif, probe)

    def destinations(self, family: int, count: int = 6) -> list[tuple[str, int]]:
        """Where sockets without an address connect to, and with which SO_MARK."""
        rng = self.random
        ips = (*self.layout.pick("remote", family), *self.layout.pick("local", family)[:2])
        return [(rng.choice(ips), rng.choice((0, 0, 0, 1, 2, 0x4000))) for _ in range(count)]

    # ------------------------------------------------------------ rulesets

    def routing_rules(self, family: int) -> RuleSet:
        """MASQUERADE for everything, and marks that policy rules ask for, before the way in and on the way out."""
        chains = [GeneratedChain("nat", "POSTROUTING", "ACCEPT", (GeneratedRule((), "-j MASQUERADE"),))]
        addresses = (*self.layout.pick("local", family), *self.layout.pick("remote", family))
        for hook in ("PREROUTING", "OUTPUT"):
            rules = tuple(
                GeneratedRule((self.random.choice((f"-d {ip}", f"-s {ip}", "-p tcp")),), f"-j MARK --set-mark {mark}")
                for ip, mark in zip(
                    self.random.sample(addresses, 2), (self.random.choice((1, 2, 0x4000)), 2), strict=True
                )
            )
            if self.random.random() < 0.5:
                chains.append(GeneratedChain("mangle", hook, "ACCEPT", rules))
        return RuleSet(family, tuple(chains))

    def ruleset(self, family: int, rules_per_chain: int = 6) -> RuleSet:
        """All five tables; some of them are left empty."""
        chains: list[GeneratedChain] = []
        for table in TABLES:
            if self.random.random() < (0.15 if table in ("nat", "filter") else 0.4):
                continue
            # User chains of nat are reached from hooks of one kind only: DNAT may not be reachable from POSTROUTING.
            kinds = {"nat": ("pre", "post", "input")}.get(table, ("any",))
            for kind in kinds:
                users = [f"{table}-{kind}-{i}" for i in range(self.random.randint(0, 5))]
                for hook in HOOKS[table]:
                    if table == "nat" and _nat_kind(hook) != kind:
                        continue
                    policy = (
                        "DROP"
                        if table in ("filter", "mangle", "raw", "security") and self.random.random() < 0.03
                        else "ACCEPT"
                    )
                    count = self.random.randint(0, rules_per_chain)
                    rules = tuple(self.rule(table, hook, kind, users, family) for _ in range(count))
                    chains.append(GeneratedChain(table, hook, policy, rules))
                for i, name in enumerate(users):
                    # A chain jumps to later ones only: loops are refused at load.
                    count = self.random.randint(0, rules_per_chain)
                    rules = tuple(self.rule(table, "", kind, users[i + 1 :], family) for _ in range(count))
                    chains.append(GeneratedChain(table, name, None, rules))
        return RuleSet(family, tuple(chains))

    def rule(self, table: str, hook: str, kind: str, users: Sequence[str], family: int) -> GeneratedRule:
        rng = self.random
        protocol = rng.choice(("", "", "", "tcp", "tcp", "tcp", "udp", "udp", "icmp"))
        needs_ports = False
        target = self.target(table, hook, kind, users, family, protocol)
        if "tcp-reset" in target:
            protocol = "tcp"
        elif "--to-ports" in target or _has_port(target, family):
            needs_ports = True
            protocol = protocol if protocol in ("tcp", "udp") else rng.choice(("tcp", "udp"))
        # First, so that it wins over a multiport's own -p: the target may need it.
        matches: list[str] = [self.protocol(protocol, family, plain=needs_ports)] if protocol else []
        for _ in range(rng.choice((0, 0, 1, 1, 1, 1, 2, 3))):
            matches.append(self.match(table, hook, family))
        if rng.random() < 0.1:
            matches.append(f'-m comment --comment "{rng.choice(("a word", "default/nginx:http", "x -> y"))}"')
        # One match of a kind: iptables takes a second -s or -p for an error.
        kept: dict[str, str] = {}
        for match in matches:
            words = match.replace("! ", "").split()
            kept.setdefault(words[1] if words[0] == "-m" else words[0], match)
        return GeneratedRule(tuple(kept.values()), target)

    def _not(self, share: float = 0.25) -> str:
        return "! " if self.random.random() < share else ""

    def protocol(self, protocol: str, family: int, plain: bool) -> str:
        rng = self.random
        name = "ipv6-icmp" if protocol == "icmp" and family == 6 else protocol
        if not plain and protocol != "tcp" and rng.random() < 0.15:
            return f"{self._not(0.6)}-p {name}"
        parts = [f"-p {name}"]
        if protocol == "icmp":
            if rng.random() < 0.6:
                option = "-m icmp6 {}--icmpv6-type {}" if family == 6 else "-m icmp {}--icmp-type {}"
                kinds = (
                    ("128", "129", "echo-request", "1", "1/4")
                    if family == 6
                    else ("8", "0", "echo-request", "3", "3/1", "any", "13")
                )
                parts.append(option.format(self._not(), rng.choice(kinds)))
            return " ".join(parts)
        if rng.random() < 0.75:
            parts.append(f"-m {protocol}")
            if rng.random() < 0.7:
                ports = self._ports()
                # iptables-save prints "! --dport 0:65535" (never) as nothing (always), and iptables-nft loads it so.
                parts.append(f"{'' if ports == '0:65535' else self._not()}--dport {ports}")
            if rng.random() < 0.15:
                parts.append(f"{self._not()}--sport {self._ports(source=True)}")
            if protocol == "tcp" and rng.random() < 0.25:
                flags = rng.choice(
                    ("SYN,RST,ACK SYN", "FIN,SYN,RST,ACK SYN", "ALL NONE", "SYN,FIN SYN", "ACK ACK", "ALL SYN,ACK")
                )
                parts.append(f"{self._not()}--tcp-flags {flags}")
        if len(parts) == 2:
            parts.pop()
        return " ".join(parts)

    def _ports(self, source: bool = False) -> str:
        rng = self.random
        if source:
            return rng.choice(("1024:49999", "40000:65535", "1024:2000", ":39999"))
        return rng.choice((*map(str, PORTS), *map(str, PORTS), "30000:32767", "1:1023", "0:65535", "443:"))

    def match(self, table: str, hook: str, family: int) -> str:
        rng = self.random
        nots = self._not()
        local, remote, nets = (self.layout.pick(what, family) for what in ("local", "remote", "nets"))
        address = rng.choice((*local, *remote, *nets, *nets))
        if address.endswith("/0"):
            nots = ""  # iptables-nft 1.8.9 cannot load "! -s 0.0.0.0/0"
        kind = rng.choice(
            (
                "src",
                "src",
                "dst",
                "dst",
                "dst",
                "in",
                "out",
                "multiport",
                "mark",
                "mark",
                "mark",
                "connmark",
                "ctstate",
                "ctstate",
                "ctorig",
                "ctstatus",
                "addrtype",
                "addrtype",
                "iprange",
                "set",
                "set",
                "statistic",
                "state",
                "ttl",
                "ctdir",
                "length",
                "dscp",
                "pkttype",
                "rpfilter",
                "recent",
                "limit",
                "owner",
            )
        )
        if kind == "src":
            return f"{nots}-s {address}"
        if kind == "dst":
            return f"{nots}-d {address}"
        devices = [device.name for device in self.layout.devices]
        names = (*devices, *devices, "lo", "eth+", "pod+", "cali+")
        if kind == "in" and hook not in ("OUTPUT", "POSTROUTING"):
            return f"{nots}-i {rng.choice(names)}"
        if kind == "out" and hook not in ("PREROUTING", "INPUT"):
            return f"{nots}-o {rng.choice(names)}"
        if kind == "multiport":
            which = rng.choice(("--dports", "--dports", "--ports", "--sports"))
            ports = rng.sample([str(port) for port in PORTS], rng.randint(1, 4)) + rng.choice(
                ([], ["30000:31000"], ["40000:60000"])
            )
            return f"-p {rng.choice(('tcp', 'udp'))} -m multiport {nots}{which} {','.join(ports)}"
        if kind == "connmark":
            return f"-m connmark {nots}--mark {self._mark_and_mask()}"
        if kind == "ctstate":
            states = rng.sample(
                ("NEW", "RELATED", "ESTABLISHED", "INVALID", "UNTRACKED", "DNAT", "SNAT"), rng.randint(1, 3)
            )
            return f"-m conntrack {nots}--ctstate {','.join(states)}"
        if kind == "state":
            states = rng.sample(("NEW", "RELATED", "ESTABLISHED", "INVALID", "UNTRACKED"), rng.randint(1, 2))
            return f"-m state --state {','.join(states)}"
        if kind == "ctorig":
            option = rng.choice(("--ctorigdst", "--ctorigdst", "--ctorigsrc", "--ctreplsrc", "--ctrepldst"))
            if rng.random() < 0.3:
                return f"-m conntrack --ctproto tcp {nots}--ctorigdstport {rng.choice(PORTS)}"
            return f"-m conntrack {nots}{option} {address}"
        if kind == "ctdir":
            return f"-m conntrack --ctdir {rng.choice(('ORIGINAL', 'REPLY'))}"
        if kind == "ctstatus":
            status = rng.choice(("NONE", "SEEN_REPLY", "ASSURED", "CONFIRMED", "NONE,CONFIRMED"))
            return f"-m conntrack {nots}--ctstatus {status}"
        if kind == "addrtype":
            kinds = rng.choice(
                (
                    *("LOCAL", "LOCAL", "LOCAL", "UNICAST", "MULTICAST", "BROADCAST", "LOCAL,BROADCAST"),
                    *("UNREACHABLE", "LOCAL,UNREACHABLE", "ANYCAST"),
                )
            )
            if family == 6:
                kinds = kinds.replace("LOCAL,BROADCAST", "LOCAL,MULTICAST").replace("BROADCAST", "UNICAST")
            limit = ""
            if hook in ("PREROUTING", "INPUT") and rng.random() < 0.15:
                limit = " --limit-iface-in"
            elif hook == "POSTROUTING" and rng.random() < 0.15:
                limit = " --limit-iface-out"
            return f"-m addrtype {nots}--{rng.choice(('src', 'dst', 'dst'))}-type {kinds}{limit}"
        if kind == "iprange":
            a, b = sorted(rng.sample((*local, *remote), 2), key=_as_number)
            return f"-m iprange {nots}--{rng.choice(('src', 'dst'))}-range {a}-{b}"
        if kind == "set":
            name, ways = rng.choice(
                (
                    (f"ip{family}", ("src", "dst")),
                    (f"net{family}", ("src", "dst")),
                    (f"port{family}", ("dst,dst", "src,dst")),
                    ("ports", ("dst", "src")),
                    (f"trio{family}", ("dst,dst,dst", "src,dst,dst")),
                    (f"list{family}", ("dst,dst", "src,dst")),
                    (f"netport{family}", ("dst,dst", "src,dst")),
                )
            )
            return f"-m set {nots}--match-set {name} {rng.choice(ways)}"
        if kind == "statistic":
            every = rng.randint(2, 4)
            if rng.random() < 0.4:
                return f"-m statistic --mode random {nots}--probability 0.5"
            return f"-m statistic --mode nth {nots}--every {every} --packet {rng.randrange(every)}"
        if kind == "ttl":
            option = rng.choice(("eq", "gt", "lt"))
            value = rng.choice((63, 64, 100, 5))
            return f"-m hl --hl-{option} {value}" if family == 6 else f"-m ttl --ttl-{option} {value}"
        if kind == "rpfilter" and hook == "PREROUTING" and table in ("raw", "mangle"):
            flags = rng.choice(("", " --loose", " --validmark", " --accept-local", " --loose --accept-local"))
            return f"-m rpfilter{flags}{' --invert' if nots else ''}"
        if kind == "recent":
            # Lists are per rule set and never emptied between packets: only a name that no rule sets is sure to be empty.
            return f"-m recent {nots}--rcheck --name never{family} {rng.choice(('--rsource', '--rdest'))}"
        if kind == "limit":
            # Far above what the lab sends, so the packets are within it; what is above is a question to netk8s.
            return "-m limit --limit 10000/sec --limit-burst 10000"
        if kind == "owner" and hook in ("OUTPUT", "POSTROUTING"):
            return f"-m owner {nots}--{rng.choice(('uid-owner 0', 'uid-owner 1000', 'gid-owner 0', 'socket-exists'))}"
        if kind == "length":
            return f"-m length {nots}--length {rng.choice(('0:100', '44', '32:64', '1000:'))}"
        if kind == "dscp":
            return f"-m dscp {nots}--dscp {rng.choice(('0x00', '0x2e'))}"
        if kind == "pkttype" and hook in ("PREROUTING", "INPUT", "FORWARD"):
            return f"-m pkttype {nots}--pkt-type {rng.choice(('unicast', 'broadcast'))}"
        return f"-m mark {nots}--mark {self._mark_and_mask()}"

    def _mark_and_mask(self) -> str:
        rng = self.random
        if rng.random() < 0.3:
            return hex(rng.choice((0, *MARKS)))
        mask = rng.choice(MASKS)
        return f"{hex(rng.choice((0, *MARKS)) & (mask if rng.random() < 0.85 else 0xFFFFFFFF))}/{hex(mask)}"

    def target(self, table: str, hook: str, kind: str, users: Sequence[str], family: int, protocol: str) -> str:
        rng = self.random
        if users and rng.random() < 0.4:
            return f"{rng.choice(('-j', '-j', '-j', '-g'))} {rng.choice(users)}"
        common = ["-j ACCEPT", "-j RETURN", "mark", "mark", ""]
        if table == "nat":
            acting = {
                "pre": ["dnat"] * 4 + ["redirect", "redirect", "netmap"],
                "post": ["snat", "snat", "masquerade", "masquerade", "netmap"],
                "input": ["snat"],
            }[kind]
            choice = rng.choice((*common, *acting, *acting))
        elif table == "mangle":
            choice = rng.choice((*common, "mark", "mark", "connmark", "connmark", "-j DROP", "ttl", "dscp"))
        elif table == "raw":
            choice = rng.choice((*common, "-j DROP", "-j CT --notrack"))
        elif table == "filter":
            choice = rng.choice((*common, "-j DROP", "reject", "reject", "reject"))
        else:
            choice = rng.choice((*common, "-j DROP"))
        if choice in ("-j DROP", "reject") and rng.random() < 0.5:
            choice = "mark"  # else most packets would end early and later tables see little
        return self._acting(choice, family, protocol)

    def _acting(self, choice: str, family: int, protocol: str) -> str:
        rng = self.random
        local, remote = self.layout.pick("local", family), self.layout.pick("remote", family)
        if choice == "mark":
            value = hex(rng.choice(MARKS))
            return rng.choice(
                (
                    f"-j MARK --set-mark {value}",
                    f"-j MARK --or-mark {value}",
                    f"-j MARK --and-mark {value}",
                    f"-j MARK --xor-mark {value}",
                    f"-j MARK --set-xmark {value}/{hex(rng.choice(MASKS))}",
                    f"-j MARK --set-mark {value}/{hex(rng.choice(MASKS))}",
                )
            )
        if choice == "connmark":
            value, mask = hex(rng.choice(MARKS)), hex(rng.choice(MASKS))
            return rng.choice(
                (
                    f"-j CONNMARK --set-mark {value}",
                    f"-j CONNMARK --set-xmark {value}/{mask}",
                    "-j CONNMARK --save-mark",
                    "-j CONNMARK --restore-mark",
                    f"-j CONNMARK --save-mark --nfmask {mask} --ctmask {mask}",
                    f"-j CONNMARK --restore-mark --nfmask {mask} --ctmask {mask}",
                )
            )
        if choice == "ttl":
            return rng.choice(
                ("-j HL --hl-set 70", "-j HL --hl-inc 2")
                if family == 6
                else ("-j TTL --ttl-set 70", "-j TTL --ttl-inc 2")
            )
        if choice == "dscp":
            return rng.choice(("-j DSCP --set-dscp 0x2e", "-j TOS --set-tos 0x00"))
        if choice == "reject":
            if protocol == "tcp" and rng.random() < 0.4:
                return "-j REJECT --reject-with tcp-reset"
            kinds = (
                ("icmp6-port-unreachable", "icmp6-adm-prohibited", "icmp6-no-route", "icmp6-addr-unreachable")
                if family == 6
                else (
                    "icmp-port-unreachable",
                    "icmp-net-unreachable",
                    "icmp-host-unreachable",
                    "icmp-proto-unreachable",
                    "icmp-net-prohibited",
                    "icmp-host-prohibited",
                    "icmp-admin-prohibited",
                )
            )
            return f"-j REJECT --reject-with {rng.choice(kinds)}" if rng.random() < 0.8 else "-j REJECT"
        if choice in ("dnat", "snat"):
            ip = rng.choice((*remote, *remote, *local) if choice == "dnat" else (*local, *remote))
            where = f"[{ip}]:{{}}" if family == 6 else f"{ip}:{{}}"
            if rng.random() < 0.35:
                ip = where.format(rng.choice((80, 8080, 9999)))
            name = choice.upper()
            return f"-j {name} --to-{'destination' if choice == 'dnat' else 'source'} {ip}"
        if choice == "redirect":
            return rng.choice(("-j REDIRECT", "-j REDIRECT --to-ports 8080"))
        if choice == "masquerade":
            return rng.choice(("-j MASQUERADE", "-j MASQUERADE", "-j MASQUERADE --to-ports 50000-50000"))
        if choice == "netmap":
            networks = ("fd00:10:244:1::/64", "fd00:9::/64") if family == 6 else ("10.244.1.0/24", "10.9.0.0/24")
            return f"-j NETMAP --to {rng.choice(networks)}"
        return choice


def _nat_kind(hook: str) -> str:
    return {"PREROUTING": "pre", "OUTPUT": "pre", "POSTROUTING": "post", "INPUT": "input"}[hook]


def _has_port(target: str, family: int) -> bool:
    return "--to-" in target and ("]:" in target if family == 6 else ":" in target)


def _as_number(ip: str) -> int:
    return int(ip_address(ip))
