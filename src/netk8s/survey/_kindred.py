"""Which questions are alike up to names, so that the walk of one answers the others.

Two Services whose rules are the same once their own chains, addresses and names are put aside, and whose addresses
nothing else tells apart, are walked alike: a walk looks at an address only to compare it with what is written
somewhere. What is written is gathered here, so a question's key holds every comparison that can be made:

- the text of the Service's own rules, its chains, addresses, name and NodePorts numbered in the order they appear;
- for each of these addresses the networks of all other rules, routes, devices and objects that hold it, routes that do
  the same through gateways that are alike being one;
- the entries of ipsets in the same way as networks;
- the API's objects of the Service and of its endpoints, and the client in the same way.

Connections that a node remembers are told of where they go on to something else than the Service's endpoints, and
decide for packets whose source port is known, which no question gives: a Service with connections of the first kind is
like no other, and so is everything where rules give source ports.

That is careful rather than clever: where there are facts that are not looked through here (nftables, IPVS, network
policies, IPv6) no question is like another.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, ip_address, ip_network
from itertools import chain
from socket import AF_INET, inet_pton
from typing import overload

from msgspec import Struct
from msgspec.structs import replace

from netk8s import dialects
from netk8s.errors import DecodeError
from netk8s.model import (
    TCP,
    Addr,
    Ask,
    At,
    Endpoint,
    Finding,
    IpSet,
    Net,
    Node,
    Pod,
    Route,
    ServicePort,
    Table,
    World,
)
from netk8s.model import service_ranges as ranges_of
from netk8s.survey._answers import Answer, in_order
from netk8s.survey._ports import Key, Port
from netk8s.survey._questions import Ground, Question

_OWN = re.compile(r"KUBE-(?:SVC|SVL|EXT|XLB|FW|SEP)-[A-Z2-7]{16}")
_HUBS = frozenset({"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"})
_DOOR = re.compile(
    r"-A \S+ (?:! -s \S+ )?(?:-d (\S+) )?-p (tcp|udp|sctp) (?:-m comment --comment (?:\"[^\"]*\"|[^ \"]+) )?"
    r"(?:-m addrtype --dst-type LOCAL )?-m \w+ --dport (\d+) "
)
_HOST = r"\d{1,3}(?:\.\d{1,3}){3}"
_TOKEN = re.compile(rf"({_OWN.pattern}|(?<![\w.:-]){_HOST}(?:/\d+)?(?![\w./])|--dport \d+)")
_NET = re.compile(rf"(?<![\w.:]){_HOST}(?:/\d+)?")
_PORTS = re.compile(r"--[a-z-]*ports? ([\d:,]+)")
_COMPUTED = re.compile(r"-j NETMAP|-m (?:iprange|u32|bpf|cgroup|string|geoip)\b")
"""What makes addresses of addresses, or compares them with what is not written as an address."""

_SOURCE_PORT = re.compile(r"--to-ports |--to-source \S+:\d")

_WORD = re.compile(r"[\w.-]+/[\w.-]+|(?<![\w.])\d+(?![\w.])|KUBE-[A-Z]+-[A-Z2-7]{16}")

_COUNTED = re.compile(r"^\[\d+:\d+\] ", re.M)

_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

Place = tuple[str, int]
"""(origin, line) of a rule."""

Door = tuple[str | None, int, int]
"""(address, None for any; protocol; port) of the packets that a rule of kube-proxy's first chains takes."""


class _Places(Sequence[Place]):
    """Where rules stand. A large node has a million of them, so this is not a tuple for each."""

    __slots__ = ("_lines", "_origins", "_which")

    def __init__(self) -> None:
        self._origins: dict[str, int] = {}
        self._which, self._lines = array("H"), array("L")

    def add(self, origin: str, lines: Sequence[int]) -> None:
        """Adds the rules in some lines of a file."""
        which = self._origins.setdefault(origin, len(self._origins))
        self._lines.extend(lines)
        self._which.extend([which] * len(lines))

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, place: int) -> Place: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Place]: ...
    def __getitem__(self, place: int | slice) -> Place | Sequence[Place]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return list(self._origins)[self._which[place]], self._lines[place]


