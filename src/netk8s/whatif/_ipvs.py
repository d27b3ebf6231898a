"""What kube-proxy in IPVS mode programs for one Service port: virtual servers, entries of ipsets, and the rules of these.

After pkg/proxy/ipvs/proxier.go (syncProxyRules, syncEndpoint, writeIptablesRules; 1.26 to 1.36). No change of a policy, an
affinity or an endpoint makes or removes a virtual server or an address of kube-ipvs0. As in the other modes, what is
programmed for the present state has to be what the dumps hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from netk8s.errors import NotKnown
from netk8s.intent import DEFAULT_AFFINITY, Where
from netk8s.model import Addr, At, IpSet, Node, RealServer
from netk8s.whatif._plan import Plan, shown
from netk8s.whatif._save import Save

LOOP_BACK = "LOOP-BACK"
_LONGEST = 31

Server = tuple[Addr, int, int]
"""A virtual server: address, port, protocol."""
Entry = tuple[str, str]
"""A set without the KUBE- of its name, and an entry of it."""


class Part(Struct, frozen=True):
    """What a node has for one port: by virtual server its endpoints and how long a client keeps one; entries of sets."""

    servers: Mapping[Server, tuple[frozenset[Where], int | None]] = field(default_factory=dict)
    entries: frozenset[Entry] = frozenset()


class Ipvs:
    """The virtual servers and sets of one family of a node, to be changed in place."""

    def __init__(self, node: Node, family: int) -> None:
        self._node, self._family = node, family
        self._servers = {(s.ip, s.port, s.protocol): s for s in node.virtual_servers if s.ip is not None}
        self._sets = {each.name: each for each in node.sets}
        self._entries = {
            each.name: {entry.split()[0]: entry for entry in each.entries}
            for each in node.sets if each.name.startswith("KUBE-")
        }  # fmt: skip
        self._filled = {name: bool(entries) for name, entries in self._entries.items()}
        self._ends = {
            key: {(r.ip, r.port): r for r in s.real} for key, s in self._servers.items() if s.family == family
        }

    def written(self, plan: Plan) -> Part:
        """What kube-proxy programs for a port's state."""
        port, protocol = plan.port, plan.port.protocol
        # Without a local endpoint it takes those of other nodes (kubernetes/kubernetes#97081).
        inside = frozenset((plan.local_ends if plan.inside_local else ()) or plan.cluster_ends)
        outside = frozenset((plan.local_ends if plan.outside_local else ()) or plan.cluster_ends)
        kept = (port.affinity_seconds or DEFAULT_AFFINITY) if port.affinity == "ClientIP" else None
        servers = {(ip, port.port, protocol): (inside, kept) for ip in plan.cluster_ips}
        servers |= {(ip, port.port, protocol): (outside, kept) for ip in (*plan.external_ips, *plan.lb_ips)}
        servers |= dict.fromkeys(self._node_ports(plan), (outside, kept))
        return Part(servers, frozenset(self._entries_of(plan)))

    def present(self, plan: Plan, expected: Part) -> Part:
        """What there is for a port. A server of weight 0 is one that is leaving."""
        servers = {
            key: (frozenset(end for end, r in self._ends[key].items() if r.weight), self._servers[key].persistence)
            for key in expected.servers
            if key in self._ends
        }
        entries = {
            (kind, entry) for kind, entry in (*expected.entries, *_possible(plan, self._sctp(plan)))
            if entry in self._entries.get(self.name(kind), {})
        }  # fmt: skip
        return Part(servers, frozenset(entries))

    def exchange(self, old: Part, new: Part, shared: Collection[str] = ()) -> None:
        """Puts what is programmed for a port in the place of what is there. ``shared``: hairpin entries of other ports."""
        for key, (ends, kept) in new.servers.items():
            server, real = self._servers[key], self._ends[key]
            at = At(f"{server.at.origin} (changed)")
            self._servers[key] = replace(server, persistence=kept, mask=server.mask if kept else None)
            self._ends[key] = {end: r for end, r in real.items() if end in ends or not r.weight} | {
                end: RealServer(*end, at=at)
                for end in sorted(ends, key=shown)
                if end not in real or not real[end].weight
            }
        for kind, entry in sorted(old.entries - new.entries):
            if not (kind == LOOP_BACK and entry in shared):
                self._entries[self.name(kind)].pop(entry, None)
        for kind, entry in sorted(new.entries - old.entries):
            name = self.name(kind)
            if name not in self._entries:
                raise NotKnown(
                    f"{self._node.name}: no dump has the ipset {name}, which would have {entry}; add `ipset save`"
                )
            self._entries[name][entry] = entry

    @property
    def node(self) -> Node:
        """The node with what was changed in it."""
        servers = tuple(
            replace(self._servers[key], real=tuple(self._ends[key].values()))
            if (key := (s.ip, s.port, s.protocol)) in self._ends else s
            for s in self._node.virtual_servers
        )  # fmt: skip
        sets = tuple(
            _with(each, tuple(self._entries[each.name].values())) if each.name in self._entries else each
            for each in self._node.sets
        )
        return replace(self._node, virtual_servers=servers, sets=sets)

    def turned(self) -> dict[str, bool]:
        """The sets that have become empty (False) or are no longer, which rules depend on."""
        return {
            name: bool(entries) for name, entries in self._entries.items() if bool(entries) != self._filled[name]
        }  # fmt: skip

    def name(self, kind: str) -> str:
        """A set's name: ipset takes 31 characters."""
        return (f"KUBE-{kind}" if self._family == 4 else f"KUBE-6-{kind}")[:_LONGEST]

    # ------------------------------------------------------------ keys

    def _node_ports(self, plan: Plan) -> Iterator[Server]:
        """The virtual servers of a NodePort: on which addresses there are any is a flag's business."""
        for key in self._ends if plan.port.node_port else ():
            bound = self._entries.get(self.name("IPVS-IPS"), {})
            if key[1:] == (plan.port.node_port, plan.port.protocol) and str(key[0]) not in bound:
                yield key

    def _sctp(self, plan: Plan) -> list[str]:
        """The entries of a NodePort of SCTP, which have the node's addresses in them."""
        end = f",sctp:{plan.port.node_port}"
        return [entry for entry in self._entries.get(self.name("NODE-PORT-SCTP-HASH"), {}) if entry.endswith(end)]

    def _entries_of(self, plan: Plan) -> Iterator[Entry]:
        port, local = plan.port, plan.outside_local
        for end in plan.own:
            yield LOOP_BACK, hairpin_entry(end, plan.protocol)
        for ip in plan.external_ips:
            yield "EXTERNAL-IP-LOCAL" if local else "EXTERNAL-IP", f"{ip},{plan.protocol}:{port.port}"
        for ip in plan.lb_ips if local else ():
            yield "LOAD-BALANCER-LOCAL", f"{ip},{plan.protocol}:{port.port}"
        if port.node_port and local:
            yield from _local_ports(plan, self._sctp(plan))
        if port.health_check_node_port:
            yield "HEALTH-CHECK-NODE-PORT", str(port.health_check_node_port)


