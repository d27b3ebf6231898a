"""What kube-proxy in nftables mode writes for one Service port: chains, sets and elements of its table.

After pkg/proxy/nftables/proxier.go (1.29 to 1.36). Rules are written as ``nft list`` prints them and read by the decoder of
such dumps. As in iptables mode, what is written for the present state has to be what the dump holds before anything is
written anew.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from netk8s.errors import NotKnown
from netk8s.intent import DEFAULT_AFFINITY, Where
from netk8s.model import (
    Addr,
    At,
    NftChain,
    NftElement,
    NftExpr,
    NftRule,
    NftSet,
    NftStatement,
    NftTable,
    NftValue,
    NftVerdict,
)
from netk8s.whatif._listed import listed
from netk8s.whatif._plan import Plan, shown

_MAPS = ("service-ips", "service-nodeports", "no-endpoint-services", "no-endpoint-nodeports")
HAIRPIN = "hairpin-connections"
_LONGEST = 240

Key = tuple[str, NftExpr]
"""A map or set, and the key of an element of it."""


class Style(Struct, frozen=True):
    """What flags and version make of a kube-proxy's rules, read from the rules themselves.

    ``direct``: a Service without affinity has no chains for its endpoints, and rules for all Services masquerade (1.36).
    ``mark``: the words that mark for it. ``with_port``: the rule that does for a ClusterIP names the port too. ``pods``:
    what tells pods, as (selector, value), None where nothing does; ``pods_told`` False: no rule shows that.
    """

    direct: bool
    mark: str
    with_port: bool
    masquerade_all: bool
    pods: tuple[str, str] | None
    pods_told: bool = True


class Part(Struct, frozen=True):
    """What a table has for one port: its chains, its elements of maps and sets, its own sets with their timeouts."""

    chains: Mapping[str, NftChain] = field(default_factory=dict)
    elements: Mapping[Key, NftElement] = field(default_factory=dict)
    timeouts: Mapping[str, int | None] = field(default_factory=dict)


class Ruleset:
    """kube-proxy's table of one family of a node, to be changed in place. ``cluster_ips``: those that the API knows.

    Raises NotKnown where its rules are of no known shape.
    """

    def __init__(self, table: NftTable, cluster_ips: Collection[Addr]) -> None:
        self._table = table
        self._chains = dict(table.chains)
        self._sets = dict(table.sets)
        self._maps = {
            name: {element.key: element for element in table.sets[name].elements}
            for name in (*_MAPS, HAIRPIN)
            if name in table.sets
        }
        self.style = self._style(frozenset(map(str, cluster_ips)))

    @property
    def table(self) -> NftTable:
        """The table with what was changed in it."""
        at = At(f"{self._table.at.origin} (changed)")
        sets = {
            name: replace(found, elements=tuple(self._maps[name].values()), at=at) if name in self._maps else found
            for name, found in self._sets.items()
        }
        return replace(self._table, chains=self._chains, sets=sets)

    def present(self, plan: Plan, expected: Part) -> Part:
        """What there is for a port: all that ``expected`` names, and what the port's own chains lead to."""
        names = _Names(plan)
        own = [name for name in (names.service, names.local, names.external) if name in self._chains]
        ends = {name for chain in own for name in map(_target, self._verdicts(chain)) if name.startswith("endpoint-")}
        ends |= {name for name in expected.chains if name.startswith("endpoint-")}
        # A chain that nothing leads to any more is emptied at once and deleted later.
        chains = {n: self._chains[n] for n in (*own, *ends) if n in self._chains and self._chains[n].rules}
        elements = {
            (name, key): self._maps[name][key]
            for name, key in dict.fromkeys((*expected.elements, *_possible(plan)))
            if key in self._maps.get(name, {})
        }
        timeouts = {
            name: self._sets[name].timeout
            for name in map(_affinity_set, (*ends, *expected.timeouts))
            if name in self._sets
        }
        return Part(chains, elements, timeouts)

    def exchange(self, old: Part, new: Part, shared: Collection[NftExpr] = ()) -> None:
        """Puts what is written for a port in the place of what is there. ``shared``: hairpin keys of other ports too."""
        for name in old.chains:
            del self._chains[name]
        self._chains |= new.chains
        for name, key in old.elements:
            if not (name == HAIRPIN and key in shared):
                self._maps[name].pop(key, None)
        for (name, key), element in new.elements.items():
            self._maps.setdefault(name, {})[key] = element
        for name in old.timeouts:
            if name not in new.timeouts:
                del self._sets[name]
        kind = "ipv4_addr" if self._table.family == "ip" else "ipv6_addr"
        at = At(f"{self._table.at.origin} (changed)")
        for name, timeout in new.timeouts.items():
            known = self._sets.get(name)
            if known is None or known.timeout != timeout:
                self._sets[name] = NftSet(name, (kind,), (), at, dynamic=True, timeout=timeout)

    def written(self, plan: Plan) -> Part:
        """What kube-proxy writes for a port's state. Raises NotKnown where that depends on what no rule shows."""
        return _Writer(plan, self.style, self._table).part()

    # ------------------------------------------------------------ the style

    def _rules(self, chain: str) -> Iterable[NftRule]:
        return self._chains[chain].rules if chain in self._chains else ()

    def _verdicts(self, chain: str) -> Iterator[NftVerdict]:
        for rule in self._rules(chain):
            for s in rule.statements:
                yield from (value for value in s.args if isinstance(value, NftVerdict))
                data = s.args[-1] if s.kind == "vmap" else None
                for item in data.args if isinstance(data, NftExpr) else ():
                    if isinstance(item, NftElement) and isinstance(item.value, NftVerdict):
                        yield item.value

    def _style(self, cluster_ips: frozenset[str]) -> Style:
        direct, mark = HAIRPIN in self._sets, "jump mark-for-masquerade"
        if direct:
            marking = (r.statements for r in self._rules("services") if any(s.kind == "mangle" for s in r.statements))
            head = next(marking, ())
            first = next((r.statements[0] for r in self._rules("masquerading") if r.statements), None)
            bit = (
                first.args[0].args[1] if first and isinstance(first.args[0], NftExpr) and first.args[0].op == "&" else 0
            )
            mark = f"meta mark set meta mark | {bit:#010x}" if isinstance(bit, int) and bit else ""
        else:
            head = self._head(cluster_ips)
        asked = [s for s in head[1:-1] if _selector(s) != "dport"]
        pods = _pods(asked[0], self._table.family, "!=") if asked else None
        if not mark or len(asked) > 1 or (asked and pods is None):
            raise NotKnown(
                f"{self._table.at}: kube-proxy's rules that masquerade are of no known version, so it is not known "
                "what it would write"
            )
        with_port = len(head[1:-1]) > len(asked)
        if not head or asked:
            return Style(direct, mark, with_port, False, pods)
        return Style(direct, mark, with_port, True, *self._pods_of_external())

    def _head(self, cluster_ips: frozenset[str]) -> tuple[NftStatement, ...]:
        """The rule that masquerades for a ClusterIP, of the first that has a chain of endpoints; () where it has none."""
        for key, element in self._maps.get("service-ips", {}).items():
            ip = key.args[0] if isinstance(key, NftExpr) and key.args else None
            rules = list(self._rules(_target(element.value)))
            if ip in cluster_ips and rules:
                statements = rules[0].statements
                marks = bool(statements) and statements[-1].kind == "verdict"
                return statements if marks and _target(statements[-1].args[0]) == "mark-for-masquerade" else ()
        return ()

    def _pods_of_external(self) -> tuple[tuple[str, str] | None, bool]:
        """With --masquerade-all only the rules of the policy Local tell what detects pods, and whether anything does."""
        for name in self._chains:
            rules = list(self._rules(name)) if name.startswith("external-") else []
            if rules and len(rules[0].statements) > 1:
                return _pods(rules[0].statements[0], self._table.family, "=="), True
        return None, False