class Names(Struct, frozen=True, eq=False):
    """The names of one question, in an order that is the same for those like it, and where its rules stand."""

    words: tuple[str, ...]
    rules: Sequence[Place]

    def to(self, other: Names) -> Renaming:
        """From the names of this question to those of another that is like it."""
        words = dict(zip(self.words, other.words, strict=True))
        lines = zip(self.rules, other.rules, strict=True)
        words |= {f"{mine[0]}:{mine[1]}": f"{theirs[0]}:{theirs[1]}" for mine, theirs in lines}
        return Renaming({text: new for text, new in words.items() if text != new})


class Renaming:
    """Puts the names of one question in the place of another's."""

    def __init__(self, words: dict[str, str]) -> None:
        self._words = words
        # A number behind a colon is a port behind an address, and behind a file's name it is a line.
        some = "|".join(
            rf"(?:(?<![\w.:/-])|(?<=\d:)){text}" if text.isdecimal() else rf"(?<![\w./-]){re.escape(text)}"
            for text in sorted(words, key=len, reverse=True)
        )
        self._pattern = re.compile(rf"(?:{some})(?![\w-]|\.\w)") if words else None

    def text(self, text: str) -> str:
        """A text with the other names."""
        return self._pattern.sub(lambda found: self._words[found[0]], text) if self._pattern is not None else text

    def finding(self, finding: Finding) -> Finding:
        """A finding with the other names."""
        return replace(
            finding, summary=self.text(finding.summary), remedy=self.text(finding.remedy),
            evidence=tuple(map(self.text, finding.evidence)),
        )  # fmt: skip

    def answer(self, answer: Answer) -> Answer:
        """An answer with the other names."""
        results = tuple(
            replace(
                each, ip=self._address(each.ip), source=self._address(each.source),
                port=each.port if each.port is None else int(self._words.get(str(each.port), each.port)),
                pod=each.pod and self._words.get(each.pod, each.pod),
                node=each.node and self._words.get(each.node, each.node),
            )
            for each in answer.results
        )  # fmt: skip
        because = tuple(
            replace(each, text=self.text(each.text), rule=self.text(each.rule), at=self.text(each.at))
            for each in answer.because
        )
        return replace(answer, results=tuple(sorted(results, key=in_order)), because=because)

    def _address(self, ip: Addr | None) -> Addr | None:
        return ip_address(self._words[str(ip)]) if str(ip) in self._words else ip


class _Shape(Struct, frozen=True, eq=False):
    """A port's part of a key, with its names."""

    key: int
    names: Names
    places: dict[str, int]


