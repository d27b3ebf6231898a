"""Which questions are alike up to names, so that the walk of one answers the others.

The names of a question are the addresses, NodePorts, chains, Service and pods that are its own. Its *key* is everything
that is written of them: each record that one of them is in (``_facts``), the chains that these lead to, the API's objects
(``_objects``), the networks that hold each address, the client; the names numbered in the order they are met.

Two questions of one key are answered alike: exchange the names of one for those of the other everywhere. By the key that
leaves every fact of the world what it is, but for where rules stand among rules that packets with other addresses match.
A walk that only asks whether an address is another, lies in a network, or is looked up by (``_plain`` tells which rules do
no more) takes the same way in a world with other names, so its answer is that of the other question in other names.

What is not known to be so is asked by itself: rules that do more with addresses, names that facts of nobody's have too, an
address that is a node's, a NodePort that is another port's number as well.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from netk8s import dialects
from netk8s.errors import NotFound, UsageError
from netk8s.model import Ask, Cluster, Node, Pod, World
from netk8s.survey._chains import CHAIN, FOUR, NAMED, SIX, Chain, Chains
from netk8s.survey._facts import NODE_FIELDS, Facts, Record
from netk8s.survey._forms import MARKS, Forms
from netk8s.survey._names import Names, Numbering, Places
from netk8s.survey._networks import parsed, shown
from netk8s.survey._objects import CLUSTER_FIELDS, UNREAD, Connections, Objects
from netk8s.survey._ports import Key, Port
from netk8s.survey._questions import Ground, Question

_BETWEEN, _SERVICE, _OPEN, _CLOSE = "\x00", "\x01", "\x02", "\x03"
_FOUR = rf"(?<![\w.:-]){FOUR}(?:/\d+|-{FOUR})?(?![\w.])"
_SIX = rf"(?<![\w.:-])(?:{SIX})(?:/\d+|-(?:{SIX}))?(?![\w.])"
_MORE = rf"(?<![\w./-]){CHAIN}|--dport \d+(?![\d:])"
_TOKEN = re.compile(rf"((?<![\w./-])(?:{NAMED})|{_FOUR}|{_MORE}|{_SIX})")
# The same as _FOUR and _MORE, begun by a set of characters, for which re has a quick search.
_TOKEN_4 = re.compile(
    rf"([\dK-](?:(?<=\d)(?<![\w.:-]\d)\d{{0,2}}(?:\.\d{{1,3}}){{3}}(?:/\d+|-{FOUR})?(?![\w.])"
    rf"|(?<=K)(?<![\w./-]K){CHAIN[1:]}|(?<=-)-dport \d+(?![\d:])))"
)
_RICH = re.compile(rf"(?:{NAMED})|:[0-9a-f]{{0,4}}:")
"""What is in texts of nftables and of IPv6 only."""

_CHAIN = re.compile(f"{CHAIN}|{NAMED}")
_ALONE = re.compile(rf"{_SERVICE}(?<![\w./-]{_SERVICE})(?![\w-]|\.\w)")
_SPAN = re.compile(rf"(?:{FOUR}|{SIX})-(?:{FOUR}|{SIX})")
_PART = re.compile(rf"(?:{FOUR}|{SIX})(?:/\d+)?")
_IN_CHAIN = re.compile(r"^([a-z]+)-[A-Z2-7]{8}-(.*)$")
_SOURCE_PORT = re.compile(r"--to-ports |--to-source \S+:\d|masquerade to :|snat to \S+:\d")
_MOST = 4000
"""Records of one port. Who has more shares what many others have, and is asked by itself."""


class _Shape(Struct, frozen=True):
    """A port's part of a key, with its names."""

    key: int
    names: Names
    places: dict[str, int]


