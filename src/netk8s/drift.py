"""What the API wants of each node against what the node has: kube-proxy's intent held against its rules.

Only nodes whose dumps are whole are judged: a table without its head, an IPVS mode without its virtual servers or a node
whose rules tell nothing is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from msgspec import Struct

from netk8s.dialects.kube_proxy_iptables import chain_hash
from netk8s.entries import unentered
from netk8s.intent import CLUSTER, Intended, Where, intended
from netk8s.model import (
    PROTOCOL_NAMES,
    Addr,
    At,
    Cluster,
    Net,
    Node,
    Programmed,
    Socket,
    World,
    service_ranges,
)

MISSING, STALE, PORT, ABSENT, UNKNOWN, ORPHAN, AFFINITY, POLICY, ODDS, LAG, NO_PROXY, UNENTERED, TAKEN, RANGE, HASH, LEFT = (
    "missing", "stale", "port", "absent", "unknown", "orphan", "affinity", "policy", "odds", "lag", "no proxy",
    "unentered", "taken", "range", "hash", "left over",
)  # fmt: skip

ROUNDING = Fraction(1, 10000)
"""kube-proxy up to 1.16 wrote odds with five digits, the kernel keeps 31 bits."""

_SERVICE_CHAINS = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-")


class Difference(Struct, frozen=True):
    """One difference of one node. ``kind`` is one of this module's words.

    ``service`` is namespace/name[:port], several of a node as a whole, "" where none is meant; ``dialled`` the address in
    words. ``wanted`` and ``row`` are what was compared, ``ends`` the endpoints that differ. ``connections`` tracked
    connections still go the old way.
    """

    kind: str
    node: str
    service: str = ""
    dialled: str = ""
    wanted: Intended | None = None
    row: Programmed | None = None
    ends: tuple[Where, ...] = ()
    at: tuple[At, ...] = ()
    connections: int = 0
    connection: At | None = None
    what: str = ""
    proven: bool = True


class Drift(Struct, frozen=True):
    """Every difference, node after node. ``judged`` are the nodes that could be compared."""

    differences: tuple[Difference, ...] = ()
    judged: tuple[str, ...] = ()

    def of(self, kind: str) -> Iterator[Difference]:
        """Those of one kind."""
        return (each for each in self.differences if each.kind == kind)


_WEIGHTLESS = frozenset({"rr", "lc", "dh"})
"""Schedulers of IPVS that ask of a weight only whether it is 0 (ip_vs_rr.c, ip_vs_lc.c, ip_vs_dh.c)."""


def drift(world: World, programmed: Iterable[Programmed]) -> Drift:
    """Compares what the rules of every node program with what its kube-proxy intends.

    Nothing is compared where the dumps lack Services or EndpointSlices.
    """
    cluster = world.cluster
    if not {"services", "endpoints"} <= cluster.covered:
        return Drift()
    rows: dict[str, list[Programmed]] = {}
    for row in programmed:
        rows.setdefault(row.node, []).append(row)
    found: list[Difference] = []
    judged = []
    known = {item.name for item in cluster.nodes}
    for name, node in world.nodes.items():
        if not _whole(node) or (known and name not in known):
            continue
        mine = rows.get(name, [])
        wanted = list(intended(cluster, name))
        closed = [each for each in unentered(node, mine) if any(want.family == each[0] for want in wanted)]
        found += [Difference(UNENTERED, name, at=(at,), what=why) for _, why, at in closed]
        if closed:
            # What else such rules have or lack decides nothing.
            families = {family for family, _, _ in closed}
            mine = [row for row in mine if not _families(row) <= families]
            wanted = [want for want in wanted if want.family not in families]
        if closed and not wanted:
            continue
        if name not in rows:
            found += _no_proxy(node, wanted, any(rows.values()))
            continue
        judged.append(name)
        found += _of_node(cluster, node, mine, wanted)
    found += _lagging(found, judged)
    return Drift(tuple(found), tuple(judged))


def _whole(node: Node) -> bool:
    """Whether the dumps have all of a node's kube-proxy rules, whatever its mode."""
    if node.opaque or any(table.headless for table in node.tables):
        return False
    if any(link.name == "kube-ipvs0" for link in node.links) and "ipvs" not in node.covered:
        return False
    nat = any(table.name == "nat" for table in node.tables)
    return nat or "nft" in node.covered or "ipvs" in node.covered


