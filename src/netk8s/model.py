"""The nouns of netk8s: frozen values without consequences.

Text is decoded into these values (``decode``), the kernel modules say what they do to a packet
(``kernel``), and a finished trace is made of them again. Nothing here parses, walks or prints.

Units: odds are exact :class:`fractions.Fraction`, marks are unsigned 32-bit numbers, ports are
numbers of 0 to 65535, addresses are :mod:`ipaddress` objects, protocols are IP protocol numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

Addr = IPv4Address | IPv6Address
Net = IPv4Network | IPv6Network
UNSPECIFIED: Mapping[int, Addr] = {4: IPv4Address(0), 6: IPv6Address(0)}

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
PROTOCOL_NAMES: Mapping[int, str] = {
    1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 47: "gre",
    50: "esp", 51: "ah", 58: "icmpv6", 89: "ospf", 103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite",
}  # fmt: skip


class ComparedInPart(Struct, frozen=True, eq=False):
    """A value of which some fields do not count when two are compared."""

    def _compared(self) -> tuple[object, ...]:
        """The fields that count."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())


# ---------------------------------------------------------------- where a fact comes from


class At(Struct, frozen=True, order=True):
    """A place in an input: ``origin`` as the user knows it, ``line`` counted from 1 (0: the whole file)."""

    origin: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.origin}:{self.line}" if self.line else self.origin


class Missing(Struct, frozen=True):
    """Something an answer needed and no dump holds. ``absent``: there is none on the node, so nothing is lacking.

    ``node``: the node whose dump it is, "" where that is not known.
    """

    what: str
    needed_for: str
    absent: bool = False
    node: str = ""


class Dump(Struct, frozen=True, eq=False):
    """One input text. ``node`` is the node it was taken on, None for the cluster's objects or when unknown.

    ``pod`` (namespace/name): it was taken inside the network namespace of this pod on the node.
    ``data`` is bytes or a read-only :class:`mmap.mmap`; both have find, slicing and a length. ``source`` is the command
    or interface that gave it and ``taken`` the time (ISO 8601), both "" when nobody wrote them down. ``partial``: a list
    of the cluster's objects that is of some namespaces only, so that what it does not have may be there all the same.
    """

    origin: str
    data: bytes
    node: str | None = None
    pod: str | None = None
    source: str = ""
    taken: str = ""
    partial: bool = False


class Snapshot(Struct, frozen=True, eq=False):
    """The texts of one moment."""

    dumps: tuple[Dump, ...]
    missing: tuple[Missing, ...] = ()


# ---------------------------------------------------------------- rules


class Option(Struct, frozen=True):
    """One option of a match or target as written: ``--dport 80`` is ``Option("--dport", ("80",))``."""

    name: str
    values: tuple[str, ...] = ()
    negated: bool = False


class Match(Struct, frozen=True):
    """One match of a rule. ``module`` is "" for the built-in options (-s -d -i -o -p -f)."""

    module: str
    options: tuple[Option, ...] = ()


class Target(Struct, frozen=True):
    """What a rule does: a standard target, an extension with options, or a user chain."""

    name: str
    options: tuple[Option, ...] = ()
    goto: bool = False


class Rule(Struct, frozen=True):
    """One rule. ``raw`` is the rule as the dump has it, without counters and line end."""

    chain: str
    matches: tuple[Match, ...]
    target: Target | None
    at: At
    raw: str
    comment: str | None = None
    counters: tuple[int, int] | None = None


class Rules(Protocol):
    """The rules of a chain in order; a rule is decoded when it is asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Rule]: ...

    def relevant(self, daddr: str, protocol: str, dport: int | None) -> Iterable[Rule]:
        """The rules that a packet to this destination may match, in order.

        A rule is left out only if its own text proves it cannot match: a positive ``-d`` of one
        host that is not ``daddr``, or a positive ``--dport`` of one port that is not ``dport``.
        """
        ...

    def mentioning(self, text: str) -> Iterable[Rule]:
        """The rules whose text contains ``text``, in order."""
        ...

    def texts(self) -> Iterable[tuple[int, str]]:
        """The line and text of every rule, in order, not decoded: what is no rule is told of where it is decoded."""
        ...


class Chain(Struct, frozen=True, eq=False):
    """A chain. ``policy`` is None for a user chain. ``at`` is its declaration, or its first rule."""

    name: str
    policy: str | None
    rules: Rules
    at: At
    declared: bool = True


class Table(Struct, frozen=True, eq=False):
    """One table of one family and backend ("legacy", "nft" or "unknown").

    ``headless``: the dump had no ``*table`` line and the table was inferred from its chains.
    """

    family: int
    name: str
    backend: str
    chains: Mapping[str, Chain]
    at: At
    headless: bool = False

    def runs(self, chain: str) -> Sequence[tuple[int, str]]:
        """The rules of a chain as text, not decoded: (line of the first, lines) of each run; none without the chain."""
        quick = getattr(self.chains, "runs", None)
        if quick is not None:
            found: Sequence[tuple[int, str]] = quick(chain)
            return found
        rules = self.chains[chain].rules if chain in self.chains else None
        return [(line, f"{text}\n") for line, text in rules.texts()] if rules is not None else ()

    def pieces(self) -> Iterable[tuple[int, str]]:
        """All rules as text, not decoded: (line of the first, lines) of piece after piece.

        A chain's rules are cut only where they do not stand together. Who reads the pieces sees to it that there is
        nothing but rules, each chain's together, and that the chains are declared (:meth:`declares`): what else there is
        is told of when chains are asked for one by one (:meth:`runs`). Nothing for a table that is not had like this.
        """
        quick = getattr(self.chains, "pieces", None)
        found: Iterable[tuple[int, str]] = quick() if quick is not None else ()
        return found

    def declares(self, chains: Collection[str]) -> bool:
        """Whether the table of :meth:`pieces` declares all of these chains."""
        quick = getattr(self.chains, "declares", None)
        return quick is not None and bool(quick(chains))


# ---------------------------------------------------------------- nftables


class NftVerdict(Struct, frozen=True):
    """A verdict as nft writes it: accept, drop, continue, return, queue, or jump and goto with their ``chain``."""

    kind: str
    chain: str = ""


class NftExpr(Struct, frozen=True):
    """An expression of nft, in libnftables-json(5)'s words: ``op`` with its ``words`` and its operands ``args``.

    payload (protocol, field) · meta (key) · ct (key, direction) · fib (result, flags…) · rt, socket (key) ·
    numgen (mode; mod, offset) · jhash (; mod, offset, seed, expression) · symhash (; mod, offset) · & | ^ << >> ·
    concat (parts) · list (flags) · prefix (address, length) · range (first, last) · set (elements) · @ (name of a
    set) · map (key, data) · * (any) · unknown (its text).
    """

    op: str
    words: tuple[str, ...] = ()
    args: tuple[NftValue, ...] = ()


class NftElement(Struct, frozen=True):
    """One element of a set, or of a map with its ``value``. ``timeout`` and ``expires`` in seconds."""

    key: NftValue
    value: NftValue | None = None
    comment: str = ""
    timeout: int | None = None
    expires: int | None = None


NftValue = int | str | NftVerdict | NftExpr | NftElement
"""An operand: a number, a word or address as written, or an expression."""


class NftStatement(Struct, frozen=True):
    """One statement of a rule, in libnftables-json(5)'s words: ``kind`` with its ``words`` and its operands ``args``.

    match (operator; left, right) · verdict (; verdict) · vmap (; key, data) · mangle (; key, value) · dnat and snat
    (family, flags…; address, port) · masquerade and redirect (flags…; port) · reject (type, code) · set (operation,
    name; key, nested statements…) · limit, quota, ct count ("over" or "") · tproxy (family; address, port) · xt (type,
    name) · counter, log, notrack and others without a meaning of their own · unknown (its text). An address or port that
    is not given is "".
    """

    kind: str
    words: tuple[str, ...] = ()
    args: tuple[NftValue | NftStatement, ...] = ()


class NftRule(Struct, frozen=True):
    """One rule of nftables. ``raw`` is the rule in nft's words, without counters."""

    chain: str
    statements: tuple[NftStatement, ...]
    at: At
    raw: str
    comment: str = ""