class Kindred:
    """The questions of one ground by what they are alike in."""

    def __init__(self, ground: Ground) -> None:
        world = ground.world
        self._world = world
        self._shapes: dict[Key, _Shape | None] = {}
        self._numbers: dict[Hashable, int] = {}
        self._pods: dict[str, Pod] = {}
        self._forms = Forms(_parts)
        self._chains = Chains(world.nodes.values())
        others = {d.port for port in ground.ports for d in port.dialled if d.ip is not None}
        others |= {place.port for port in ground.ports for place in port.endpoints if place.port is not None}
        self._node_ports = {d.port for port in ground.ports for d in port.dialled if d.ip is None} - others
        self.able = _looked_through(world)
        if not self.able:
            return
        self._facts = Facts(world.nodes.values(), _literal(world), self._node_ports)
        self._objects = Objects(world, self._facts.networks)
        self._facts.add_gateways(world.nodes.values())
        self._connections = Connections(world)
        common = (record.text for record in self._facts.records)
        given = self._connections.any and any(map(_SOURCE_PORT.search, (*self._facts.giving, *common)))
        self.able = self._facts.able and self._connections.able and not given

    def of(self, question: Question) -> tuple[Hashable, Names] | None:
        """(what questions like this one have in common, its names); None for one that is like no other."""
        port = question.port
        if not self.able:
            return None
        if port.key not in self._shapes:
            try:
                self._shapes[port.key] = self._shape(port)
            except ValueError:
                # Something is not known to be safe, or looks like an address and is none.
                self._shapes[port.key] = None
        shape = self._shapes[port.key]
        if shape is None:
            return None
        ask = question.ask
        host, _, number = ask.target.rpartition(":")
        host = host.strip("[]")
        if host not in shape.places and host in self._facts.ordered:
            return None
        source = self._source(ask.source or "", shape)
        if source is None:
            return None
        key = (
            shape.key, port.dialled.index(question.dialled), question.address, question.client, question.at,
            question.sender, shape.places.get(host, host), shape.places.get(number, number),
            None if ask.port is None else shape.places.get(ask.port, ask.port),
            replace(ask, target="", port=None, source=None), source,
        )  # fmt: skip
        return key, shape.names

    def _is_own(self, number: int) -> bool:
        """Whether a NodePort is nothing else's number."""
        return number in self._node_ports and not (self._facts.is_number(number) or number in self._objects.numbers)

    def _source(self, source: str, shape: _Shape) -> Hashable | None:
        """The client in words that hold for those like it."""
        kind, _, name = source.partition("/")
        if kind != "pod" or not name:
            # Its place among the rules of others tells, so they are not exchanged.
            return None if source in self._facts.ordered else (source,)
        if not self._pods:
            self._pods.update((f"{pod.namespace}/{pod.name}", pod) for pod in reversed(self._world.cluster.pods))
        pod = self._pods.get(name)
        if pod is None:
            return None
        own = tuple(shape.places.get(text, -1) for text in (name, *map(str, pod.ips)))
        if -1 not in own:
            return own
        # Any other pod is the same one in all of them, and has none of the names that are exchanged.
        if set(own) != {-1} or not self._facts.ordered.isdisjoint(map(str, pod.ips)):
            return None
        return (source,)

    def _shape(self, port: Port) -> _Shape | None:
        if port.service.startswith(("pod/", "(")) or "/" not in port.service:
            return None
        if not self._connections.as_expected(port):
            return None
        own_ports = [str(d.port) for d in port.dialled if d.ip is None]
        if not all(self._is_own(int(number)) for number in own_ports):
            return None
        writing = _Writing(self._facts, self._chains, self._forms, port, own_ports, asks_ports=self._connections.any)
        writing.write()
        names = writing.names
        dialled = [None if d.ip is None else shown(d.ip) for d in port.dialled]
        places = [shown(place.ip) for place in port.endpoints]
        own = {
            host: d.ip for d, host in zip(port.dialled, dialled, strict=True) if d.ip is not None and host is not None
        }
        own.update((host, place.ip) for place, host in zip(port.endpoints, places, strict=True))
        for host in own:
            names.number(host)
        objects = self._objects.of_port(port, own, names, writing.rules)
        # The objects have brought addresses of pods: what is written of them is told too.
        writing.write()
        hosts = [(n, *parsed(word)) for word, n in names.places.items() if _is_host(word)]
        ways = []
        for _, *address in hosts:
            for words, at in self._facts.routes(*address):
                # What rules name stays as it is: then only Services behind the same network are alike.
                ways.append(
                    tuple(
                        [w if w in self._facts.named else names.places.setdefault(w, len(names.places)) for w in words]
                    )
                )
                writing.rules.add(at.origin, at.line)
        # A name that others use too cannot be put in place of another in what is told of their rules.
        if not self._facts.named.isdisjoint(names.places) or (self._connections.any and writing.gives_ports):
            return None
        key = (
            tuple(writing.told), writing.order(), port.name, port.protocol, port.source_ranges, port.node, port.families,
            tuple((d.kind, None if host is None else names.of(host), None if host is None else d.port)
                  for d, host in zip(port.dialled, dialled, strict=True)),
            tuple([(names.of(host), p.port, p.node if p.node in self._world.nodes else None, p.pod and names.of(p.pod))
                   for host, p in sorted(zip(places, port.endpoints, strict=True),
                                         key=lambda each: (names.order(each[0]), each[1].port or 0))]),
            tuple([(n, self._facts.networks.of(*address)) for n, *address in hosts]),
            tuple(self._facts.number(int(number)) for number in own_ports), objects, tuple(ways),
        )  # fmt: skip
        number = self._numbers.setdefault(key, len(self._numbers))
        return _Shape(number, Names(tuple(names.places), writing.rules), names.places)