def hairpin_entry(end: Where, protocol: str) -> str:
    """The entry of a local endpoint in the set of those whose own connections to themselves are masqueraded."""
    return f"{end[0]},{protocol}:{end[1]},{end[0]}"


def _local_ports(plan: Plan, sctp: Iterable[str]) -> Iterator[Entry]:
    if plan.protocol == "sctp":
        yield from (("NODE-PORT-LOCAL-SCTP-HASH", entry) for entry in sctp)
    else:
        yield f"NODE-PORT-LOCAL-{plan.protocol.upper()}", str(plan.port.node_port)


def _possible(plan: Plan, sctp: Iterable[str]) -> Iterator[Entry]:
    """Every entry that a port may have in the sets that depend on a policy."""
    for ip in plan.external_ips:
        for kind in ("EXTERNAL-IP", "EXTERNAL-IP-LOCAL"):
            yield kind, f"{ip},{plan.protocol}:{plan.port.port}"
    yield from (("LOAD-BALANCER-LOCAL", f"{ip},{plan.protocol}:{plan.port.port}") for ip in plan.lb_ips)
    if plan.port.node_port:
        yield from _local_ports(plan, sctp)


def _with(each: IpSet, entries: tuple[str, ...]) -> IpSet:
    return each if entries == each.entries else replace(each, entries=entries, at=At(f"{each.at.origin} (changed)"))