class Kindred:
    """The questions of one ground by what they are alike in."""

    def __init__(self, ground: Ground) -> None:
        self._world = ground.world
        self._cluster = ground.world.cluster
        self._shapes: dict[Key, _Shape | None] = {}
        self._numbers: dict[Hashable, int] = {}
        self._pods: dict[str, Pod] = {}
        self.able = _looked_through(ground.world)
        if self.able:
            self._books = [_Book(node) for node in ground.world.nodes.values()]
            self._written = _Written(ground.world, self._books)
            self.able = self._written.able
            self._objects = _Objects(ground.world)
            self._connections = _Connections(ground.world, self._books)
            self.able = self.able and self._connections.able

    def of(self, question: Question) -> tuple[Hashable, Names] | None:
        """(what questions like this one have in common, its names); None for one that is like no other."""
        port = question.port
        if not self.able:
            return None
        if port.key not in self._shapes:
            try:
                self._shapes[port.key] = self._shape(port)
            except ValueError:
                # What looks like an address and is none.
                self._shapes[port.key] = None
        shape = self._shapes[port.key]
        if shape is None:
            return None
        ask, more = question.ask, list[str]()
        host, _, number = ask.target.rpartition(":")
        source = self._source(ask.source or "", shape, more)
        if source is None:
            return None
        key = (
            shape.key, port.dialled.index(question.dialled), question.address, question.client, question.at,
            question.sender, shape.places.get(host, host), shape.places.get(number, number),
            None if ask.port is None else shape.places.get(ask.port, ask.port), ask.protocol, source, ask.via, ask.node,
        )  # fmt: skip
        return key, replace(shape.names, words=(*shape.names.words, *more)) if more else shape.names

    def _source(self, source: str, shape: _Shape, more: list[str]) -> Hashable | None:
        """The client in words that hold for those like it; its own names are added to ``more``."""
        kind, _, name = source.partition("/")
        if kind != "pod" or not name:
            return (source,)
        if not self._pods:
            self._pods.update((f"{pod.namespace}/{pod.name}", pod) for pod in self._cluster.pods)
        pod = self._pods.get(name)
        if pod is None:
            return None
        for text in (name, *map(str, pod.ips)):
            if text not in shape.places:
                more.append(text)
        return (
            tuple(shape.places.get(text, -1) for text in (name, *map(str, pod.ips))),
            tuple(self._written.of(str(ip)) for ip in pod.ips), self._objects.of_pod(pod), pod.node,
        )  # fmt: skip

    def _shape(self, port: Port) -> _Shape | None:
        if port.families != (4,) or port.service.startswith(("pod/", "(")) or "/" not in port.service:
            return None
        if not self._connections.as_expected(port, self._objects.ends_of(port)):
            return None
        doors = [(None if d.ip is None else str(d.ip), port.protocol, d.port) for d in port.dialled]
        texts: list[str] = []
        rules = _Places()
        numbers = {place.port for place in port.endpoints} | {d.port for d in port.dialled if d.ip is not None}
        others = {(None, port.protocol, number or 0) for number in numbers}
        for book in self._books:
            # A rule for this port at any address of a node is another Service's.
            if not book.closure(doors, texts, rules) or not book.doors.keys().isdisjoint(others):
                return None
        if self._connections.any and any(map(_SOURCE_PORT.search, texts)):
            return None
        ports = [str(d.port) for d in port.dialled if d.ip is None]
        places: dict[str, int] = {}
        for word in (port.service, *ports):
            places.setdefault(word, len(places))

        def numbered(word: str) -> str:
            if word.startswith("--dport "):
                return f"--dport <{places[word[8:]]}>" if word[8:] in ports else word
            host, slash, length = word.partition("/")
            if (slash and length != "32") or host in self._written.nodes:
                return word
            return f"<{places.setdefault(host, len(places))}>{slash}{length}"

        parts = _TOKEN.split("\n".join(texts).replace(port.service, "<0>"))
        known: dict[str, str] = {}
        for i in range(1, len(parts), 2):
            word = parts[i]
            parts[i] = known.get(word) or known.setdefault(word, numbered(word))
        text = "".join(parts)
        ends = {place.ip: str(place.ip) for place in port.endpoints}
        for host in (*ends.values(), *(str(d.ip) for d in port.dialled if d.ip is not None)):
            places.setdefault(host, len(places))
        addresses = [(n, word) for word, n in places.items() if word[0].isdecimal() and _NET.fullmatch(word)]
        ways = []
        for _, host in addresses:
            for route in self._written.routes(host):
                hops = (str(hop.gateway) for hop in route.nexthops)
                # What the rules of others name stays as it is: then only Services behind the same network are alike.
                words = (str(route.dst), *hops)
                named = self._written.named
                ways.append(tuple(w if w in named else places.setdefault(w, len(places)) for w in words))
                rules.add(route.at.origin, (route.at.line,))
        objects = self._objects.of_port(port, places, self._written.nodes)
        # A name that others use too cannot be put in place of another in what is told of their rules.
        if objects is None or not self._written.named.isdisjoint(places):
            return None
        own = set(doors)
        key = (
            text, len(port.dialled), port.name, port.protocol, port.source_ranges, port.node,
            tuple((d.kind, None if d.ip is None else places[str(d.ip)], None if d.ip is None else d.port)
                  for d in port.dialled),
            tuple(sorted(((places[ends[p.ip]], p.port, p.node if p.node in self._world.nodes else None)
                          for p in port.endpoints), key=str)),
            tuple((n, self._written.of(host), self._written.doors(host, own, self._books)) for n, host in addresses),
            tuple(self._written.numbers(int(number)) for number in ports), objects, tuple(ways),
        )  # fmt: skip
        number = self._numbers.setdefault(key, len(self._numbers))
        return _Shape(number, Names(tuple(places), rules), places)


def _looked_through(world: World) -> bool:
    """Whether there are no facts but those that are looked through here."""
    cluster = world.cluster
    if cluster.policies or cluster.other_policies or cluster.ingresses or cluster.gateways or cluster.http_routes:
        return False
    for node in world.nodes.values():
        known = {t.name for t in node.tables if t.family == 4}
        if any((t.family, t.name) not in {(f, name) for f in ("ip", "ip6") for name in known} for t in node.nft):
            return False
        if node.virtual_servers or node.pods or node.opaque or "ipvs" in node.covered:
            return False
        if any(table.headless for table in node.tables):
            return False
    return bool(world.nodes)


