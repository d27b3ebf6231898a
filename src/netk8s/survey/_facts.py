"""Every fact of a world by the names in it, so that two questions can be compared by all that is written of theirs.

A fact is a *record* where a name guards it: a rule that only packets with an address (or to a NodePort) can match, an
element of a set, a route, a virtual server. Records are found by each address, port and chain that they mention. All
other facts are *common*: they stay what they are whatever is renamed, so a name in one of them cannot be renamed, and of
an address only the networks that are written there tell anything.

Rules in chains that kube-proxy makes for single Services are no facts of their own: they are what their chain is.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Hashable, Iterable, Iterator
from ipaddress import ip_address, ip_network

from msgspec import Struct
from msgspec.structs import replace

from netk8s.model import (
    At,
    FdbEntry,
    Hook,
    IpSet,
    Link,
    Macvlan,
    NftExpr,
    NftRule,
    NftSet,
    NftStatement,
    NftTable,
    Node,
    PortVlan,
    Route,
    RoutingRule,
    Sysctl,
    Table,
    VirtualServer,
)
from netk8s.survey._chains import COUNTED, FOUR, OWN, SIX, SPAN, place_of, shown
from netk8s.survey._networks import Networks, leaves, parsed
from netk8s.survey._plain import plain_rule, plain_words
from netk8s.survey._sites import IPVS_DEVICE

HOST = rf"(?<![\w.:-])(?:{FOUR}|{SIX})(?:/\d+)?(?![\w.])"
_HOST = re.compile(HOST)
_GUARD = re.compile(r"(?<!!) -[sd] (\S+)")
_DPORT = re.compile(r"(?<!!) --dport (\d+)(?= |$)")
_NUMBER = re.compile(r"(?<![\w.:])\d+(?![\w.])")
_WORD = re.compile(r"[\w.-]+/[\w.-]+")
_GIVEN = re.compile(r"--to-(?:source|destination) (\S+)")
ANY = ip_network("0.0.0.0/0")

NODE_FIELDS = frozenset({
    "name", "tables", "nft", "sets", "links", "addresses", "routes", "rules", "neighbours", "fdb", "sysctls", "sockets",
    "virtual_servers", "conntrack", "covered", "port_vlans", "hooks", "pods", "opaque",
})  # fmt: skip
"""The facts of a node that are looked through here; connections by ``_remembered``."""


class Record(Struct, frozen=True):
    """A fact that names guard: where it stands among its like, its words, the line to point at."""

    where: tuple[Hashable, ...]
    text: str
    at: tuple[tuple[str, int], ...] = ()


class Facts:
    """The facts of some nodes. ``able`` is False where some rule may do what is not known to be safe."""

    def __init__(self, nodes: Iterable[Node], literal: Iterable[str], node_ports: Container[int]) -> None:
        self.able = True
        self.records: list[Record] = []
        self.by_name: dict[str, list[int]] = {}
        self.named: set[str] = set()
        self.networks = Networks()
        self.giving: list[str] = []
        """The texts of common rules that give packets addresses or ports."""
        self.ordered: set[str] = set()
        """The addresses that guard rules, whose place in their chain tells for packets with them."""
        self._literal = set(literal)
        self._node_ports = node_ports
        self._numbers: set[int] = set()
        self._rank: list[int] = []
        self._gated: dict[tuple[int, int], dict[int, list[tuple[tuple[str, ...], At]]]] = {}
        nodes = tuple(nodes)
        for node in nodes:
            self._literal.update(str(a.ip) for a in node.addresses if a.dev != IPVS_DEVICE)
            self._literal.update(_given(node))
        for node in nodes:
            self._of_node(node)

    # ------------------------------------------------------------ what is asked

    def number(self, port: int) -> Hashable:
        """Where a port lies among the numbers that are written."""
        if len(self._rank) != len(self._numbers):
            self._rank = sorted(self._numbers)
        return bisect_left(self._rank, port)

    def is_number(self, port: int) -> bool:
        """Whether a port is written as a number of nobody's."""
        return port in self._numbers

    # ------------------------------------------------------------ how facts are taken in

    def _add(self, record: Record, names: Iterable[str]) -> None:
        number = len(self.records)
        self.records.append(record)
        for name in dict.fromkeys(names):
            self.by_name.setdefault(name, []).append(number)

    def _common(self, text: str) -> None:
        """Takes in what is nobody's: the networks, ranges, numbers and names in a text."""
        if "--to-" in text or "masquerade" in text or "snat" in text:
            self.giving.append(text)
        self.named.update(OWN.findall(text))
        self.named.update(_WORD.findall(text))
        for first, last in SPAN.findall(text):
            try:
                self.networks.add_range(ip_address(first), ip_address(last), f"{first}-{last}")
            except (TypeError, ValueError):
                self.able = False
        for word in _HOST.findall(text):
            host, _, length = word.partition("/")
            try:
                net = ip_network(word, strict=False)
            except ValueError:
                continue
            self.networks.add(net, str(net))
            if length in ("", "32", "128"):
                self.named.update((host, str(net.network_address)))
        self._numbers.update(int(n) for n in _NUMBER.findall(text) if len(n) < 6)
        self._numbers.update(int(n) for pair in re.findall(r"(\d+)[:-](\d+)", text) for n in pair if len(n) < 6)

    def _hosts(self, words: Iterable[object]) -> list[str]:
        """The addresses among words that can be renamed."""
        out = []
        for word in words:
            host, _, length = str(word).partition("/")
            if length in ("", "32", "128") and host not in self._literal and _HOST.fullmatch(host):
                try:
                    parsed(host)
                except ValueError:
                    continue
                out.append(host)
        return out

    def _guarded(
        self, where: tuple[Hashable, ...], text: str, guards: Iterable[object], port: int | None, at: At
    ) -> bool:
        """Takes in a rule if a name guards it."""
        hosts = self._hosts(guards)
        by_port = port is not None and port in self._node_ports and not hosts
        if not hosts and not by_port:
            return False
        self.ordered.update(hosts)
        names = [*self._hosts(_HOST.findall(text)), *OWN.findall(text), *([f"#{port}"] if by_port else ())]
        self._add(Record(where, text, ((at.origin, at.line),)), names)
        return True

    def _of_node(self, node: Node) -> None:
        for table in node.tables:
            self._of_table(table, place_of(node, table))
        for nft in node.nft:
            self._of_nft(nft, place_of(node, nft))
        for kept in node.sets:
            self._of_set(kept, node.name)
        first: dict[str, str] = {}
        for a in node.addresses:
            text = repr(replace(a, at=At(""), position=0))
            if a.dev == IPVS_DEVICE:
                # Which address of a device is the first one may be asked.
                head = first.setdefault(f"{a.dev} {a.ip.version}", str(a.ip)) == str(a.ip)
                self._fact((node.name, "address", head), text, [str(a.ip)])
            else:
                self._common(text)
                self.networks.add(ip_network(f"{a.ip}/{a.prefixlen}", strict=False), text)
                self.networks.add_source(a.ip, a.prefixlen)
        for route in node.routes:
            self._of_route(route, node.name)
        shared = Counter((each.mac, each.ip.version) for each in node.neighbours)
        macs = {entry.mac for entry in node.fdb} | {mac for (mac, _), n in shared.items() if mac and n > 1}
        for link in node.links:
            macs.update((link.mac or "", *(link.detail.sources if isinstance(link.detail, Macvlan) else ())))
        for each in node.neighbours:
            mac = each.mac if each.mac in macs else each.mac is None
            text = f"{each.dev} {each.states} {mac}"
            if self._hosts([str(each.ip)]):
                self._fact((node.name, "neighbour"), text, [str(each.ip)])
            else:
                self.networks.add(ip_network(each.ip), (node.name, text))
        for socket in node.sockets:
            if socket.port in self._node_ports and (socket.ip is None or str(socket.ip) in self._literal):
                # It opens the port at addresses of the node.
                text = repr(replace(socket, at=At(""), port=0))
                self._add(Record((node.name, "socket"), text), [f"#{socket.port}"])
            else:
                self._numbers.add(socket.port)
                self._fact((node.name, "socket"), repr(replace(socket, at=At(""))), [str(socket.ip or "")])
        for server in node.virtual_servers:
            self._of_server(server, node.name)
        others: tuple[Link | RoutingRule | FdbEntry | PortVlan | Hook | Sysctl, ...] = (
            *node.links, *node.rules, *node.fdb, *node.port_vlans, *node.hooks, *node.sysctls.values(),
        )  # fmt: skip
        for fact in others:
            self._common(repr(replace(fact, at=At(""))))
        for rule in node.rules:
            for net in (rule.src, rule.dst):
                if net is not None:
                    self.networks.add(net, str(net))

    def _fact(self, where: tuple[Hashable, ...], text: str, hosts: Iterable[str]) -> None:
        names = self._hosts(hosts)
        if names:
            self._add(Record(where, text), (*names, *self._hosts(_HOST.findall(text))))
        else:
            self._common(text)

    def _of_route(self, route: Route, node: str) -> None:
        text = repr(replace(route, at=At("")))
        if route.dst.prefixlen == route.dst.max_prefixlen:
            self._fact((node, "route"), text, [str(route.dst.network_address)])
        elif not gated(route):
            self._common(text)
            self.networks.add(route.dst, (node, text))

    def add_gateways(self, nodes: Iterable[Node]) -> None:
        """Takes in the routes through gateways, when all else is: those that do the same are one."""
        alike: dict[Hashable, int] = {}
        merged = []
        for node in nodes:
            for route in filter(gated, node.routes):
                hops = tuple(
                    (
                        replace(h, gateway=None),
                        self.networks.of(h.gateway.version, int(h.gateway)) if h.gateway else None,
                    )
                    for h in route.nexthops
                )
                bare = repr(replace(route, dst=ANY, nexthops=(), at=At("")))
                kind = (node.name, bare, route.dst.version, route.dst.prefixlen, hops)
                merged.append((route, ("gateway", alike.setdefault(kind, len(alike)))))
        for route, same in merged:
            self.networks.add(route.dst, same)
            length, bits = route.dst.prefixlen, route.dst.max_prefixlen - route.dst.prefixlen
            number = int(route.dst.network_address) >> bits
            words = (str(route.dst), *(str(hop.gateway) for hop in route.nexthops))
            self._gated.setdefault((route.dst.version, length), {}).setdefault(number, []).append((words, route.at))

    def routes(self, family: int, number: int) -> Iterator[tuple[tuple[str, ...], At]]:
        """The routes through gateways that an address lies in: (networks and gateways, where it is written)."""
        for (version, length), nets in self._gated.items():
            if version == family:
                yield from nets.get(number >> ((32 if family == 4 else 128) - length), ())

    def is_literal(self, host: str) -> bool:
        """Whether an address stays what it is."""
        return host in self._literal

    def _of_server(self, server: VirtualServer, node: str) -> None:
        real = tuple(replace(each, at=At("")) for each in server.real)
        bare = replace(server, at=At(""), real=real)
        at = tuple((line.origin, line.line) for line in (server.at, *(each.at for each in server.real)))
        ends = [str(each.ip) for each in server.real]
        plain = server.scheduler not in ("sh", "dh", "mh", "lblc", "lblcr")
        self.able = self.able and plain
        if server.ip is not None and str(server.ip) not in self._literal:
            self._add(Record((node, "server"), repr(bare), at), self._hosts([str(server.ip), *ends]))
        elif server.ip is not None and server.port in self._node_ports:
            text = f"{replace(bare, port=0)!r}"
            self._add(Record((node, "server"), text, at), [f"#{server.port}", *self._hosts(ends)])
        else:
            self._common(repr(bare))

    def _of_set(self, found: IpSet, node: str) -> None:
        self._common(f"{found.kind} {' '.join(found.options)}")
        for entry in found.entries:
            words = entry.split()
            values = words[0].split(",") if words else []
            hosts = [v for v in values if "/" not in v]
            ports = [int(v.rpartition(":")[2]) for v in values if re.fullmatch(r"(?:\w+:)?\d{1,5}", v)]
            where = (node, "set", found.name)
            if self._hosts(hosts):
                self._fact(where, entry, hosts)
            elif len(ports) == 1 and ports[0] in self._node_ports:
                text = re.sub(rf"(?<![\w.]){ports[0]}(?![\w.])", "#", entry)
                self._add(Record(where, text), [f"#{ports[0]}"])
            else:
                self._common(entry)
                for value in values:
                    self._net(value, (*where, entry))

    def _net(self, value: str, kind: Hashable) -> None:
        try:
            self.networks.add(ip_network(value, strict=False), kind)
        except ValueError:
            return

    def _of_table(self, table: Table, where: str) -> None:
        self.able = self.able and not table.headless
        for name in table.chains:
            if OWN.fullmatch(name):
                continue
            rules = [
                (n, COUNTED.sub("", raw) if raw.startswith("[") else raw) for n, raw in table.chains[name].rules.texts()
            ]
            self.able = self.able and plain_words("\n".join(text for _, text in rules), table.chains)
            place = (where, name, 0)
            for line, text in rules:
                port = _DPORT.search(text)
                number = int(port[1]) if port is not None else None
                if not self._guarded(place, text, _GUARD.findall(text), number, At(table.at.origin, line)):
                    place = (where, name, place[2] + 1)
                    self._common(text)

    def _of_nft(self, table: NftTable, where: str) -> None:
        for name, chain in table.chains.items():
            if OWN.fullmatch(name):
                continue
            self._common(f"{chain.hook} {chain.priority} {chain.policy}")
            common = 0
            for rule in chain.rules:
                self.able = self.able and plain_rule(rule, own=False)
                hosts, number = _guards(rule)
                if not self._guarded(
                    (where, name, common), f"{rule.raw} {shown(rule.statements)}", hosts, number, rule.at
                ):
                    common += 1
                    self._common(f"{rule.raw} {shown(rule.statements)}")
                    for net in _nets(rule.statements):
                        self._net(net, net)
        for name, kept in table.sets.items():
            if not OWN.fullmatch(name):
                self._of_nft_set(kept, (where, "set", name))

    def _of_nft_set(self, kept: NftSet, where: tuple[Hashable, ...]) -> None:
        self._common(f"{kept.types} {kept.map} {kept.dynamic} {kept.timeout}")
        for element in kept.elements:
            words = list(leaves(element.key)) if isinstance(element.key, NftExpr) else [element.key]
            text = shown(element)
            whole = isinstance(element.key, str) or (
                isinstance(element.key, NftExpr)
                and element.key.op == "concat"
                and all(isinstance(each, str | int) for each in element.key.args)
            )
            hosts = self._hosts(each for each in words if isinstance(each, str)) if whole else []
            ports = [each for each in words if isinstance(each, int) and each in self._node_ports]
            if hosts:
                names = (*hosts, *self._hosts(_HOST.findall(text)), *OWN.findall(text))
                self._add(Record(where, text), names)
            elif whole and len(ports) == 1:
                key = element.key
                bare = replace(element, key=replace(key, args=tuple("#" if a == ports[0] else a for a in key.args))
                               if isinstance(key, NftExpr) else "#")  # fmt: skip
                self._add(
                    Record(where, shown(bare)),
                    (f"#{ports[0]}", *self._hosts(_HOST.findall(text)), *OWN.findall(text)),
                )
            else:
                self._common(text)
                for net in _nets((element.key,)):
                    self._net(net, (*where, text))


