"""Texts -> facts. A decoder is a module of this package with ``NAME``, ``sniff(dump)`` and ``decode(dump)``; one with
``REFUSED`` and ``sniff(dump)`` knows a text that is not read, and says why.

Formats are recognised by content, never by file name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, cast

from msgspec.structs import replace

from netk8s import plugins
from netk8s.decode import _endpoints, _nftables
from netk8s.errors import DecodeError
from netk8s.model import (
    Address,
    At,
    Cluster,
    ClusterNode,
    ConfigMap,
    ConntrackTable,
    ControllerClass,
    Coverage,
    Dump,
    Elsewhere,
    Endpoint,
    ExternalName,
    Fact,
    FdbEntry,
    Gateway,
    Hook,
    HttpRoute,
    Ingress,
    IpSet,
    Link,
    Missing,
    Namespace,
    Neighbour,
    NetworkPolicy,
    NftTable,
    Node,
    Observation,
    OldEndpoint,
    OtherPolicy,
    Pod,
    PortVlan,
    ReferenceGrant,
    Route,
    RoutingRule,
    ServicePort,
    Snapshot,
    Socket,
    Sysctl,
    Table,
    VirtualServer,
    World,
)

T = TypeVar("T")
_PORT = ("master", "hairpin", "isolated", "port_state")
_OF_CLUSTER: dict[type, str] = {
    ServicePort: "services",
    ExternalName: "external_names",
    Endpoint: "endpoints",
    Pod: "pods",
    ClusterNode: "nodes",
    NetworkPolicy: "policies",
    OtherPolicy: "other_policies",
    Namespace: "namespaces",
    Ingress: "ingresses",
    ControllerClass: "classes",
    Gateway: "gateways",
    HttpRoute: "http_routes",
    ReferenceGrant: "grants",
    ConfigMap: "config_maps",
    Elsewhere: "elsewhere",
}
"""The cluster's objects, and the list of :class:`Cluster` that each is in."""
_LISTS = frozenset({*_OF_CLUSTER.values(), _endpoints.COVERS})

UNNAMED = "node"
"""The name of the node of a dump that does not say whose it is."""


class Decoder(Protocol):
    """What a module of this package offers."""

    NAME: str

    def sniff(self, dump: Dump) -> bool:
        """Whether the dump's content is of this format."""
        ...

    def decode(self, dump: Dump) -> Iterator[Fact]:
        """The facts of a dump. Raises DecodeError and nothing else."""
        ...


def decoders() -> tuple[Decoder, ...]:
    """Every format there is a module for."""
    return tuple(cast(Decoder, m) for m in plugins.modules(__name__) if hasattr(m, "sniff") and hasattr(m, "decode"))


def recognise(dump: Dump) -> Decoder | None:
    """The decoder of a dump by its content, None when it is empty or nothing knows it.

    Raises DecodeError when two formats claim it.
    """
    head = bytes(dump.data[:256]).strip()
    if not head or head == b"[]":
        return None
    found = [d for d in decoders() if d.sniff(dump)]
    if len(found) > 1:
        names = ", ".join(d.NAME for d in found)
        raise DecodeError(
            dump.origin, 0, f"looks like more than one format ({names}); give one command's output a file"
        )
    return found[0] if found else None


def refused(dump: Dump) -> str:
    """Why a dump that no decoder knows is not read, and what to give instead; "" where nothing knows it."""
    return next((str(m.REFUSED) for m in plugins.modules(__name__) if hasattr(m, "REFUSED") and m.sniff(dump)), "")