class _Book:
    """The IPv4 rules of a node: those of single doors, and the texts of all the others."""

    def __init__(self, node: Node) -> None:
        self.doors: dict[Door, list[tuple[Table, int, str]]] = {}
        self.hosts: dict[str, list[Door]] = {}
        self.common: list[str] = []
        for table in node.tables:
            for name in table.chains if table.family == 4 else ():
                if not _OWN.fullmatch(name):
                    self._read(table, name)
        self.exposed = {name for text in self.common for name in _OWN.findall(text)}

    def _read(self, table: Table, name: str) -> None:
        for line, text in table.chains[name].rules.texts():
            found = _DOOR.match(text) if name in _HUBS else None
            host, _, length = ((found[1] if found is not None else None) or "").partition("/")
            whole = length == "32"
            # Those for 127.0.0.0/8 are for NodePorts at localhost.
            if found is None or (host and not whole and not host.startswith("127.")):
                self.common.append(text)
                continue
            door = (host if whole else None, _PROTOCOLS[found[2]], int(found[3]))
            if door not in self.doors and whole:
                self.hosts.setdefault(host, []).append(door)
            self.doors.setdefault(door, []).append((table, line, text))

    def closure(self, doors: Iterable[Door], texts: list[str], rules: _Places) -> bool:
        """Adds the rules of some doors, and those of the chains that they lead to; False if others lead there too."""
        todo: dict[tuple[int, str], Table] = {}
        done: set[tuple[int, str]] = set()

        def add(table: Table, first: int, text: str) -> None:
            rules.add(table.at.origin, range(first, first + text.count("\n") + 1))
            texts.append(text)
            for name in dict.fromkeys(_OWN.findall(text)):
                if (id(table), name) not in done:
                    todo.setdefault((id(table), name), table)

        for door in dict.fromkeys(doors):
            for table, line, text in self.doors.get(door, ()):
                texts.append(f"{table.backend} {table.name}")
                add(table, line, text)
        while todo:
            key = next(iter(todo))
            table = todo.pop(key)
            done.add(key)
            if key[1] in self.exposed:
                return False
            runs = table.runs(key[1])
            texts.append("chain" if runs or key[1] in table.chains else "no chain")
            for line, text in runs:
                add(table, line, _COUNTED.sub("", text) if "[" in text else text)
        return True