def differing(one: Part, other: Part) -> Iterator[str]:
    """What two parts do not share."""
    for key in dict.fromkeys((*one.servers, *other.servers)):
        if one.servers.get(key) != other.servers.get(key):
            yield f"the virtual server {shown((key[0], key[1]))}"
    for kind, entry in sorted(one.entries ^ other.entries):
        yield f"KUBE-{kind} {entry}"


# ---------------------------------------------------------------- rules

_EXTERNAL = (
    "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT", "-m addrtype --dst-type LOCAL -j ACCEPT",
)  # fmt: skip
_LAST = r"-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"


class _Rules(Struct, frozen=True):
    """The rules of nat that there are while a set has entries: in ``chain``, before the first one that has ``before`` in
    it ("": the first of all). ``match`` is the direction, ``protocol`` an own match of it."""

    chain: str
    comment: str
    match: str
    ends: tuple[str, ...]
    before: str = ""
    protocol: str = ""


_MARK = "-j KUBE-MARK-MASQ"
_RULES: Mapping[str, _Rules] = {
    "LOOP-BACK": _Rules(
        "KUBE-POSTROUTING", "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose", "dst,dst,src",
        ("-j MASQUERADE",),
    ),
    "LOAD-BALANCER-LOCAL": _Rules(
        "KUBE-LOAD-BALANCER", "Kubernetes service load balancer ip + port with externalTrafficPolicy=local", "dst,dst",
        ("-j RETURN",),
    ),
    "EXTERNAL-IP": _Rules(
        "KUBE-SERVICES", "Kubernetes service external ip + port for masquerade and filter purpose", "dst,dst",
        (_MARK, *_EXTERNAL), "-EXTERNAL-IP-LOCAL ",
    ),
    "EXTERNAL-IP-LOCAL": _Rules(
        "KUBE-SERVICES", "Kubernetes service external ip + port with externalTrafficPolicy=local", "dst,dst", _EXTERNAL, _LAST,
    ),
    **{
        f"NODE-PORT-LOCAL-{name}": _Rules(
            "KUBE-NODE-PORT",
            f"Kubernetes nodeport {protocol} port with externalTrafficPolicy=local" + (
                " with type \\'hash ip:port\\'" if protocol == "SCTP" else ""
            ), match, ("-j RETURN",), f"-NODE-PORT-{name[:20]}", f"-p {protocol.lower()} ",
        ) for protocol, name, match in (("TCP", "TCP", "dst"), ("UDP", "UDP", "dst"), ("SCTP", "SCTP-HASH", "dst,dst"))
    },
}  # fmt: skip


def rewrite(save: Save, ipvs: Ipvs, node: str) -> None:
    """Takes away the rules of the sets that have become empty, and puts in those of the sets that no longer are.

    Raises NotKnown where the rules about them are not kube-proxy's.
    """
    nat = save.section("nat").rules
    turned = ipvs.turned()
    for kind, rules in _RULES.items():
        name = ipvs.name(kind)
        if name not in turned:
            continue
        lines = [
            f'-A {rules.chain} {rules.protocol}-m comment --comment "{rules.comment}" -m set --match-set {name} {rules.match} {end}'
            for end in rules.ends
        ]
        there = nat.setdefault(rules.chain, [])
        have = [line for line in there if f"--match-set {name} " in line]
        anchors = [i for i, line in enumerate(there) if rules.before in line or line == _LAST]
        if have != ([] if turned[name] else lines) or not anchors:
            other = next(iter(have), f"no rule of {name}")
            raise NotKnown(
                f"{node}: the rules about the ipset {name} are not those that kube-proxy of 1.26 or later writes ({other}), so "
                "it is not known what they would become"
            )
        if turned[name]:
            there[anchors[0] : anchors[0]] = lines
        else:
            nat[rules.chain] = [line for line in there if line not in lines]