def differing(one: Part, other: Part) -> Iterator[str]:
    """What two parts do not share, in nft's words."""
    for name in dict.fromkeys((*one.chains, *other.chains)):
        a, b = ([(r.statements, r.raw) for r in part.chains[name].rules] if name in part.chains else []
                for part in (one, other))  # fmt: skip
        if [statements for statements, _ in a] != [statements for statements, _ in b]:
            known = [{statements for statements, _ in rules} for rules in (a, b)]
            odd = [raw for rules, there in ((a, known[1]), (b, known[0])) for found, raw in rules if found not in there]
            yield odd[0] if odd else f"the order of {name}"
    for key in dict.fromkeys((*one.elements, *other.elements)):
        a_value, b_value = (part.elements[key].value if key in part.elements else "" for part in (one, other))
        if a_value != b_value:
            yield f"{key[0]} {' . '.join(map(str, key[1].args))}"
    for name in dict.fromkeys((*one.timeouts, *other.timeouts)):
        if one.timeouts.get(name, -1) != other.timeouts.get(name, -1):
            yield f"set {name}"


# ---------------------------------------------------------------- words


def _selector(s: NftStatement) -> str:
    left = s.args[0] if s.args else None
    return left.words[-1] if isinstance(left, NftExpr) and left.words else ""