class _Written:
    """Every network and number that is written somewhere but in the rules of single doors."""

    def __init__(self, world: World, books: Sequence[_Book]) -> None:
        self.able = not any(_COMPUTED.search(text) for book in books for text in book.common)
        self.nodes = {str(a.ip) for node in world.nodes.values() for a in node.addresses}
        self._nets: dict[int, dict[int, list[Hashable]]] = {}
        self._numbers: set[int] = set()
        self._known: dict[Hashable, int] = {}
        self.named = {word for book in books for text in book.common for word in _WORD.findall(text)}
        for text in dict.fromkeys(chain.from_iterable(_NET.findall(t) for book in books for t in book.common)):
            self._literal(text)
            self.named.add(text.partition("/")[0])
        for text in dict.fromkeys(chain.from_iterable(_PORTS.findall(t) for book in books for t in book.common)):
            self._numbers.update(map(int, re.findall(r"\d+", text)))
        for node in world.nodes.values():
            self._of_node(node, world)
        for net in ranges_of(world.cluster.services):
            self._add(net, str(net))
        self._of_cluster(world)
        gated = [(name, route) for name, node in world.nodes.items() for route in node.routes if _gateway(route)]
        alike: dict[Hashable, Hashable] = {}
        merged: list[tuple[Net, Hashable]] = []
        for name, route in gated:
            hops = tuple(
                (replace(h, gateway=None), self.of(str(h.gateway)) if h.gateway else None) for h in route.nexthops
            )
            kind: Hashable = (
                name,
                "route",
                repr(replace(route, dst=_ANY, nexthops=(), at=At(""))),
                route.dst.prefixlen,
                hops,
            )
            merged.append((route.dst, alike.setdefault(kind, len(alike))))
        for net, same in merged:
            self._add(net, ("gateway", same))
        self._gated: dict[int, dict[int, list[Route]]] = {}
        for _, route in gated:
            if route.dst.version == 4:
                length = route.dst.prefixlen
                number = int(route.dst.network_address) >> (32 - length)
                self._gated.setdefault(length, {}).setdefault(number, []).append(route)

    def _add(self, net: Net, kind: Hashable) -> None:
        if net.version == 4:
            number = int(net.network_address) >> (32 - net.prefixlen)
            self._nets.setdefault(net.prefixlen, {}).setdefault(number, []).append(kind)

    def _literal(self, text: str) -> None:
        try:
            net = ip_network(text, strict=False)
        except ValueError:
            return
        self._add(net, str(net))

    def _of_node(self, node: Node, world: World) -> None:
        for a in node.addresses:
            self._literal(f"{a.ip}/32")
            self._literal(f"{a.ip}/{a.prefixlen}") if a.ip.version == 4 else None
        for route in node.routes:
            if not _gateway(route):
                self._add(route.dst, (node.name, str(route.dst)))
            if route.prefsrc is not None:
                self._literal(str(route.prefsrc))
        for rule in node.rules:
            for net in (rule.src, rule.dst):
                if net is not None:
                    self._add(net, str(net))
        for kept in node.sets:
            self._of_set(kept)
        macs = {entry.mac for entry in node.fdb}
        for each in node.neighbours:
            mac = each.mac if each.mac in macs else each.mac is None
            self._add(ip_network(each.ip), (node.name, each.dev, each.states, mac))
        for socket in node.sockets:
            self._numbers.add(socket.port)
        # Addresses that stand for a client or a pod that no dump tells.
        for ask in (
            Ask("198.51.100.1:80", source="client", via=node.name),
            Ask("198.51.100.1:80", source="pod", node=node.name),
        ):
            self._literal(str(dialects.resolve(world, ask).packet.src))

    def _of_set(self, found: IpSet) -> None:
        if found.kind == "list:set":
            return
        kinds = found.kind.partition(":")[2].split(",")
        for entry in found.entries:
            words = entry.split()
            values = words[0].split(",") if words else []
            if len(values) != len(kinds) or "iface" in kinds:
                self.able = False
                return
            for place, (kind, value) in enumerate(zip(kinds, values, strict=True)):
                if kind == "port":
                    self._numbers.update(map(int, re.findall(r"\d+", value)))
                elif kind in ("ip", "net"):
                    try:
                        net = ip_network(value, strict=False)
                    except ValueError:
                        self.able = False
                        return
                    others = (*values[:place], *values[place + 1 :], *words[1:])
                    self._add(net, (found.name, str(net), place, others))
                    self.named.update(_NET.findall(value))

    def _of_cluster(self, world: World) -> None:
        for item in world.cluster.nodes:
            kind: Hashable = item.name if item.name in world.nodes else ("no dump", item.kube_proxy_version)
            for cidr in item.pod_cidrs:
                self._add(cidr, ("pods", cidr.prefixlen, kind))
            for what, text in item.addresses:
                try:
                    self._add(ip_network(text), (what, kind))
                except ValueError:
                    continue

    def of(self, host: str) -> Hashable:
        """What is written that an address lies in."""
        if ":" in host:
            return host
        number = _number(host)
        lengths = ((length, nets.get(number >> (32 - length))) for length, nets in self._nets.items())
        found = tuple((length, tuple(kinds)) for length, kinds in lengths if kinds)
        return self._known.setdefault(found, len(self._known))

    def routes(self, host: str) -> Iterator[Route]:
        """The routes through gateways that an address lies in."""
        number = _number(host)
        for length, nets in self._gated.items():
            yield from nets.get(number >> (32 - length), ())

    def numbers(self, port: int) -> Hashable:
        """Where a port lies among the ports that are written."""
        return port in self._numbers, sum(port > number for number in self._numbers)

    def doors(self, ip: str, own: set[Door], books: Sequence[_Book]) -> Hashable:
        """Other doors at an address."""
        return tuple(tuple(sorted(door[1:] for door in book.hosts.get(ip, ()) if door not in own)) for book in books)


_ANY = ip_network("0.0.0.0/0")


def _number(host: str) -> int:
    """An IPv4 address as a number. Raises ValueError for text that is none."""
    try:
        return int.from_bytes(inet_pton(AF_INET, host))
    except OSError:
        return int(IPv4Address(host))