def decode(snapshot: Snapshot, *, unwrap: bool = False) -> World:
    """All facts of a snapshot by node, and the cluster's objects.

    A dump that no decoder knows is an error when it is the only one, and else in ``unread``, or in ``missing`` where it is
    known why it is not read. ``unwrap`` joins lines that a terminal or a document wrapped. Raises DecodeError.
    """
    facts: dict[tuple[str, str | None], list[Fact]] = {}
    cluster: list[Fact] = []
    observations: list[Observation] = []
    notes: list[str] = []
    missing = [gap for gap in snapshot.missing if not gap.absent]
    unknown: list[Dump] = []
    only = {d.node for d in snapshot.dumps if d.node is not None}
    default = next(iter(only)) if len(only) == 1 else UNNAMED
    for dump in snapshot.dumps:
        if unwrap and not isinstance(dump.data, bytes):
            dump = replace(dump, data=bytes(dump.data))
        decoder = recognise(dump)
        if decoder is None and unwrap:
            decoder = next((d for d in decoders() if hasattr(d, "unwrap") and d.sniff(dump)), None)
        if decoder is None:
            if bytes(dump.data[:256]).strip() not in (b"", b"[]"):
                unknown.append(dump)
            elif dump.node is not None:
                facts.setdefault((dump.node, dump.pod), [])
            continue
        if unwrap and hasattr(decoder, "unwrap"):
            dump = decoder.unwrap(dump)
        for fact in decoder.decode(dump):
            # First the one that a large cluster has most of.
            if type(fact) in _OF_CLUSTER:
                cluster.append(fact)
                continue
            if isinstance(fact, Observation):
                observations.append(fact)
                continue
            covers = isinstance(fact, Coverage) and fact.kind in _LISTS
            if covers and dump.partial:
                continue
            if covers or isinstance(fact, OldEndpoint):
                cluster.append(fact)
            else:
                facts.setdefault((dump.node or default, dump.pod), []).append(fact)
    if unknown and not facts and not cluster and not observations:
        first = unknown[0]
        if why := refused(first):
            raise DecodeError(first.origin, 1, why)
        raise DecodeError(
            first.origin,
            1,
            "not a format netk8s knows; expected the output of iptables-save, ip (-d link, addr, route, rule, neigh; with -j "
            "too), bridge fdb, bridge -j vlan, sysctl, ss, nft (ruleset, hooks), ipset save, ipvsadm -Sn, "
            "conntrack -L or kubectl get -o json",
        )
    if not facts and not cluster and not observations:
        where = snapshot.dumps[0].origin if snapshot.dumps else "the input"
        raise DecodeError(where, 0, "holds nothing; expected at least one dump")
    nodes: dict[str, Node] = {}
    for name in sorted({name for name, _ in facts}):
        inside = sorted(pod for node, pod in facts if node == name and pod is not None)
        pods = {pod: _node(f"pod {pod}", facts[name, pod], notes) for pod in inside}
        nodes[name] = replace(_node(name, facts.get((name, None), []), notes), pods=pods)
    reasons = {dump.origin: why for dump in unknown if (why := refused(dump))}
    missing += (
        Missing(f"the rules in {origin}, which {why}", "what those rules do") for origin, why in reasons.items()
    )
    unread = tuple(dump.origin for dump in unknown if dump.origin not in reasons)
    return World(nodes, _cluster(cluster, notes), tuple(missing), tuple(notes), unread, tuple(observations))


def _node(name: str, facts: list[Fact], notes: list[str]) -> Node:
    tables = _tables([f for f in facts if isinstance(f, Table)], notes)
    return Node(
        name,
        tables=tables,
        nft=_nftables.merged([f for f in facts if isinstance(f, NftTable)]),
        sets=tuple(f for f in facts if isinstance(f, IpSet)),
        links=_merged(facts),
        addresses=_once([f for f in facts if isinstance(f, Address)], lambda a: (a.dev, a.ip, a.prefixlen)),
        routes=tuple(f for f in facts if isinstance(f, Route)),
        rules=tuple(f for f in facts if isinstance(f, RoutingRule)),
        neighbours=tuple(f for f in facts if isinstance(f, Neighbour)),
        fdb=tuple(f for f in facts if isinstance(f, FdbEntry)),
        port_vlans=_once([f for f in facts if isinstance(f, PortVlan)], lambda v: (v.dev, v.vlan)),
        sysctls={f.name: f for f in facts if isinstance(f, Sysctl)},
        sockets=tuple(f for f in facts if isinstance(f, Socket)),
        virtual_servers=_virtual_servers([f for f in facts if isinstance(f, VirtualServer)]),
        conntrack=tuple(f for f in facts if isinstance(f, ConntrackTable)),
        hooks=tuple(f for f in facts if isinstance(f, Hook)),
        covered=frozenset(f.kind for f in facts if isinstance(f, Coverage)),
    )