def _pods(s: NftStatement, family: str, operator: str) -> tuple[str, str] | None:
    """(selector, value) of a match that tells pods from others, None when it is none that kube-proxy writes."""
    if s.kind != "match" or s.words != (operator,) or not isinstance(s.args[0], NftExpr):
        return None
    left, right = s.args
    if left == NftExpr("payload", (family, "saddr")):
        if isinstance(right, NftExpr) and right.op == "prefix":
            return f"{family} saddr", f"{right.args[0]}/{right.args[1]}"
        return (f"{family} saddr", right) if isinstance(right, str) else None
    if left == NftExpr("meta", ("iifname",)) and isinstance(right, str):
        return "iifname", f'"{right}"'
    return None


def _target(value: object) -> str:
    return value.chain if isinstance(value, NftVerdict) else ""


def _affinity_set(chain: str) -> str:
    return f"affinity-{chain.partition('-')[2]}"


def _based(name: str) -> str:
    """hashAndTruncate()."""
    whole = f"{base64.b32encode(hashlib.sha256(name.encode()).digest())[:8].decode()}-{name}"
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 3]}..."


class _Names:
    """The names of a port's chains and sets."""

    def __init__(self, plan: Plan) -> None:
        self._port = f"{plan.service}/{plan.protocol}/{plan.port.name}"
        base = _based(self._port)
        self.service, self.local, self.external = (f"{kind}-{base}" for kind in ("service", "local", "external"))

    def endpoint(self, end: Where) -> str:
        return "endpoint-" + _based(f"{self._port}__{str(end[0]).replace(':', '.')}/{end[1]}")


def _key(*parts: NftValue) -> NftExpr:
    return NftExpr("concat", (), parts)


def hairpin_key(end: Where, protocol: str) -> NftExpr:
    """The key of a local endpoint in the set of those whose own connections to themselves are masqueraded."""
    return _key(str(end[0]), str(end[0]), protocol, end[1])


def _possible(plan: Plan) -> Iterator[Key]:
    """Every element of kube-proxy's maps that a port may have."""
    for ip in (*plan.cluster_ips, *plan.external_ips, *plan.lb_ips):
        for name in ("service-ips", "no-endpoint-services"):
            yield name, _key(str(ip), plan.protocol, plan.port.port)
    if plan.port.node_port:
        for name in ("service-nodeports", "no-endpoint-nodeports"):
            yield name, _key(plan.protocol, plan.port.node_port)