def _gateway(route: Route) -> bool:
    return route.kind == "unicast" and route.dst.prefixlen > 0 and any(hop.gateway for hop in route.nexthops)


class _Connections:
    """What was dialled of connections that nodes remember, and where their answers come from."""

    def __init__(self, world: World, books: Sequence[_Book]) -> None:
        self._told = "endpoints" in world.cluster.covered
        self._answers: dict[tuple[int, int], set[tuple[Addr, Addr]]] = {}
        tables = [table for node in world.nodes.values() for table in node.conntrack]
        self.any = bool(tables)
        self.able = not (self.any and any(_SOURCE_PORT.search(text) for book in books for text in book.common))
        try:
            for entry in (entry for table in tables for entry in table.connections):
                if entry.original.dport is not None:
                    ends = self._answers.setdefault((entry.protocol, entry.original.dport), set())
                    ends.add((entry.original.dst, entry.reply.src))
        except DecodeError:
            # It is told of where somebody asks for that entry.
            self.able = False

    def as_expected(self, port: Port, ends: frozenset[Addr]) -> bool:
        """Whether no finding is about connections to a port (NK420, NK421)."""
        for dialled in port.dialled:
            for dst, answering in self._answers.get((port.protocol, dialled.port), ()):
                if dialled.ip not in (None, dst):
                    continue
                untold = answering == dst or answering in ends or not self._told
                if not untold or (answering == dst and port.protocol != TCP):
                    return False
        return True


class _Objects:
    """The API's objects without their names."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._services: dict[Key, list[ServicePort]] = {}
        for s in world.cluster.services:
            self._services.setdefault((f"{s.namespace}/{s.service}", s.name, s.protocol), []).append(s)
        self._endpoints: dict[Key, list[Endpoint]] = {}
        for e in world.cluster.endpoints:
            self._endpoints.setdefault((f"{e.namespace}/{e.service}", e.port_name, e.protocol), []).append(e)
        self._pods: dict[Addr, list[Pod]] = {}
        for pod in world.cluster.pods:
            for ip in pod.ips:
                self._pods.setdefault(ip, []).append(pod)
        self._opened = {port[3] for pod in world.cluster.pods for port in pod.ports if port[3] is not None}

    def ends_of(self, port: Port) -> frozenset[Addr]:
        """The addresses of a port's endpoints."""
        return frozenset(e.ip for e in self._endpoints.get(port.key, ()))

    def of_pod(self, pod: Pod) -> Hashable:
        return repr(replace(pod, namespace="", name="", node="", ips=(), labels=(), at=At(""))), len(pod.ips)

    def of_port(self, port: Port, places: dict[str, int], nodes: Iterable[str]) -> Hashable | None:
        """What the objects say of a port; names of pods and of nodes without dumps are numbered in ``places``."""
        services = self._services.get(port.key, ())
        if any(d.port in self._opened for d in port.dialled if d.ip is None):
            return None

        def number(name: str | None) -> Hashable:
            if name is None or name in self._world.nodes:
                return name
            return places.setdefault(name, len(places))

        told: list[Hashable] = [
            repr(replace(s, namespace="", service="", cluster_ips=(), external_ips=(), lb_ips=(), lb_ips_proxy=(),
                         node_port=None, at=At("")))
            for s in services
        ]  # fmt: skip
        told += [tuple(number(str(ip)) for ip in (*s.cluster_ips, *s.external_ips, *s.lb_ips, *s.lb_ips_proxy))
                 for s in services]  # fmt: skip
        # Nobody asks for the order of a set of endpoints, nor for their zones where no hint names one.
        ends = sorted(self._endpoints.get(port.key, ()), key=lambda e: places.get(str(e.ip), len(places)))
        hinted = any(e.hints for e in ends)
        for e in ends:
            told.append(
                (number(str(e.ip)), number(e.node), number(e.pod), e.port, e.ready, e.serving, e.terminating, e.hints,
                 e.zone if hinted else None)
            )  # fmt: skip
        for ip in sorted({place.ip for place in port.endpoints}, key=lambda ip: places[str(ip)]):
            for pod in self._pods.get(ip, ()):
                told.append((number(f"{pod.namespace}/{pod.name}"), number(pod.node), self.of_pod(pod)))
        return tuple(told)