class NftChain(Struct, frozen=True, eq=False):
    """A chain of nftables; one with a ``hook`` is a base chain. A rule is decoded when it is asked for."""

    name: str
    rules: Sequence[NftRule]
    at: At
    type: str = ""
    hook: str = ""
    priority: int = 0
    policy: str = "accept"


class NftSet(Struct, frozen=True, eq=False):
    """A set or map. ``dynamic``: rules add elements to it, so what it held when the dump was taken is not all."""

    name: str
    types: tuple[str, ...]
    elements: Sequence[NftElement]
    at: At
    map: bool = False
    dynamic: bool = False
    timeout: int | None = None


class NftTable(Struct, frozen=True, eq=False):
    """One table of nftables. ``index`` is its place in the listing, which is the order the tables were made in.

    ``words``: the rules' text is the dump's own, not made from JSON. ``dormant``: None where the dump does not tell.
    """

    family: str
    name: str
    chains: Mapping[str, NftChain]
    sets: Mapping[str, NftSet]
    at: At
    index: int = 0
    words: bool = False
    dormant: bool | None = False

    @property
    def told_by_nft(self) -> bool:
        """Whether nft's listing is the better form of a table that iptables-nft keeps.

        Somebody wrote rules by nft into one with sets, and iptables-nft-save (1.8.9) prints those without what they look up:
        a bare ``-j DROP``. Where the listing of nft hides what a match of iptables means, that is the worse form.
        """
        hidden = ("xt", "unknown")
        return bool(self.sets) and not any(
            s.kind in hidden for chain in self.chains.values() for rule in chain.rules for s in rule.statements
        )


class IpSet(Struct, frozen=True, eq=False):
    """An ipset with its entries as ``ipset save`` prints them."""

    name: str
    kind: str
    options: tuple[str, ...]
    entries: tuple[str, ...]
    at: At


class Hook(Struct, frozen=True):
    """What is called at a netfilter hook, as ``nft list hooks`` prints it: a base chain of nftables, or a function.

    ``family`` is nft's word (ip, ip6, bridge, …), ``chain`` the (family, table, chain) of a base chain, ``device`` that
    of a hook which each device has for itself.
    """

    family: str
    hook: str
    priority: int
    chain: tuple[str, str, str] | None = None
    function: str = ""
    module: str = ""
    device: str = ""
    at: At = At("")

    def calls(self, table: str, backend: str) -> bool:
        """Whether this is a table of iptables: a base chain of iptables-nft, or what the kernel calls for a legacy one.

        Linux before 5.15 has a function for each legacy table; now most share one, told apart by priority.
        """
        if backend == "nft":
            return self.chain == (self.family, table, self.hook.upper())
        six = "6" if self.family == "ip6" else ""
        own = (f"ip{six}t_do_table", f"ip{six}table_{table}_hook", f"ip{six}table_{table}_do_chain")
        return backend == "legacy" and self.function in own


# ---------------------------------------------------------------- IPVS, connections


class RealServer(Struct, frozen=True):
    """One server behind a virtual one. ``method``: masq (NAT), route (direct routing), tunnel or local.

    ``weight`` 0: no new connections. ``upper``: the most connections it takes, 0 for any number. ``active`` and
    ``inactive`` connections are those of the moment of the dump, None when it does not count them.
    """

    ip: Addr
    port: int
    weight: int = 1
    method: str = "masq"
    upper: int = 0
    lower: int = 0
    active: int | None = None
    inactive: int | None = None
    at: At = At("")


class VirtualServer(Struct, frozen=True):
    """An IPVS service: an address, protocol and port, or a firewall mark (``fwmark``; ``ip`` is None then).

    ``port`` 0 is every port. ``persistence``: seconds for which a client keeps its real server, None for not at all;
    ``mask`` is the prefix length of what counts as one client. ``one_packet``: each UDP packet is scheduled anew.
    """

    family: int
    protocol: int
    ip: Addr | None
    port: int
    scheduler: str
    fwmark: int | None = None
    flags: tuple[str, ...] = ()
    persistence: int | None = None
    mask: int | None = None
    one_packet: bool = False
    real: tuple[RealServer, ...] = ()
    at: At = At("")