def _no_proxy(node: Node, wanted: Sequence[Intended], elsewhere: bool) -> Iterator[Difference]:
    chains = {name for table in node.tables for name in table.chains}
    # In IPVS mode its chains stay, whatever becomes of the virtual servers.
    ipvs = "KUBE-NODE-PORT" in chains and "ipvs" in node.covered
    if not wanted or (any(name.startswith("KUBE-SERVICES") for name in chains) and not ipvs):
        return
    # Without a list of nftables' rulesets kube-proxy may work in its nftables mode.
    proven = ipvs or "nft" in node.covered
    what = f"no {'virtual server' if ipvs else 'rules'} for any of {len(wanted)}"
    dumps = dict.fromkeys((*(At(t.at.origin) for t in node.tables), *(At(t.at.origin) for t in node.nft)))
    yield Difference(NO_PROXY, node.name, at=tuple(dumps), proven=proven and elsewhere, what=what)


def _of_node(
    cluster: Cluster, node: Node, rows: Sequence[Programmed], wanted: Sequence[Intended]
) -> Iterator[Difference]:
    families = {version for row in rows for version in _families(row)}
    by_address: dict[tuple[Addr | None, int, int], list[Programmed]] = {}
    for row in rows:
        by_address.setdefault((row.ip, row.port, row.protocol), []).append(row)
    matched: set[int] = set()
    left: dict[str, list[Difference]] = {}
    for want in wanted:
        if want.family not in families:
            continue
        mine = by_address.get((want.ip, want.number, want.port.protocol), [])
        if want.ip is None:
            same = [row for row in mine if want.family in _families(row)]
            mine = same or [row for row in mine if not _families(row)]
        matched.update(map(id, mine))
        if not mine:
            yield _difference(ABSENT, node, want, None)
        told = [list(_of_row(node, want, row)) for row in mine]
        if any(told) and not all(told):
            # Rules of another backend or mode are as they have to be: these were left behind.
            for row, differences in zip(mine, told, strict=True):
                if differences:
                    left.setdefault(row.at.origin, []).extend(differences)
        else:
            yield from (each for differences in told for each in differences)
    yield from _left(node, left)
    rest = [row for row in rows if id(row) not in matched and row.at.origin not in left]
    yield from _nobodys(cluster, node, rest)
    yield from _chains(cluster, node)
    yield from _taken(cluster, node, wanted)


def _families(row: Programmed) -> set[int]:
    return {row.ip.version} if row.ip is not None else {end.ip.version for end in row.backends}


def _difference(
    kind: str, node: Node, want: Intended, row: Programmed | None, ends: Iterable[Where] = (), **more: object
) -> Difference:
    name = f"{want.service}:{want.port.name}" if want.port.name else want.service
    at = tuple(dict.fromkeys(place for place in (_place(row, ends), want.port.at) if place is not None))
    ends = tuple(sorted(ends, key=str))
    return Difference(kind, node.name, name, _dialled(want), want, row, ends, at, **more)  # type: ignore[arg-type]


def _place(row: Programmed | None, ends: Iterable[Where]) -> At | None:
    """The rule of an endpoint that differs, else that of the address."""
    if row is None:
        return None
    some = set(ends)
    return next((end.at for end in row.backends if (end.ip, end.port) in some and end.at.origin), row.at)


def _dialled(want: Intended) -> str:
    if want.ip is None:
        return f"NodePort {want.number}"
    host = f"[{want.ip}]" if want.ip.version == 6 else str(want.ip)
    return f"{want.kind} {host}:{want.number}"


def _of_row(node: Node, want: Intended, row: Programmed) -> Iterator[Difference]:
    # Weight 0: kube-proxy lets connections of an endpoint that is gone end by themselves.
    have = {(end.ip, end.port or 0) for end in row.backends if end.weight != 0}
    # Of IPVS the sets tell the policy, and they decide who is masqueraded, whatever the endpoints are.
    telling = row.mode == "ipvs" or (row.policy == CLUSTER and have not in want.choices)
    if row.policy and row.policy != want.policy and telling:
        yield _difference(POLICY, node, want, row, what=f"{want.policy}, {row.policy}")
    elif have not in want.choices:
        best = min(want.choices, key=lambda choice: len(choice ^ have))
        yield from _endpoints(node, want, row, frozenset(have), best)
    if not row.backends:
        return
    seconds = row.affinity_seconds
    if row.affinity != (want.affinity_seconds is not None) or (
        seconds is not None and row.affinity and seconds != want.affinity_seconds
    ):
        has = "none" if not row.affinity else f"{seconds} s" if seconds is not None else "some"
        asked = "none" if want.affinity_seconds is None else f"{want.affinity_seconds} s"
        yield _difference(AFFINITY, node, want, row, what=f"{asked}, {has}")
    uneven = _uneven(row, {len(choice) for choice in want.choices})
    if uneven:
        yield _difference(ODDS, node, want, row, uneven)