class _Writing:
    """All that is written of a port, its names numbered."""

    def __init__(
        self,
        facts: Facts,
        chains: Chains,
        forms: Forms,
        port: Port,
        own_ports: Iterable[str],
        *,
        asks_ports: bool = True,
    ) -> None:
        self._facts, self._chains, self._forms = facts, chains, forms
        self.names = Numbering(facts.is_literal)
        self.told: list[Hashable] = []
        self.rules = Places()
        self.gives_ports = False
        self._ports = {f"--dport {number}" for number in own_ports}
        self._asks_ports = asks_ports
        self._of_chains: set[str] = set()
        self._done: set[str] = set()
        self._records: set[int] = set()
        self._in_order: dict[tuple[Hashable, ...], list[tuple[int, int]]] = {}
        self._seen: dict[str, str] = {}
        self._service = port.service
        self._told_service = _number(0)
        for word in (port.service, *own_ports, *(str(d.ip) for d in port.dialled if d.ip is not None)):
            self.names.number(word)
        self._own_ports = set(own_ports)

    def write(self) -> None:
        """Follows the names to all that is written of them, and to the names in that."""
        while todo := [name for name in self.names.places if name not in self._done]:
            chains: list[tuple[str, str, Chain]] = []
            for name in todo:
                self._done.add(name)
                key = f"#{name}" if name in self._own_ports else name
                for number in self._facts.by_name.get(key, ()):
                    if number not in self._records:
                        self._records.add(number)
                        self._record(number, self._facts.records[number])
                if len(self._records) > _MOST:
                    raise ValueError(name)
                if name in self._of_chains:
                    chains += [(where, name, chain) for where, chain in self._chains.named(name)]
            # What is looked for in each of them is looked for once.
            texts = self._marked(_BETWEEN.join(chain.text for *_, chain in chains)).split(_BETWEEN) if chains else ()
            for (where, name, chain), marked in zip(chains, texts, strict=True):
                for run in chain.lines:
                    self.rules.add(*run)
                found = self._forms.of(name, marked) if chain.four else None
                if found is None or _SERVICE in marked or not self._ports.isdisjoint(found[0].rest):
                    text = self._in_numbers(_parts(marked))
                    self._chains.check(name, text)
                    self.told.append((where, self._in_name(name), text))
                else:
                    form, words = found
                    self._chains.check(name, form.text)
                    self.told.append((where, self._in_name(name), form.number, *map(self._number_of, words)))

    def _record(self, number: int, record: Record) -> None:
        for origin, line in record.at:
            self.rules.add(origin, line)
        if record.where[-1].__class__ is int:
            self._in_order.setdefault(record.where[:2], []).append((number, len(self.told)))
        self.told.append((record.where, self._in_numbers(_parts(self._marked(record.text)))))

    def order(self) -> Hashable:
        """The order in their chains of the rules that are told, where there are several."""
        return tuple(
            (chain, tuple(place for _, place in sorted(found)))
            for chain, found in sorted(self._in_order.items(), key=repr)
            if len(found) > 1
        )

    def _marked(self, text: str) -> str:
        """A text with a mark, or a number where it stands by itself, for the Service."""
        if self._asks_ports:
            self.gives_ports = self.gives_ports or _SOURCE_PORT.search(text) is not None
        if any(mark in text for mark in (_SERVICE, _OPEN, _CLOSE, *MARKS)):
            raise ValueError(text)
        text = text.replace(self._service, _SERVICE)
        return _ALONE.sub(self._told_service, text) if _SERVICE in text else text

    def _in_numbers(self, parts: list[str]) -> str:
        """The text of words, at odd places, and what is between them, with numbers for names."""
        for place in range(1, len(parts), 2):
            parts[place] = self._number_of(parts[place])
        return "".join(parts).replace(_SERVICE, self._service)

    def _number_of(self, word: str) -> str:
        """What stands for a word."""
        return self._seen.get(word) or self._seen.setdefault(word, self._new(word))

    def _new(self, word: str) -> str:
        if word[0].isdecimal() and ":" not in word and "-" not in word:
            return self._host(word)
        word = word.replace(_SERVICE, self._service)
        if word.startswith("--dport "):
            return f"--dport {_number(self.names.of(word[8:]))}" if word in self._ports else word
        if _is_chain(word):
            self._of_chains.add(word)
            return _number(self.names.number(word))
        if _SPAN.fullmatch(word):
            raise ValueError(word)
        return self._host(word) if _PART.fullmatch(word) else word

    def _host(self, word: str) -> str:
        host, slash, length = word.partition("/")
        try:
            parsed(host)
        except ValueError:
            return word
        if slash and length not in ("32", "128"):
            return word
        number = self.names.number(host)
        return f"{_number(number)}{slash}{length}" if isinstance(number, int) else word

    def _in_name(self, name: str) -> str:
        """What a chain's name says by itself."""
        if name.startswith("KUBE-"):
            return name[:8]
        found = _IN_CHAIN.match(name)
        if found is None:
            raise ValueError(name)
        rest = found[2]
        for word in sorted(self.names.places, key=len, reverse=True):
            if "/" in word and not _is_chain(word) and rest.startswith(f"{word}/"):
                rest = _number(self.names.places[word]) + rest[len(word) :]
                break
        head, mark, end = rest.partition("__")
        host, slash, number = end.rpartition("/")
        dotted = {word.replace(":", "."): place for word, place in self.names.places.items() if _PART.fullmatch(word)}
        return f"{found[1]} {head}{mark}{_number(dotted[host]) if host in dotted else host}{slash}{number}"