class ConntrackTuple(Struct, frozen=True):
    """One direction of a tracked connection. Ports are None for a protocol without; ``extra`` has type, code, id."""

    src: Addr
    dst: Addr
    sport: int | None = None
    dport: int | None = None
    extra: tuple[tuple[str, str], ...] = ()


class ConntrackEntry(Struct, frozen=True):
    """A tracked connection as ``conntrack -L`` prints it. ``state`` is "" for a protocol without states.

    ``flags``: UNREPLIED, ASSURED, OFFLOAD, …; ``mark`` None: not printed; ``extra`` are the other ``key=value`` words.
    """

    protocol: int
    original: ConntrackTuple
    reply: ConntrackTuple
    state: str = ""
    timeout: int | None = None
    mark: int | None = None
    zone: int = 0
    flags: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    at: At = At("")


class Connections(Protocol):
    """Tracked connections of one dump, in its order; an entry is decoded when it is asked for."""

    def __iter__(self) -> Iterator[ConntrackEntry]: ...

    def having(self, ends: ConntrackTuple) -> Iterator[ConntrackEntry]:
        """The entries one of whose directions has these addresses and ports (all of them given)."""
        ...

    def elsewhere(self, dst: Addr, dport: int, known: Iterable[Addr]) -> Iterator[ConntrackEntry]:
        """The entries of connections to ``dst`` and ``dport`` whose answers come from none of the ``known`` addresses."""
        ...


class ConntrackTable(Struct, frozen=True, eq=False):
    """The tracked connections of one network namespace, as one dump has them."""

    connections: Connections
    at: At


# ---------------------------------------------------------------- links, addresses, routes


class Bridge(Struct, frozen=True):
    """What a bridge is set to. None: the dump does not say (an older kernel or iproute2)."""

    vlan_filtering: bool | None = None
    default_pvid: int | None = None
    stp: bool | None = None
    nf_call_iptables: bool | None = None
    nf_call_ip6tables: bool | None = None


class Vlan(Struct, frozen=True):
    """The tag that a vlan device adds; ``protocol`` is 802.1Q or 802.1ad."""

    id: int
    protocol: str = "802.1Q"


class Macvlan(Struct, frozen=True):
    """What a macvlan or macvtap device has besides its mode: the MAC addresses of mode source."""

    sources: tuple[str, ...] = ()


class Ipvlan(Struct, frozen=True):
    """What an ipvlan or ipvtap device has besides its mode; without either flag it is of type bridge."""

    private: bool = False
    vepa: bool = False


class Tunnel(Struct, frozen=True):
    """A device that wraps packets: vxlan, geneve, ipip, sit, gre, gretap, erspan, vti, ip6tnl, ip6gre, ip6gretap, …

    The device the wrapped packets leave by, where one is set, is the link's ``parent``. ``id`` is the VNI of vxlan and
    geneve, the output key of the others. ``remote`` may be a multicast group; None: any, so routes, neighbours or fdb
    name it. ``external``: each packet brings its own metadata (a route's encap, a tc or BPF program). ``csum`` and ``seq``
    are GRE's optional fields, ``encap`` is a UDP wrapping around it all (fou, gue). ``encap_limit``: an IPv6 tunnel adds
    RFC 2473's option.
    """

    id: int | None = None
    local: Addr | None = None
    remote: Addr | None = None
    port: int | None = None
    external: bool = False
    learning: bool | None = None
    csum: bool = False
    seq: bool = False
    encap: str | None = None
    encap_limit: bool = True


class Bond(Struct, frozen=True):
    """What a bond has besides its mode."""

    active: str | None = None
    hash_policy: str | None = None


class Vrf(Struct, frozen=True):
    """The routing table of a VRF, by its number."""

    table: int


LinkDetail = Bridge | Vlan | Macvlan | Ipvlan | Tunnel | Bond | Vrf


class Link(ComparedInPart, frozen=True, eq=False):
    """A network device as ``ip -d link`` prints it. ``kind`` is "" for a physical device.

    ``parent`` is the device below (of a vlan, macvlan, ipvlan, or a tunnel bound to one), None also where that one is in
    another namespace. ``peer_index`` is then its index there, as it is the index of the other end of a veth.
    ``peer_netns`` numbers that namespace (-1: one that is gone or has no number), or ``peer_netns_name`` names it; a
    veth without either has both ends in one namespace. ``mode``: of macvlan, ipvlan, bond, and tun or tap of a tun
    device. ``hairpin``, ``isolated`` and ``port_state`` are those of a bridge port. ``up``: it is switched on;
    ``state`` is the kernel's operational state (UP, DOWN, LOWERLAYERDOWN, UNKNOWN, …), "" if the dump has none.
    """

    name: str
    index: int
    kind: str = ""
    mac: str | None = None
    mtu: int | None = None
    up: bool = True
    master: str | None = None
    parent: str | None = None
    peer_netns: int | None = None
    peer_index: int | None = None
    mode: str | None = None
    hairpin: bool | None = None
    isolated: bool | None = None
    info: Mapping[str, object] = field(default_factory=dict)
    at: At = At("")
    peer_netns_name: str | None = None
    port_state: str | None = None
    state: str = ""
    alias: str | None = None
    altnames: tuple[str, ...] = ()
    detail: LinkDetail | None = None

    @property
    def carries(self) -> bool:
        """Whether it is switched on and has somebody at the other end (RFC 2863, include/uapi/linux/if.h)."""
        return self.up and self.state not in ("DOWN", "LOWERLAYERDOWN", "NOTPRESENT")

    def _compared(self) -> tuple[object, ...]:
        """Everything but ``info``, which is as free as the kernel's drivers are."""
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name != "info")


class PortVlan(Struct, frozen=True):
    """A VLAN that a bridge, or a port of one, carries. ``pvid``: frames that come in untagged are in it;
    ``untagged``: its frames leave without their tag."""

    dev: str
    vlan: int
    pvid: bool = False
    untagged: bool = False
    at: At = At("")


class Address(Struct, frozen=True):
    """An address on a device, in the order the kernel keeps them (``position`` within the dump)."""

    dev: str
    ip: Addr
    prefixlen: int
    scope: str
    secondary: bool = False
    deprecated: bool = False
    tentative: bool = False
    peer: Addr | None = None
    position: int = 0
    index: int = 0
    at: At = At("")