def _endpoints(
    node: Node, want: Intended, row: Programmed, have: frozenset[Where], best: frozenset[Where]
) -> Iterator[Difference]:
    lacking, beside = set(best - have), set(have - best)
    wrong = {end for end in beside if any(end[0] == other[0] for other in lacking)}
    lacking -= {other for other in lacking if any(other[0] == end[0] for end in wrong)}
    beside -= wrong
    for kind, ends in ((PORT, wrong), (STALE, beside), (MISSING, lacking)):
        if ends:
            old = _connections(node, want, ends) if kind != MISSING else (0, None)
            all_gone = kind == MISSING and not have
            yield _difference(
                kind, node, want, row, ends, connections=old[0], connection=old[1], what="all" if all_gone else ""
            )


def _uneven(row: Programmed, wanted: Collection[int]) -> list[Where]:
    """The endpoints of a balanced port that get another share than kube-proxy gives, of those that are there or of as many
    as are wanted."""
    weights = {end.weight for end in row.backends if end.weight}
    if row.mode == "ipvs":
        weighs = row.scheduler not in _WEIGHTLESS and len(weights) > 1
        return [(e.ip, e.port or 0) for e in row.backends if e.weight] if weighs else []
    if any(end.odds is None for end in row.backends) or len({(e.ip, e.port) for e in row.backends}) < len(row.backends):
        return []
    for many in wanted:
        if many > len(row.backends) and all(abs((e.odds or 0) - Fraction(1, many)) <= ROUNDING for e in row.backends):
            return []  # a place is empty, and an endpoint missing
    fair = Fraction(1, len(row.backends))
    return [(e.ip, e.port or 0) for e in row.backends if abs((e.odds or Fraction(0)) - fair) > ROUNDING]


def _connections(node: Node, want: Intended, ends: Iterable[Where]) -> tuple[int, At | None]:
    """How many tracked connections to the address go to these endpoints, and where the first stands."""
    ips = {ip for ip, _ in ends}
    dialled = [want.ip] if want.ip is not None else [a.ip for a in node.addresses if a.ip.version == want.family]
    others = {e.ip for e in want.known} - ips
    count, first = 0, None
    for table in node.conntrack:
        for ip in dialled:
            for entry in table.connections.elsewhere(ip, want.number, others):
                if entry.protocol == want.port.protocol and entry.reply.src in ips:
                    count += 1
                    first = first or entry.at
    return count, first


def _left(node: Node, left: Mapping[str, Sequence[Difference]]) -> Iterator[Difference]:
    """One difference for each dump of rules that were left behind."""
    for origin, differences in left.items():
        services = dict.fromkeys(each.service for each in differences)
        rows = [each.row for each in differences if each.row is not None]
        places = dict.fromkeys(at for each in differences for at in each.at if at.origin == origin)
        yield Difference(
            LEFT, node.name, ", ".join(services), row=rows[0], at=tuple(places),
            connections=sum(each.connections for each in differences),
            connection=next((each.connection for each in differences if each.connection is not None), None),
        )  # fmt: skip


# ---------------------------------------------------------------- rules of no Service