def gated(route: Route) -> bool:
    """Whether a route leads through a gateway to more than one address."""
    return (
        route.kind == "unicast"
        and 0 < route.dst.prefixlen < route.dst.max_prefixlen
        and any(hop.gateway for hop in route.nexthops)
    )


def _given(node: Node) -> Iterator[str]:
    """The addresses that rules outside of Services' chains give packets: other packets may have them then."""
    for table in node.tables:
        for name in table.chains:
            if not OWN.fullmatch(name):
                for _, text in table.chains[name].rules.texts():
                    if "--to-" in text:
                        for word in _GIVEN.findall(text):
                            yield from (w.partition("/")[0] for w in _HOST.findall(word))
    for nft in node.nft:
        for name, chain in nft.chains.items():
            if not OWN.fullmatch(name):
                for rule in chain.rules:
                    for s in rule.statements:
                        if s.kind in ("dnat", "snat", "mangle"):
                            yield from (str(each) for each in leaves(s.args) if _HOST.fullmatch(str(each)))


def _guards(rule: NftRule) -> tuple[list[str], int | None]:
    """The addresses, and the port, that a packet must have for a rule to match."""
    hosts: list[str] = []
    number: int | None = None
    for s in rule.statements:
        match s:
            case NftStatement("match", ("==",), (NftExpr("payload", (_, "saddr" | "daddr")), str(host))):
                hosts.append(host)
            case NftStatement("match", ("==",), (NftExpr("payload", (_, "dport")), int(port))):
                number = port
    return hosts, number


def _nets(value: object) -> Iterator[str]:
    """The networks in values of nft."""
    match value:
        case NftExpr("prefix", _, (str(host), int(length))):
            yield f"{host}/{length}"
        case tuple():
            for each in value:
                yield from _nets(each)
        case _:
            for name in getattr(value, "__struct_fields__", ()):
                yield from _nets(getattr(value, name))