class NextHop(Struct, frozen=True):
    """One way of a route: device, gateway, weight. ``mtu``: that of the route (``ip route … mtu``), None for none."""

    dev: str | None
    gateway: Addr | None = None
    weight: int = 1
    onlink: bool = False
    mtu: int | None = None


class Route(Struct, frozen=True):
    """A route. ``kind`` is unicast, local, broadcast, multicast, anycast, blackhole, unreachable, prohibit or throw."""

    dst: Net
    kind: str
    nexthops: tuple[NextHop, ...]
    table: str = "main"
    prefsrc: Addr | None = None
    metric: int = 0
    scope: str = "global"
    protocol: str = "boot"
    tos: int = 0
    flags: tuple[str, ...] = ()
    at: At = At("")


class RoutingRule(Struct, frozen=True):
    """A policy routing rule (``ip rule``). ``action`` is lookup, goto, nop, blackhole, unreachable or prohibit."""

    priority: int
    family: int
    action: str = "lookup"
    table: str | None = None
    src: Net | None = None
    dst: Net | None = None
    iif: str | None = None
    oif: str | None = None
    fwmark: int | None = None
    fwmask: int = 0xFFFFFFFF
    goto: int | None = None
    ipproto: int | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    uidrange: tuple[int, int] | None = None
    tos: int | None = None
    negated: bool = False
    suppress_prefixlength: int | None = None
    unknown: tuple[str, ...] = ()
    at: At = At("")


class Neighbour(Struct, frozen=True):
    """An ARP or ND entry. ``states`` as the kernel names them: REACHABLE, STALE, FAILED, …"""

    ip: Addr
    dev: str
    mac: str | None
    states: tuple[str, ...]
    at: At = At("")

    @property
    def silent(self) -> bool:
        """Whether it was asked for and has not answered."""
        return self.mac is None and not {"FAILED", "INCOMPLETE"}.isdisjoint(self.states)


class FdbEntry(Struct, frozen=True):
    """A forwarding entry of a bridge port or vxlan device."""

    mac: str
    dev: str
    dst: Addr | None = None
    master: str | None = None
    flags: tuple[str, ...] = ()
    at: At = At("")


class Sysctl(Struct, frozen=True):
    """One kernel setting, by its dotted name."""

    name: str
    value: str
    at: At = At("")


class Socket(Struct, frozen=True):
    """A listening (TCP, SCTP) or bound (UDP) socket. ``ip`` None: any address of ``families``."""

    protocol: int
    ip: Addr | None
    port: int
    families: tuple[int, ...] = (4, 6)
    dev: str | None = None
    process: str | None = None
    at: At = At("")


class Coverage(Struct, frozen=True):
    """A kind of fact that a dump of this node does cover, even when the dump is empty.

    ``kind`` is one of: rules4, rules6, link, addr, route4, route6, rule4, rule6, neigh, fdb, vlan, sysctl, socket, nft,
    ipset, ipvs, ipvs-counters, conntrack.
    """

    kind: str
    at: At


# ---------------------------------------------------------------- the cluster's objects


class ServicePort(Struct, frozen=True):
    """One port of a Service. ``name`` is "" for an unnamed port. ``node_port`` None: none allocated.

    ``proxy`` names the proxy that is to serve it instead of kube-proxy, "" for none.
    """

    namespace: str
    service: str
    name: str
    protocol: int
    port: int
    target_port: str
    node_port: int | None
    type: str
    cluster_ips: tuple[Addr, ...]
    external_ips: tuple[Addr, ...] = ()
    lb_ips: tuple[Addr, ...] = ()
    lb_ips_proxy: tuple[Addr, ...] = ()
    lb_source_ranges: tuple[str, ...] = ()
    external_policy: str = "Cluster"
    internal_policy: str = "Cluster"
    affinity: str = "None"
    affinity_seconds: int | None = None
    health_check_node_port: int | None = None
    at: At = At("")
    proxy: str = ""


class Endpoint(Struct, frozen=True):
    """One address of an EndpointSlice with one of its ports."""

    namespace: str
    service: str
    port_name: str
    protocol: int
    ip: Addr
    port: int
    node: str | None = None
    pod: str | None = None
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone: str | None = None
    hints: tuple[str, ...] = ()
    at: At = At("")


class OldEndpoint(Struct, frozen=True):
    """An endpoint out of an Endpoints object, which counts where no EndpointSlice says otherwise.

    ``truncated``: the object holds but some of the Service's endpoints.
    """

    endpoint: Endpoint
    truncated: bool = False


class ExternalName(Struct, frozen=True):
    """A Service that is a name elsewhere: DNS answers a CNAME to ``host``. ``ports`` are (name, protocol, port)."""

    namespace: str
    service: str
    host: str
    ports: tuple[tuple[str, int, int], ...] = ()
    at: At = At("")


class DnsConfig(Struct, frozen=True):
    """What a pod's dnsConfig adds to its resolv.conf. ``options`` are (name, value), the value "" for a bare name."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()


class Pod(Struct, frozen=True):
    """A Pod: ``ips`` are its addresses, those of the node if ``host_network``. ``phase`` as the API has it."""

    namespace: str
    name: str
    node: str | None
    ips: tuple[Addr, ...]
    host_network: bool = False
    phase: str = "Running"
    ports: tuple[tuple[str, int, int, int | None, str], ...] = ()
    """(name, container port, protocol, host port, host ip)"""
    labels: tuple[tuple[str, str], ...] = ()
    at: At = At("")
    dns_policy: str = "ClusterFirst"
    dns: DnsConfig = DnsConfig()


class ClusterNode(Struct, frozen=True):
    """A Node object: its addresses by type and its pod networks."""

    name: str
    addresses: tuple[tuple[str, str], ...]
    pod_cidrs: tuple[Net, ...] = ()
    zone: str | None = None
    kube_proxy_version: str | None = None
    at: At = At("")


class Requirement(Struct, frozen=True):
    """One requirement of a label selector: ``operator`` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


Selector = tuple[Requirement, ...]
"""A label selector: every requirement has to hold, so () selects everything. ``matchLabels`` are requirements In."""