def _once(found: list[T], key: Callable[[T], object]) -> tuple[T, ...]:
    """Each fact once, where two dumps (JSON and text, link and addr) show the same."""
    seen: dict[object, T] = {}
    for fact in found:
        seen.setdefault(key(fact), fact)
    return tuple(seen.values())


def _merged(facts: list[Fact]) -> tuple[Link, ...]:
    """One Link per device, of the dump that knows most. `bridge link` may know more of a bridge's port."""
    seen: dict[str, Link] = {}
    detailed = {fact.at.origin for fact in facts if isinstance(fact, Coverage) and fact.kind == "link"}
    for link in sorted((f for f in facts if isinstance(f, Link)), key=lambda link: link.at.origin not in detailed):
        first = seen.setdefault(link.name, link)
        if first is not link and first.index == link.index and first.master in (None, link.master):
            more = {name: getattr(link, name) for name in _PORT if getattr(first, name) is None}
            seen[link.name] = replace(first, **more)
    return tuple(seen.values())


def _virtual_servers(found: list[VirtualServer]) -> tuple[VirtualServer, ...]:
    """One virtual server per address, port and protocol.

    `ipvsadm -Ln` and `ipvsadm -Sn` show the same table: the latter has every option, the former counts connections.
    """
    seen: dict[tuple[object, ...], VirtualServer] = {}
    counted_in = {s.at.origin for s in found if any(r.active is not None for r in s.real)}
    for server in sorted(found, key=lambda s: s.at.origin in counted_in):
        key = (server.family, server.protocol, server.ip, server.port, server.fwmark)
        first = seen.setdefault(key, server)
        if first is not server:
            counted = {(r.ip, r.port): r for r in server.real}
            real = [
                replace(r, active=counted[r.ip, r.port].active, inactive=counted[r.ip, r.port].inactive)
                if r.active is None and (r.ip, r.port) in counted
                else r
                for r in first.real
            ]
            seen[key] = replace(first, real=tuple(real))
    return tuple(seen.values())


def _tables(found: list[Table], notes: list[str]) -> tuple[Table, ...]:
    """One table per family, backend and name. Two dumps of the same one cannot both be true."""
    seen: dict[tuple[int, str, str], Table] = {}
    for table in found:
        key = (table.family, table.backend, table.name)
        if key in seen:
            raise DecodeError(
                table.at.origin,
                table.at.line,
                f"a second {table.name} table of IPv{table.family} for one node (the first is at {seen[key].at}); "
                "give each node's dumps in a folder of its own, or leave one of them out",
            )
        seen[key] = table
        if table.headless:
            notes.append(
                f"{table.at.origin} has no *table lines: table {table.name} is inferred from what its chains do, and "
                "tables that the dump does not have are taken as empty"
            )
    return tuple(seen.values())


def _cluster(facts: list[Fact], notes: list[str]) -> Cluster:
    facts = _endpoints.chosen(facts, notes)
    objects: dict[str, list[Fact]] = {}
    for fact in facts:
        if type(fact) in _OF_CLUSTER:
            objects.setdefault(_OF_CLUSTER[type(fact)], []).append(fact)
    lists = cast(dict[str, Any], {name: tuple(found) for name, found in objects.items()})
    return Cluster(**lists, covered=frozenset(f.kind for f in facts if isinstance(f, Coverage)))


__all__ = ["At", "Decoder", "Missing", "decode", "decoders", "recognise"]