def _parts(text: str) -> list[str]:
    """What may be a name at odd places, and what is between."""
    return (_TOKEN if _RICH.search(text) else _TOKEN_4).split(text)


def _number(number: Hashable) -> str:
    """A name's number as it stands in texts."""
    return f"{_OPEN}{number}{_CLOSE}"


def _is_host(word: str) -> bool:
    return (word[:1].isdecimal() or ":" in word) and _PART.fullmatch(word) is not None


def _is_chain(word: str) -> bool:
    return _CHAIN.fullmatch(word) is not None


def _looked_through(world: World) -> bool:
    """Whether there are no facts but those that are looked through here."""
    return (
        bool(world.nodes)
        and not world.observations
        and set(Node.__struct_fields__) == NODE_FIELDS
        and set(Cluster.__struct_fields__) == CLUSTER_FIELDS | UNREAD
        and not any(node.pods or node.opaque for node in world.nodes.values())
    )


def _literal(world: World) -> Iterator[str]:
    """Addresses that packets may have whoever is asked for: those of nodes, and those that stand for clients."""
    for item in world.cluster.nodes:
        yield from (text for _, text in item.addresses if _PART.fullmatch(text))
    for name in world.nodes:
        for target, port in (("198.51.100.1:80", None), ("[2001:db8:ffff::1]:80", None), (f"node/{name}", "1")):
            for ask in (Ask(target, port, source="client", via=name), Ask(target, port, source="pod", node=name)):
                try:
                    flow = dialects.resolve(world, ask)
                except (NotFound, UsageError):
                    continue  # of this family nobody can ask
                yield from map(str, (flow.packet.src, flow.packet.dst, *(ip for ip, _ in flow.owned)))