class PolicyPeer(Struct, frozen=True):
    """Who is at the other end. ``block`` with its ``excluded`` parts, or pods by selectors.

    ``pods`` None: every pod of the namespaces; ``namespaces`` None: the policy's own namespace.
    """

    pods: Selector | None = None
    namespaces: Selector | None = None
    block: Net | None = None
    excluded: tuple[Net, ...] = ()


class PolicyPort(Struct, frozen=True):
    """A port: ``port`` None for every port, a name for a container port of the receiving pod; ``end`` the last one."""

    protocol: int
    port: int | str | None = None
    end: int | None = None


class PolicyRule(Struct, frozen=True):
    """One ingress or egress rule. ``peers`` and ``ports`` None: from everywhere, to every port."""

    peers: tuple[PolicyPeer, ...] | None = None
    ports: tuple[PolicyPort, ...] | None = None


class NetworkPolicy(Struct, frozen=True):
    """A NetworkPolicy of networking.k8s.io/v1. ``types`` are ingress and egress, with the API's default applied."""

    namespace: str
    name: str
    pods: Selector
    types: tuple[str, ...]
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()
    at: At = At("")


class OtherPolicy(Struct, frozen=True):
    """A policy object of another API than networking.k8s.io, which is recognised and not evaluated."""

    kind: str
    namespace: str
    name: str
    at: At = At("")


class Namespace(Struct, frozen=True):
    """A Namespace with its labels."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    at: At = At("")


# ---------------------------------------------------------------- routing of HTTP by the cluster's objects


class ObjectRef(Struct, frozen=True):
    """Another object by name. ``port`` is a number or a name as text, "" for none; ``group`` "" is the core group."""

    kind: str
    name: str
    namespace: str = ""
    group: str = ""
    port: str = ""


class IngressPath(Struct, frozen=True):
    """One path of an Ingress rule. ``kind`` is Exact, Prefix or ImplementationSpecific."""

    path: str
    kind: str
    backend: ObjectRef


class IngressRule(Struct, frozen=True):
    """The paths of one host; ``host`` "" is every host, "*.example.org" one label in front."""

    host: str
    paths: tuple[IngressPath, ...] = ()


class Ingress(Struct, frozen=True):
    """An Ingress of networking.k8s.io/v1. ``addresses`` are those that its controller published in the status.

    ``class_name`` is spec.ingressClassName, else the old annotation, else "".
    """

    namespace: str
    name: str
    class_name: str = ""
    rules: tuple[IngressRule, ...] = ()
    default: ObjectRef | None = None
    tls_hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    at: At = At("")


class ControllerClass(Struct, frozen=True):
    """An IngressClass or a GatewayClass (``kind``): which controller serves the objects of this class."""

    kind: str
    name: str
    controller: str
    default: bool = False
    at: At = At("")


class Listener(Struct, frozen=True):
    """One listener of a Gateway. ``routes_from`` is Same, All or Selector."""

    name: str
    port: int
    protocol: str
    hostname: str = ""
    routes_from: str = "Same"
    kinds: tuple[str, ...] = ()


class Gateway(Struct, frozen=True):
    """A Gateway of gateway.networking.k8s.io."""

    namespace: str
    name: str
    class_name: str
    listeners: tuple[Listener, ...] = ()
    addresses: tuple[str, ...] = ()
    at: At = At("")


class HttpMatch(Struct, frozen=True):
    """One match of an HTTPRoute rule; its parts are and-ed. ``headers`` and ``params`` are (kind, name, value)."""

    path: str = "/"
    path_kind: str = "PathPrefix"
    method: str = ""
    headers: tuple[tuple[str, str, str], ...] = ()
    params: tuple[tuple[str, str, str], ...] = ()


class HttpRule(Struct, frozen=True):
    """One rule: its matches are or-ed. ``backends`` have weights; ``filters`` are the types of its filters."""

    matches: tuple[HttpMatch, ...]
    backends: tuple[tuple[ObjectRef, int], ...] = ()
    filters: tuple[str, ...] = ()


class HttpRoute(Struct, frozen=True):
    """An HTTPRoute. ``parents`` are (reference, section name); ``created`` as the API writes it, "" when unknown."""

    namespace: str
    name: str
    hostnames: tuple[str, ...] = ()
    parents: tuple[tuple[ObjectRef, str], ...] = ()
    rules: tuple[HttpRule, ...] = ()
    created: str = ""
    at: At = At("")


class ReferenceGrant(Struct, frozen=True):
    """What objects of other namespaces may refer to in this one: (group, kind, namespace) to (group, kind, name)."""

    namespace: str
    sources: tuple[tuple[str, str, str], ...] = ()
    targets: tuple[tuple[str, str, str], ...] = ()
    at: At = At("")


class ConfigMap(Struct, frozen=True):
    """A ConfigMap's data."""

    namespace: str
    name: str
    data: tuple[tuple[str, str], ...] = ()
    at: At = At("")


# ---------------------------------------------------------------- what was seen of a probe


class Sighting(Struct, frozen=True):
    """A probe as it was seen at one place, in the order of time.

    ``place`` is a hook (prerouting, input, forward, output, postrouting) of ``node`` when a kernel traced it, behind all
    rules of that hook, else the device that was listened at. ``dev``: the device it came in by or leaves by.
    """

    place: str
    packet: Packet
    node: str | None = None
    dev: str | None = None


class TracedRule(Struct, frozen=True):
    """One line of a kernel's own trace. ``rule`` as iptables-save or nft prints it; None: the policy of a base chain.

    ``backend`` is "nft" or "legacy". The kernel tells the order of each backend's lines, not that between the two.
    """

    node: str
    table: str
    chain: str
    rule: str | None
    action: str = ""
    backend: str = ""


class Observation(Struct, frozen=True):
    """What came of one packet or connection that was really sent.

    ``result``: connected, refused, unreachable or timeout (nothing came back). ``answer`` says what came back: syn-ack,
    data, echo-reply, tcp-reset, icmp TYPE/CODE. ``traced`` are the nodes whose kernel was asked to trace it: no rule of
    theirs in ``path`` then means that none matched. ``endpoint`` is what answered, ``source_seen`` whom it saw.
    """

    source: str
    sent: Packet
    result: str
    answer: str = ""
    endpoint: Reached | None = None
    source_seen: Addr | None = None
    seen: tuple[Sighting, ...] = ()
    path: tuple[TracedRule, ...] = ()
    traced: tuple[str, ...] = ()
    entry: ConntrackEntry | None = None
    time: str = ""
    at: At = At("")