class _Writer:
    def __init__(self, plan: Plan, how: Style, table: NftTable) -> None:
        self.plan, self.how, self.table, self.ip = plan, how, table, table.family
        self.names = _Names(plan)
        self.affinity = plan.port.affinity == "ClientIP"
        self.chains: dict[str, list[str]] = {}
        self.elements: dict[Key, NftElement] = {}

    def put(self, chain: str, *words: str) -> None:
        self.chains.setdefault(chain, []).append(" ".join(word for word in words if word))

    def part(self) -> Part:
        plan, names = self.plan, self.names
        inside = names.local if plan.inside_local else names.service
        self._dialled(inside)
        if plan.serves_inside and not self.how.direct:
            self._masqueraded_inside(inside)
        if plan.some and plan.outside:
            self._external()
        for chain, ends in ((names.service, plan.cluster_ends), (names.local, plan.local_ends)):
            if ends:
                self._balanced(chain, ends)
        own_chains = self.affinity or not self.how.direct
        for end in plan.used if own_chains else ():
            self._endpoint(end)
        for end in plan.used if self.how.direct else ():
            if end in plan.own:
                key = hairpin_key(end, plan.protocol)
                self.elements[HAIRPIN, key] = NftElement(key)
        seconds = plan.port.affinity_seconds or DEFAULT_AFFINITY
        timeouts = {_affinity_set(names.endpoint(end)): seconds for end in plan.used if self.affinity}
        chains = listed(self.table.family, self.table.name, self.chains, f"{self.table.at.origin} (changed)")
        return Part(chains, self.elements, timeouts)

    def _element(self, name: str, key: NftExpr, verdict: NftVerdict) -> None:
        self.elements[name, key] = NftElement(key, verdict, self.plan.name if name.startswith("no-") else "")

    def _dialled(self, inside: str) -> None:
        plan, port = self.plan, self.plan.port
        stop = NftVerdict("drop") if plan.some else NftVerdict("goto", "reject-chain")
        for ip in plan.cluster_ips:
            key = _key(str(ip), plan.protocol, port.port)
            if plan.serves_inside:
                self._element("service-ips", key, NftVerdict("goto", inside))
            else:
                self._element("no-endpoint-services", key, stop)
        keys = [("service-ips", "no-endpoint-services", _key(str(ip), plan.protocol, port.port))
                for ip in (*plan.external_ips, *plan.lb_ips)]  # fmt: skip
        if port.node_port:
            keys.append(("service-nodeports", "no-endpoint-nodeports", _key(plan.protocol, port.node_port)))
        for served, stopped, key in keys:
            if plan.some:
                self._element(served, key, NftVerdict("goto", self.names.external))
            if not plan.serves_outside:
                self._element(stopped, key, stop)

    def _masqueraded_inside(self, chain: str) -> None:
        if not self.how.masquerade_all and self.how.pods is None:
            return
        dport = f"{self.plan.protocol} dport {self.plan.port.port}" if self.how.with_port else ""
        others = ""
        if not self.how.masquerade_all and self.how.pods is not None:
            selector, value = self.how.pods
            others = f"{selector} != {value}"
        for ip in self.plan.cluster_ips:
            self.put(chain, f"{self.ip} daddr {ip}", dport, others, self.how.mark)

    def _external(self) -> None:
        names, mark, chain = self.names, self.how.mark, self.names.external
        if not self.plan.outside_local:
            self.put(chain, mark, 'comment "masquerade"' if self.how.direct else "")
        else:
            if not self.how.pods_told:
                raise NotKnown(
                    f"{self.table.at}: with --masquerade-all no rule shows what tells pods from others, which the policy "
                    "Local needs: what kube-proxy would write is not known"
                )
            if self.how.pods is not None:
                self.put(chain, *self.how.pods, f'goto {names.service} comment "short-circuit pod traffic"')
            self.put(chain, "fib saddr type local", mark, 'comment "masquerade local traffic"')
            self.put(chain, "fib saddr type local", f'goto {names.service} comment "short-circuit local traffic"')
        if self.plan.serves_outside:
            self.put(chain, f"goto {names.local if self.plan.outside_local else names.service}")

    def _balanced(self, chain: str, ends: tuple[Where, ...]) -> None:
        dice = f"numgen random mod {len(ends)}"
        if self.how.direct and not self.affinity:
            to = ", ".join(f"{place} : {ip} . {port}" for place, (ip, port) in enumerate(ends))
            self.put(chain, f"meta l4proto {self.plan.protocol} dnat {self.ip} to {dice} map {{ {to} }}")
            return
        for name in map(self.names.endpoint, ends) if self.affinity else ():
            self.put(chain, f"{self.ip} saddr @{_affinity_set(name)} goto {name}")
        to = ", ".join(f"{place} : goto {self.names.endpoint(end)}" for place, end in enumerate(ends))
        self.put(chain, f"{dice} vmap {{ {to} }}")

    def _endpoint(self, end: Where) -> None:
        chain = self.names.endpoint(end)
        if not self.how.direct:
            self.put(chain, f"{self.ip} saddr {end[0]}", self.how.mark)
        if self.affinity:
            self.put(chain, f"update @{_affinity_set(chain)} {{ {self.ip} saddr }}")
        self.put(chain, f"meta l4proto {self.plan.protocol} dnat to {shown(end)}")