def _nobodys(cluster: Cluster, node: Node, rows: Iterable[Programmed]) -> Iterator[Difference]:
    ranges = service_ranges(cluster.services)
    known = {f"{s.namespace}/{s.service}" for s in cluster.services}
    elsewhere = {f"{s.namespace}/{s.service}" for s in cluster.services if s.proxy}
    # Before 1.29 an address of ipMode Proxy was served as any other.
    proxied = {ip for s in cluster.services for ip in s.lb_ips_proxy}
    for row in rows:
        # A Service of another proxy may be in that one's rules.
        if row.ip in proxied or row.service in elsewhere:
            continue
        host = f"[{row.ip}]" if row.ip is not None and row.ip.version == 6 else str(row.ip)
        dialled = f"NodePort {row.port}" if row.ip is None else f"{row.kind} {host}:{row.port}"
        name = f"{row.service}:{row.port_name}" if row.port_name else row.service
        foreign = row.kind == "ClusterIP" and row.ip is not None and not _within(row.ip, ranges)
        what = ", ".join(map(str, ranges)) if foreign else "exists" if row.service in known else ""
        yield Difference(RANGE if foreign else UNKNOWN, node.name, name, dialled, row=row, at=(row.at,), what=what)


def _within(ip: Addr, ranges: Sequence[Net]) -> bool:
    """Whether an address is in one of the ranges, or of a family that has none."""
    same = [net for net in ranges if net.version == ip.version]
    return not same or any(ip in net for net in same)


def _chains(cluster: Cluster, node: Node) -> Iterator[Difference]:
    """Chains of Services and endpoints that nothing leads to, and chains whose hash no Service port has."""
    known: set[str] | None = None
    for table in node.tables:
        if table.name != "nat" or not any(name.startswith(_SERVICE_CHAINS) for name in table.chains):
            continue
        if known is None:
            known = set(_hashes(cluster))
        used = {rule.target.name for chain in table.chains.values() for rule in chain.rules if rule.target is not None}
        for name, chain in table.chains.items():
            if not name.startswith((*_SERVICE_CHAINS, "KUBE-SEP-")):
                continue
            if name not in used:
                yield Difference(ORPHAN, node.name, at=(chain.at,), what=name)
            elif name.startswith(_SERVICE_CHAINS) and name.rpartition("-")[2] not in known:
                yield Difference(HASH, node.name, at=(chain.at,), what=name)


def _hashes(cluster: Cluster) -> Iterator[str]:
    for s in cluster.services:
        protocol = PROTOCOL_NAMES.get(s.protocol, str(s.protocol))
        for colon in (False, True):
            yield chain_hash(f"{s.namespace}/{s.service}", s.name, protocol, colon=colon)


# ---------------------------------------------------------------- NodePorts, whole nodes


def _taken(cluster: Cluster, node: Node, wanted: Iterable[Intended]) -> Iterator[Difference]:
    held: dict[tuple[int, int], Socket] = {}
    for each in node.sockets:
        held.setdefault((each.protocol, each.port), each)
    version = next((item.kube_proxy_version or "" for item in cluster.nodes if item.name == node.name), "")
    told: set[tuple[int, int]] = set()
    for want in wanted:
        key = (want.port.protocol, want.number)
        socket = held.get(key)
        if want.ip is not None or socket is None or key in told or socket.process == "kube-proxy":
            continue
        # Up to 1.23 kube-proxy opened the NodePorts itself.
        if socket.process is None and _opens(version):
            continue
        told.add(key)
        yield _difference(
            TAKEN, node, want, None, what=socket.process or "a process", connection=socket.at,
            proven=socket.process is not None or bool(version),
        )  # fmt: skip


def _opens(version: str) -> bool:
    parts = version.lstrip("v").split(".")
    return len(parts) > 1 and parts[0] == "1" and parts[1].isdecimal() and int(parts[1]) <= 23


def _lagging(found: Sequence[Difference], judged: Sequence[str]) -> Iterator[Difference]:
    behind: dict[str, dict[str, At | None]] = {name: {} for name in judged}
    for each in found:
        if each.kind in (MISSING, STALE, PORT, ABSENT, UNKNOWN) and each.node in behind and each.service:
            behind[each.node].setdefault(each.service, each.at[0] if each.at else None)
    yield from lagging(behind)


def lagging(behind: Mapping[str, Mapping[str, At | None]]) -> Iterator[Difference]:
    """Nodes several of whose Services are not up to date, while those of another node are.

    ``behind``: of every node that was judged the Services that are not, with a place.
    """
    fresh = next((name for name, services in behind.items() if not services), None)
    for name, services in behind.items():
        if len(services) > 1:
            mine = set(services)
            other = fresh or next((each for each, theirs in behind.items() if mine.isdisjoint(theirs)), None)
            if other is not None:
                places = tuple(at for at in services.values() if at is not None)
                yield Difference(LAG, name, at=places[:12], service=", ".join(sorted(services)), what=other)