class Elsewhere(Struct, frozen=True, eq=False):
    """Of the pods that a check of one node is not given, what it needs beside the EndpointSlices.

    ``addresses`` are those of pods that are no endpoints. ``peers`` are pods as the selectors of NetworkPolicies see
    them: with the labels that some selector asks for, and the ports that have names; "" for a name that an endpoint tells.
    ``clients`` of them send packets to endpoints here. ``idle`` are the policies, "namespace/name", that select no pod.
    """

    addresses: frozenset[Addr] = frozenset()
    peers: tuple[Pod, ...] = ()
    clients: tuple[Pod, ...] = ()
    idle: tuple[str, ...] = ()
    at: At = At("")


Fact = (
    Table | NftTable | IpSet | Link | Address | Route | RoutingRule | Neighbour | FdbEntry | PortVlan | Sysctl | Socket
    | VirtualServer | ConntrackTable | Coverage | ServicePort | ExternalName | Endpoint | OldEndpoint | Pod
    | ClusterNode | NetworkPolicy | OtherPolicy | Namespace | Ingress | ControllerClass | Gateway | HttpRoute | ReferenceGrant
    | ConfigMap | Elsewhere | Observation | Hook
)  # fmt: skip


class Node(Struct, frozen=True, eq=False):
    """What is known of one node. A kind of fact that no dump covered is not in ``covered``: absent is not empty.

    ``pods`` are the network namespaces of its pods that dumps were taken in, by namespace/name. They hold the same kinds
    of facts as a node's own namespace, so each is a Node too; its name is "pod namespace/name" and it has no pods.
    """

    name: str
    tables: tuple[Table, ...] = ()
    nft: tuple[NftTable, ...] = ()
    sets: tuple[IpSet, ...] = ()
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[RoutingRule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    fdb: tuple[FdbEntry, ...] = ()
    sysctls: Mapping[str, Sysctl] = field(default_factory=dict)
    sockets: tuple[Socket, ...] = ()
    virtual_servers: tuple[VirtualServer, ...] = ()
    conntrack: tuple[ConntrackTable, ...] = ()
    covered: frozenset[str] = frozenset()
    port_vlans: tuple[PortVlan, ...] = ()
    hooks: tuple[Hook, ...] = ()
    pods: Mapping[str, Node] = field(default_factory=dict)
    opaque: str = ""
    """Why the node's rules and routes do not tell what becomes of a packet, "" where they do."""


class Cluster(Struct, frozen=True, eq=False):
    """The API's objects.

    ``covered`` has services, endpoints, pods, nodes, policies, namespaces, ingresses, classes, gateways, http_routes,
    grants and config_maps for the lists that were given.
    """

    services: tuple[ServicePort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    pods: tuple[Pod, ...] = ()
    nodes: tuple[ClusterNode, ...] = ()
    policies: tuple[NetworkPolicy, ...] = ()
    other_policies: tuple[OtherPolicy, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    external_names: tuple[ExternalName, ...] = ()
    ingresses: tuple[Ingress, ...] = ()
    classes: tuple[ControllerClass, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    http_routes: tuple[HttpRoute, ...] = ()
    grants: tuple[ReferenceGrant, ...] = ()
    config_maps: tuple[ConfigMap, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()
    covered: frozenset[str] = frozenset()

    @property
    def knows_pods(self) -> bool:
        """Whether an address that is of no list is no pod's."""
        return "pods" in self.covered or bool(self.elsewhere)


class World(Struct, frozen=True, eq=False):
    """Everything decoded: the nodes by name, in name order, and the cluster's objects."""

    nodes: Mapping[str, Node]
    cluster: Cluster
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    """Origins of dumps that are of no known format."""
    observations: tuple[Observation, ...] = ()
    """What was seen of packets that were really sent."""


# ---------------------------------------------------------------- what is at work on a node


class Sign(Struct, frozen=True):
    """What a component was recognised by, in words, and where it stands."""

    what: str
    at: At


class Recognised(Struct, frozen=True):
    """A component (a CNI plugin, an agent, a mesh) whose work shows in a node's dumps.

    ``enforces`` says how it enforces NetworkPolicies: "rules" (the dumps have it), "hidden" (it may, where no dump
    shows it), "" (it does not). ``modelled`` False: nothing is known of it but its name.
    """

    name: str
    node: str
    by: tuple[Sign, ...]
    enforces: str = ""
    modelled: bool = True


def service_ranges(services: Iterable[ServicePort]) -> tuple[Net, ...]:
    """The networks that hold the ClusterIPs: per family the smallest one around all of them, no smaller than /16, /112.

    The API keeps no list of its service ranges that dumps would have.
    """
    out: list[Net] = []
    for version, widest in ((4, 16), (6, 112)):
        ips = [int(ip) for s in services for ip in s.cluster_ips if ip.version == version]
        if ips:
            bits = 32 if version == 4 else 128
            prefix = min(bits - (min(ips) ^ max(ips)).bit_length(), widest)
            out.append(ip_network((min(ips) >> (bits - prefix) << (bits - prefix), prefix)))
    return tuple(out)


# ---------------------------------------------------------------- the question


class Packet(Struct, frozen=True):
    """The headers that rules look at; changed only by :func:`msgspec.structs.replace`.

    ``sport`` None: any ephemeral port. ``dport`` None: a protocol without ports.
    """

    protocol: int
    src: Addr
    dst: Addr
    sport: int | None = None
    dport: int | None = None
    mark: int = 0
    tcp_flags: frozenset[str] = frozenset({"SYN"})
    icmp_type: int | None = None
    icmp_code: int | None = None
    ttl: int = 64
    tos: int = 0

    @property
    def family(self) -> int:
        return self.src.version

    def replace(self, **changes: object) -> Packet:
        return replace(self, **changes)


class Flow(Struct, frozen=True):
    """The question: which packet, from whom, entering where.

    ``origin`` is "outside", "node" or "pod". ``node`` is where the walk starts. ``iif`` is the device an
    outside packet comes in by, None when the walk has to find it. ``stand_ins`` are addresses that no
    dump tells and that stand for something, by address.
    """

    target: str
    source: str
    origin: str
    node: str
    packet: Packet
    pod: str | None = None
    iif: str | None = None
    service: str | None = None
    kind: str = "address"
    assumptions: tuple[str, ...] = ()
    stand_ins: tuple[tuple[Addr, str], ...] = ()
    routed: bool = True
    """False: an outside packet to an address that only the cluster knows, and nobody said which node it enters at."""
    owned: tuple[tuple[Addr, str], ...] = ()
    """Addresses that a node's rules say are its own, with the node's name."""


# ---------------------------------------------------------------- the answer


class Question(Struct, frozen=True):
    """Something no dump tells and the packet's way depends on; not dice.

    ``default`` is what is assumed (and then named), None where nothing is likelier than its opposite.
    ``if_true`` and ``if_false`` complete the sentence "if …". ``memory``: the answer is what the node remembers of
    earlier connections of the same client (session affinity), so odds hold only for a client it does not remember.
    """

    key: str
    if_true: str
    if_false: str
    default: bool | None = None
    memory: bool = False


class Choice(Struct, frozen=True):
    """A question and the answer that a path follows."""

    question: Question
    answer: bool

    @property
    def off_default(self) -> bool:
        """Whether the answer goes against the one that is assumed."""
        return self.question.default is not None and self.answer != self.question.default


class Policed(Struct, frozen=True):
    """What network policies said of a packet at a step, read from the rules of the ``component`` that enforces them.

    ``policies`` are "namespace/name" where a comment, a hash or an object tells it, else the chain's name.
    ``direction`` is ingress or egress as the pod sees it, "" where the rules do not tell.
    """

    component: str
    policies: tuple[str, ...]
    direction: str
    allowed: bool


class Step(ComparedInPart, frozen=True, eq=False):
    """One rule that matched, or one decision of routing, a device or delivery (``rule`` None).

    ``odds`` are the odds of this step for a packet that came to it; ``assumed`` says that the step rests on
    a default, ``unknown`` names what is not known of it. ``backend`` of a rule of iptables: legacy, nft or unknown.
    """

    hook: str
    table: str
    chain: str
    rule: str | None
    at: At | None
    action: str
    odds: Fraction = Fraction(1)
    changes: tuple[tuple[str, str], ...] = ()
    means: str = ""
    assumed: bool = False
    unknown: str = ""
    backend: str = ""
    detail: Rule | None = None
    nft: NftRule | None = None
    policed: Policed | None = None

    def _compared(self) -> tuple[object, ...]:
        """Everything but the decoded rule, which ``rule`` and ``at`` stand for."""
        return (
            self.hook, self.table, self.chain, self.rule, self.at, self.action, self.odds, self.changes, self.means,
            self.assumed, self.unknown, self.backend, self.policed,
        )  # fmt: skip


class MtuFit(Struct, frozen=True):
    """How large a packet a tunnel device can carry whole: ``mtu`` is ``underlay_mtu`` less ``overhead``.

    ``underlay`` is the device its wrapped packets leave by, of several the one with the smallest MTU. ``family``: 4 or 6,
    that of the outer header. ``told``: the device tells who sends a larger packet; others have it cut into fragments.
    """

    mtu: int
    overhead: int
    family: int
    underlay: str
    underlay_mtu: int
    told: bool = False


class TooLarge(Struct, frozen=True):
    """Packets of the connection may be larger (``size``) than the device they leave a node by takes (``mtu``).

    ``untold``: why the sender does not hear of it (ICMP "fragmentation needed", ICMPv6 "packet too big"), "" where it
    does, None where that is not known.
    """

    size: int
    mtu: int
    sender: Addr
    untold: str | None


class Hop(Struct, frozen=True):
    """The way of the packet through one node. ``wraps``: the device it leaves by puts another packet around it.

    ``route_mtu``: the MTU of the route it leaves by, None where that has none of its own.
    """

    node: str
    iif: str | None
    oif: str | None
    steps: tuple[Step, ...]
    wraps: MtuFit | None = None
    too_large: TooLarge | None = None
    route_mtu: int | None = None


class Rewrite(Struct, frozen=True):
    """A change of the packet's source address."""

    node: str
    rule: str | None
    at: At | None
    before: Addr
    after: Addr | None
    because: str
    chain: str = ""
    table: str = ""


class Reached(Struct, frozen=True):
    """Where a packet was delivered. ``pod`` is namespace/name; ``node`` None: outside the cluster."""

    ip: Addr
    port: int | None
    pod: str | None = None
    node: str | None = None


class Way(Struct, frozen=True):
    """One complete way of the packet. ``verdict``: delivered, refused, dropped, unreachable or unknown.

    ``source`` is what the endpoint sees; None with verdict delivered means an address that no dump tells.
    ``reply``: "" when the answer comes back translated, else why it does not. ``reply_known`` False: the way
    back could not be followed.
    """

    hops: tuple[Hop, ...]
    odds: Fraction
    choices: tuple[Choice, ...]
    verdict: str
    reason: str
    packet: Packet
    reached: Reached | None = None
    source: Addr | None = None
    source_known: bool = True
    rewrites: tuple[Rewrite, ...] = ()
    reply: str = ""
    reply_known: bool = True
    reply_hops: tuple[Hop, ...] = ()
    assumptions: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()


class Outcome(Struct, frozen=True):
    """Ways with the same verdict, endpoint and source seen.

    ``odds`` None: not known, for the verdict is unknown, or for the node may remember the client and then always
    decides the same; ``first_odds`` are then those of a client that it does not remember.
    """

    verdict: str
    odds: Fraction | None
    reached: Reached | None
    source: Addr | None
    preserved: bool | None
    reason: str
    ways: tuple[int, ...]
    rewrites: tuple[Rewrite, ...] = ()
    assumed: bool = False
    first_odds: Fraction | None = None


class Alternative(Struct, frozen=True):
    """What the answer would be were an assumption false."""

    condition: str
    outcomes: tuple[Outcome, ...]


class Reply(Struct, frozen=True):
    """The way back. ``symmetric`` None: not known."""

    symmetric: bool | None
    why: str


class Trace(Struct, frozen=True):
    """A finished walk: the ways, folded into outcomes, and all that the answer rests on."""

    flow: Flow
    ways: tuple[Way, ...]
    outcomes: tuple[Outcome, ...]
    alternatives: tuple[Alternative, ...]
    reply: Reply
    assumptions: tuple[str, ...]
    missing: tuple[Missing, ...]
    recognised: tuple[Recognised, ...] = ()
    """Components at work on the nodes that the packet passes."""


class Finding(Struct, frozen=True):
    """One thing worth telling. ``severity``: error, warning or info. ``evidence``: "file:line" or "node object"."""

    code: str
    severity: str
    summary: str
    evidence: tuple[str, ...]
    remedy: str
    proven: bool = True


class Part(Struct, frozen=True):
    """One packet of a question that takes several, or the end of it without another packet (``flow`` None).

    ``odds`` are those of this part among its alternatives, None when nothing tells them. ``besides``: asked too, and no
    part of the answer's outcomes. ``notes``: what is known of it and no packet shows. ``leads``: whoever it reaches sends
    another packet for it. An end has a ``verdict`` and a ``reason``.
    """

    name: str
    flow: Flow | None
    odds: Fraction | None = Fraction(1)
    besides: bool = False
    notes: tuple[str, ...] = ()
    verdict: str = ""
    reason: str = ""
    leads: bool = False


class Leg(Struct, frozen=True):
    """A part that was walked. ``after``: the leg and its outcome (indexes) that it goes on from, None for a first one.

    ``odds`` are those of the leg among the alternatives behind the same outcome, None when nothing tells them.
    """

    name: str
    trace: Trace
    findings: tuple[Finding, ...] = ()
    odds: Fraction | None = Fraction(1)
    after: tuple[int, int] | None = None
    besides: bool = False
    notes: tuple[str, ...] = ()


class Report(Struct, frozen=True):
    """What ``netk8s trace`` answers. ``notes``: what is known of what was asked and no packet shows.

    With ``legs`` the trace has no ways of its own: its outcomes are those of the legs, put together.
    """

    trace: Trace
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    legs: tuple[Leg, ...] = ()


# ---------------------------------------------------------------- devices of a node


class Hanging(Struct, frozen=True):
    """How a pod hangs on its node. ``dev``: the host's device, the bridge's port or the parent; None: not seen.

    ``kind``: bridge, routed, macvlan, ipvlan, … as far as it is known; ``told`` is what tells it: dump (the pod's own),
    name (of the host's device), neighbour, route, or "" when nothing does, and ``because`` says it in words. ``link``
    and ``addresses`` are the pod's own device, where a dump of its namespace has it. ``means``: what it means for Services.
    """

    pod: str
    ips: tuple[Addr, ...]
    dev: str | None
    kind: str = ""
    told: str = ""
    because: str = ""
    link: Link | None = None
    addresses: tuple[Address, ...] = ()
    means: str = ""


class Device(Struct, frozen=True):
    """A device with what is on it: ports or slaves (``master``), devices made on it (``parent``), pods."""

    link: Link
    addresses: tuple[Address, ...] = ()
    vlans: tuple[PortVlan, ...] = ()
    above: tuple[Device, ...] = ()
    pods: tuple[Hanging, ...] = ()
    fit: MtuFit | None = None
    means: str = ""


class NodeDevices(Struct, frozen=True):
    """The devices of a node as trees, and its pods that hang on none that is known.

    ``known``: a dump tells the devices' kinds, so that one without a kind is a physical device.
    """

    node: str
    devices: tuple[Device, ...]
    loose: tuple[Hanging, ...] = ()
    known: bool = True


# ---------------------------------------------------------------- words of the command line, tables of a node


class Request(Struct, frozen=True):
    """An HTTP request as far as routes look at it. ``path`` may have a query; None: not said."""

    host: str | None = None
    path: str | None = None
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()


class Ask(Struct, frozen=True):
    """The words of ``netk8s trace``, not yet resolved against any snapshot."""

    target: str
    port: str | None = None
    protocol: str | None = None
    source: str | None = None
    via: str | None = None
    node: str | None = None
    namespace: str | None = None
    sport: int | None = None
    family: str | None = None
    """4, 6, both, or None for the first family of what is asked for."""
    request: Request = Request()
    name: str | None = None
    """The name that is looked up in DNS."""


class Backend(Struct, frozen=True):
    """One endpoint of a programmed service: ``odds`` by the rules, None where no rule says. ``weight``: IPVS only."""

    ip: Addr
    port: int | None
    odds: Fraction | None
    chain: str
    pod: str | None = None
    at: At = At("")
    weight: int | None = None


class Programmed(Struct, frozen=True):
    """One way to dial a service port as the rules of a node have it.

    ``kind`` is ClusterIP, NodePort, LoadBalancer, ExternalIP, or External where the rules of an address do not tell
    which of the last two it is; ``ip`` None for a NodePort. ``service`` is namespace/name as comments, hashes or objects
    tell it, "" when nothing does. ``verdict`` is "" for a balanced port, REJECT or DROP for one without usable endpoints.
    ``backends`` are those for a client outside the cluster where the rules treat pods and nodes differently.

    ``mode`` is iptables, nftables or ipvs. ``scheduler`` is random or IPVS' own word, "" where nothing is chosen.
    ``policy`` is Cluster or Local (externalTrafficPolicy; internalTrafficPolicy for a ClusterIP), "" where nothing
    tells. ``affinity_seconds``: how long a client keeps its endpoint. ``addresses``: those of the node that take a
    NodePort, () for any of them.
    """

    node: str
    service: str
    port_name: str
    protocol: int
    kind: str
    ip: Addr | None
    port: int
    chain: str
    backends: tuple[Backend, ...]
    verdict: str = ""
    affinity: bool = False
    at: At = At("")
    mode: str = ""
    scheduler: str = ""
    policy: str = ""
    affinity_seconds: int | None = None
    addresses: tuple[Addr, ...] = ()
