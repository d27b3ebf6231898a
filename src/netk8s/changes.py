"""What two snapshots of one cluster say differently: objects, what rules program, other rules, routes, devices, settings.

Facts are compared by what they mean. The order of rules, counters, the names of kube-proxy's chains and of pods' devices
and where in a dump something stands are no difference. What only one snapshot's dumps cover is told and not compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from netk8s.model import (
    PROTOCOL_NAMES,
    At,
    Link,
    NetworkPolicy,
    NextHop,
    NftTable,
    Node,
    Programmed,
    Route,
    RoutingRule,
    Table,
    World,
)

KINDS = (
    "node", "Service", "endpoint", "NetworkPolicy", "namespace", "pod", "programmed", "rule", "set", "route",
    "routing rule", "device", "address", "sysctl",
)  # fmt: skip
"""What a change may be of, in the order in which they are told."""


class Change(Struct, frozen=True):
    """One thing that differs. ``field`` "": it is in one snapshot only, and the other's text is "".

    ``nodes`` are those on which it differs alike, () for an object of the API.
    """

    kind: str
    name: str
    field: str
    a: str
    b: str
    nodes: tuple[str, ...] = ()


class Changes(Struct, frozen=True):
    """All that differs. ``uncompared``: what only one snapshot's dumps cover, in words."""

    found: tuple[Change, ...]
    uncompared: tuple[str, ...] = ()


_Things = dict[tuple[str, str], dict[str, str]]
"""Texts by (kind, name) and field."""

_COVERED = {
    "rules4": "IPv4 rules of iptables", "rules6": "IPv6 rules of iptables", "nft": "rules of nftables",
    "ipvs": "virtual servers of IPVS", "ipset": "ipsets", "route4": "IPv4 routes", "route6": "IPv6 routes",
    "rule4": "IPv4 routing rules", "rule6": "IPv6 routing rules", "link": "devices", "addr": "addresses",
    "sysctl": "sysctls",
}  # fmt: skip
_OBJECTS = {
    "services": "Services", "endpoints": "EndpointSlices", "policies": "NetworkPolicies", "namespaces": "Namespaces",
    "pods": "Pods", "nodes": "Nodes",
}  # fmt: skip


def changes(a: World, b: World, rows_a: Iterable[Programmed], rows_b: Iterable[Programmed]) -> Changes:
    """Compares two completed worlds. ``rows_a`` and ``rows_b`` are what their rules program (``dialects.programmed``).

    Raises DecodeError for a rule that cannot be decoded.
    """
    objects = a.cluster.covered & b.cluster.covered
    lacking = [_only(words, "", kind in a.cluster.covered)
               for kind, words in _OBJECTS.items() if kind in a.cluster.covered ^ b.cluster.covered]  # fmt: skip
    found = list(_differing(_objects(a, objects), _objects(b, objects)))
    programmed = (_by_node(rows_a), _by_node(rows_b))
    alike: dict[Change, list[str]] = {}
    for name in sorted({*a.nodes, *b.nodes}):
        one, other = a.nodes.get(name), b.nodes.get(name)
        if one is None or other is None:
            found.append(
                Change("node", name, "", "its dumps are here" if one else "", "its dumps are here" if other else "")
            )
            continue
        both = one.covered & other.covered
        lacking += [_only(words, name, kind in one.covered)
                    for kind, words in _COVERED.items() if kind in one.covered ^ other.covered]  # fmt: skip
        mine = [_of_node(node, both, rows.get(name, ()))
                for node, rows in zip((one, other), programmed, strict=True)]  # fmt: skip
        _same_names(mine[0], mine[1])
        for change in _differing(mine[0], mine[1]):
            alike.setdefault(change, []).append(name)
    found += (replace(change, nodes=tuple(nodes)) for change, nodes in alike.items())
    found.sort(key=lambda each: (KINDS.index(each.kind), each.name, each.field, each.nodes))
    return Changes(tuple(found), tuple(lacking))


def _only(words: str, node: str, first: bool) -> str:
    return f"{words}{' of ' + node if node else ''}: only {'A' if first else 'B'} has a dump of them"


def _differing(a: _Things, b: _Things) -> Iterator[Change]:
    for key in dict.fromkeys((*a, *b)):
        one, other = a.get(key), b.get(key)
        if one is None or other is None:
            yield Change(*key, "", _told(one), _told(other))
            continue
        for field in dict.fromkeys((*one, *other)):
            if one.get(field, "") != other.get(field, ""):
                yield Change(*key, field, one.get(field) or "none", other.get(field) or "none")


def _told(thing: Mapping[str, str] | None) -> str:
    """The fields of a thing that is in one snapshot only, never ""."""
    if thing is None:
        return ""
    if thing == {_MANY: "1"}:
        return "present"
    return ", ".join(f"{field} {text}".strip() for field, text in thing.items() if text) or "present"


def _same_names(a: _Things, b: _Things) -> None:
    """Leaves out the settings that only one of two lists names: they come and go with devices, and lists differ."""
    for one, other in ((a, b), (b, a)):
        for key in [key for key in one if key[0] == "sysctl" and key not in other]:
            del one[key]


# ---------------------------------------------------------------- the API's objects


def _objects(world: World, covered: frozenset[str]) -> _Things:
    cluster, out = world.cluster, _Things()
    for s in cluster.services if "services" in covered else ():
        out["Service", _port_name(f"{s.namespace}/{s.service}", s.name, s.protocol)] = {
            "type": s.type, "port": str(s.port), "targetPort": s.target_port, "NodePort": str(s.node_port or ""),
            "ClusterIP": _list(s.cluster_ips), "external IP": _list(s.external_ips), "load balancer": _list(s.lb_ips),
            "load balancer (ipMode Proxy)": _list(s.lb_ips_proxy), "source ranges": _list(s.lb_source_ranges),
            "externalTrafficPolicy": s.external_policy, "internalTrafficPolicy": s.internal_policy,
            "sessionAffinity": s.affinity if s.affinity_seconds is None else f"{s.affinity} {s.affinity_seconds} s",
            "healthCheckNodePort": str(s.health_check_node_port or ""), "proxy": s.proxy,
        }  # fmt: skip
    for e in cluster.endpoints if "endpoints" in covered else ():
        host = f"[{e.ip}]" if e.ip.version == 6 else str(e.ip)
        name = f"{_port_name(f'{e.namespace}/{e.service}', e.port_name, e.protocol)} {host}:{e.port}"
        state = ("ready" if e.ready else "serving" if e.serving else "not ready") + ", terminating" * e.terminating
        out["endpoint", name] = {
            "": state, "on node": e.node or "", "zone": e.zone or "", "hints": _list(e.hints), "pod": e.pod or ""
        }  # fmt: skip
    for policy in cluster.policies if "policies" in covered else ():
        out["NetworkPolicy", f"{policy.namespace}/{policy.name}"] = _policy(policy)
    for namespace in cluster.namespaces if "namespaces" in covered else ():
        out["namespace", namespace.name] = {"labels": _list(f"{k}={v}" for k, v in namespace.labels)}
    for pod in cluster.pods if "pods" in covered else ():
        out["pod", f"{pod.namespace}/{pod.name}"] = {
            "": pod.phase, "on node": pod.node or "", "address": _list(pod.ips),
            "labels": _list(f"{k}={v}" for k, v in pod.labels),
            "hostPort": _list(f"{host_port}:{port}" for _, port, _, host_port, _ in pod.ports if host_port),
        }  # fmt: skip
    for item in cluster.nodes if "nodes" in covered else ():
        out["node", item.name] = {
            "address": _list(f"{kind} {text}" for kind, text in item.addresses), "pod network": _list(item.pod_cidrs),
            "zone": item.zone or "", "kube-proxy": item.kube_proxy_version or "",
        }  # fmt: skip
    return out


def _port_name(service: str, name: str, protocol: int) -> str:
    return f"{service}:{name} {_protocol(protocol)}" if name else f"{service} {_protocol(protocol)}"


def _protocol(number: int) -> str:
    return PROTOCOL_NAMES.get(number, str(number))


def _list(items: Iterable[object]) -> str:
    """Texts in an order of their own: that of the dump means nothing."""
    return ", ".join(sorted(map(str, items)))


def _policy(policy: NetworkPolicy) -> dict[str, str]:
    """A policy's selector and rules as texts that are equal where they mean the same."""
    return {
        "pods": _compact(policy.pods) or "all", "types": _list(policy.types),
        "ingress": _list(map(_compact, policy.ingress)), "egress": _list(map(_compact, policy.egress)),
    }  # fmt: skip


def _compact(value: object) -> str:
    """A frozen value in few words; a list in an order of its own."""
    if isinstance(value, tuple | list):
        return "; ".join(sorted(map(_compact, value)))
    if isinstance(value, Struct):
        parts = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return " ".join(f"{name}={{{_compact(part)}}}" for name, part in parts if part not in (None, "", False))
    return str(value)


# ---------------------------------------------------------------- a node


def _by_node(rows: Iterable[Programmed]) -> dict[str, list[Programmed]]:
    out: dict[str, list[Programmed]] = {}
    for row in rows:
        out.setdefault(row.node, []).append(row)
    return out


def _of_node(node: Node, covered: frozenset[str], rows: Iterable[Programmed]) -> _Things:
    out: dict[tuple[str, str], list[dict[str, str]]] = {}

    def put(kind: str, name: str, found: dict[str, str]) -> None:
        out.setdefault((kind, name), []).append(found)

    for row in rows:
        if _source_of(row) <= covered:
            put("programmed", _row_name(row), _row(row))
    for table in node.tables:
        if f"rules{table.family}" in covered:
            for name, rule in _rules(table):
                put("rule", f"{table.backend} {name} {rule}", {})
    for native in node.nft if "nft" in covered else ():
        if not _of_iptables(native, node):
            for name, rule in _nft_rules(native):
                put("rule", f"{name} {rule}", {})
    for each in node.sets if "ipset" in covered else ():
        entries = _list(" ".join(_VOLATILE.sub(" ", entry).split()) for entry in each.entries)
        put("set", each.name, {"type": each.kind, "holds": entries or "nothing"})
    for route in {replace(each, at=_NOWHERE): None for each in node.routes}:
        if f"route{route.dst.version}" in covered and not _made_by_kernel(route):
            put("route", _route_name(route), _route(route))
    for each_rule in node.rules:
        if f"rule{each_rule.family}" in covered:
            put("routing rule", _routing_rule(each_rule), {})
    for link in node.links if "link" in covered else ():
        name = _device(link)
        put("device", name, _device_fields(link) if name == link.name else {})
    for address in node.addresses if "addr" in covered else ():
        if address.dev != "kube-ipvs0" and not address.ip.is_link_local:
            name = f"{address.ip}/{address.prefixlen} on {_stable(address.dev, node)}"
            put("address", name, {"": "secondary" * address.secondary, "scope": address.scope})
    for setting in node.sysctls.values() if "sysctl" in covered else ():
        if not _PRIVATE.search(setting.name) and not setting.name.endswith("nf_conntrack_count"):
            put("sysctl", setting.name, {"": setting.value})
    return {key: _one(found) for key, found in out.items()}


_NOWHERE = At("")
_MANY = "how many"


def _one(found: list[dict[str, str]]) -> dict[str, str]:
    """Things of one name as one: a rule may be written twice, a route be in several tables."""
    if not any(found):
        return {_MANY: str(len(found))}
    if len(found) == 1:
        return found[0]
    told = Counter(_told(thing) for thing in found)
    return {"": "; ".join(text if count == 1 else f"{text} ({count} times)" for text, count in sorted(told.items()))}


_VOLATILE = re.compile(r" (?:timeout|packets|bytes) \d+")
_COUNTER = re.compile(r"\s*\bcounter packets \d+ bytes \d+")
_PRIVATE = re.compile(r"\.(?:veth|cali|lxc|tap|eni|azv|vethwe)[0-9a-f]{4,}[^.]*\.")
_POD_LINK = re.compile(r"^(?:veth|cali|lxc|tap|eni|azv|vethwe)[0-9a-f]{4,}")


def _stable(dev: str, node: Node) -> str:
    """The name of a device, without what is made up for each pod."""
    return "a pod's device" if _POD_LINK.match(dev) and any(link.name == dev for link in node.links) else dev


def _source_of(row: Programmed) -> set[str]:
    """The kinds of dumps that a row is read from."""
    versions = {row.ip.version} if row.ip is not None else {end.ip.version for end in row.backends}
    if row.mode == "nftables":
        return {"nft"}
    return {"ipvs"} if row.mode == "ipvs" else {f"rules{version}" for version in versions or {4}}


def _row_name(row: Programmed) -> str:
    host = "*" if row.ip is None else f"[{row.ip}]" if row.ip.version == 6 else str(row.ip)
    return f"{_port_name(row.service or 'no known Service', row.port_name, row.protocol)} {row.kind} {host}:{row.port}"


def _row(row: Programmed) -> dict[str, str]:
    ends = []
    for end in row.backends:
        host = f"[{end.ip}]" if end.ip.version == 6 else str(end.ip)
        share = (
            f" weight {end.weight}" if end.weight is not None else f" odds {end.odds}" if end.odds is not None else ""
        )
        ends.append(f"{host}:{end.port}{share}")
    affinity = "" if not row.affinity else "some" if row.affinity_seconds is None else f"{row.affinity_seconds} s"
    return {
        "goes to": _list(ends) or row.verdict or "nothing", "mode": row.mode, "policy": row.policy,
        "affinity": affinity, "scheduler": row.scheduler, "at addresses": _list(row.addresses),
    }  # fmt: skip


# ---------------------------------------------------------------- rules that are not a Service's

_PER_SERVICE = re.compile(r"^KUBE-(?:SVC|SVL|SEP|EXT|FW|XLB)-")
_LISTS = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL", "KUBE-NODE-PORT")
_KUBE_PROXY_NFT = "kube-proxy"


def _rules(table: Table) -> Iterator[tuple[str, str]]:
    """(table and chain, rule) of what no Service's row tells: chains of kube-proxy's Services are left out.

    A chain that only has another name in the other snapshot is told under a name made of what it holds.
    """
    family = "IPv4" if table.family == 4 else "IPv6"
    names = _Churned(table)
    for chains, text in sorted(_masqueraded(table)):
        yield f"{family} {table.name} {chains}:", text
    for name, chain in table.chains.items():
        if _PER_SERVICE.match(name):
            continue
        place = f"{family} {table.name} {names.of(name)}:"
        if chain.policy is not None and chain.policy != "-":
            yield place, f"policy {chain.policy}"
        for rule in chain.rules:
            if name in _LISTS and rule.comment is not None:
                continue
            yield place, names.text(rule.raw)


_OF_ONE = re.compile(
    r'^-A \S+| -m comment --comment (?:"[^"]*"|\S+)| -d \S+| -p \S+| -m (?:tcp|udp|sctp)\b| --dport \S+'
)


def _masqueraded(table: Table) -> set[tuple[str, str]]:
    """Which packets the chains of Services mark for masquerading: (kind of chain, conditions that hold for any)."""
    found: set[tuple[str, str]] = set()
    for name, chain in table.chains.items():
        kind = _PER_SERVICE.match(name)
        if kind is not None and kind[0] != "KUBE-SEP-":
            for rule in chain.rules.mentioning("-j KUBE-MARK-MASQ"):
                found.add((f"{kind[0]}*", " ".join(_OF_ONE.sub(" ", rule.raw).split())))
    return found


_HASHED = re.compile(r"(?<![\w-])((?:CNI-(?:DN-|SN-)?|KUBE-(?:NWPLCY|POD-FW)-|WEAVE-NPC-|cali-[a-z]+-)[\w-]{8,})")


class _Churned:
    """Chains with a hash for a name, which changes with what is hashed, under a name made of what they hold."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The name of a chain, or for a hashed one what it holds."""
        found = _HASHED.fullmatch(name)
        if found is None or name not in self._table.chains:
            return name
        if name not in self._known:
            self._known[name] = name  # a chain that leads back to itself
            body = sorted(
                self.text(rule.raw).partition(" ")[2].partition(" ")[2] for rule in self._table.chains[name].rules
            )
            prefix = re.match(r"[A-Za-z-]*-", name)
            self._known[name] = f"{prefix[0] if prefix else ''}<{'; '.join(body)}>"
        return self._known[name]

    def text(self, raw: str) -> str:
        """A rule without the hashes of chains."""
        return _HASHED.sub(lambda found: self.of(found[1]), raw)


def _of_iptables(native: NftTable, node: Node) -> bool:
    """Whether a table is iptables-nft's and in a dump of iptables-save too."""
    family = {"ip": 4, "ip6": 6}.get(native.family)
    return any(t.name == native.name and t.family == family and t.backend != "legacy" for t in node.tables)


def _nft_rules(native: NftTable) -> Iterator[tuple[str, str]]:
    """The rules, chains' hooks and elements of an nftables table; of kube-proxy's own those that no row tells."""
    own = native.name == _KUBE_PROXY_NFT and native.family in ("ip", "ip6")
    for chain in native.chains.values():
        if own and re.match(r"(?:service|external|endpoint|local|firewall)-", chain.name):
            continue
        place = f"nftables {native.family} {native.name} {chain.name}:"
        if chain.hook:
            yield place, f"type {chain.type} hook {chain.hook} priority {chain.priority} policy {chain.policy}"
        for rule in chain.rules:
            yield place, _COUNTER.sub("", rule.raw).strip()
    for each in native.sets.values() if not own else ():
        for element in each.elements if not each.dynamic else ():
            words = _compact(replace(element, expires=None))
            yield f"nftables {native.family} {native.name} @{each.name}:", words


# ---------------------------------------------------------------- routes, devices


def _made_by_kernel(route: Route) -> bool:
    """Routes that come with an address by themselves; the address is told."""
    own = route.table == "local" and route.protocol == "kernel"
    return own or route.dst.network_address.is_link_local or route.dst.is_multicast


def _route_name(route: Route) -> str:
    tos = f" tos {route.tos}" if route.tos else ""
    kind = "" if route.kind == "unicast" else f"{route.kind} "
    return f"{kind}{route.dst} table {route.table}{tos} metric {route.metric}"


def _route(route: Route) -> dict[str, str]:
    return {
        "goes": _list(map(_hop, route.nexthops)), "source": str(route.prefsrc or ""), "scope": route.scope,
        "flags": _list(route.flags),
    }  # fmt: skip


def _hop(hop: NextHop) -> str:
    via = f"via {hop.gateway} " if hop.gateway is not None else ""
    dev = _POD_LINK.sub("a pod's device", hop.dev or "no device")
    weight = f" weight {hop.weight}" if hop.weight != 1 else ""
    return f"{via}dev {dev}{weight}{' onlink' * hop.onlink}"


def _routing_rule(rule: RoutingRule) -> str:
    """A routing rule in the fields that it sets."""
    plain = RoutingRule(rule.priority, rule.family)
    set_: list[str] = []
    for name in RoutingRule.__struct_fields__:
        value: Any = getattr(rule, name)
        if name not in ("at", "priority", "family") and value != getattr(plain, name):
            set_.append(f"{name} {_compact(value)}")
    return f"IPv{rule.family} {rule.priority}: {' '.join(set_)}".rstrip(": ")


_LINK_FIELDS = ("kind", "mtu", "up", "master", "parent", "mode", "hairpin", "isolated", "port_state")


def _device(link: Link) -> str:
    """The name, or for the device of a pod (whose name is made up) what it is."""
    if not _POD_LINK.match(link.name):
        return link.name
    words = (f"{name} {text}" for name, text in _device_fields(link).items() if name != "master")
    return f"a pod's device on {link.master or 'no bridge'} ({_list(words)})"


def _device_fields(link: Link) -> dict[str, str]:
    found = {name: getattr(link, name) for name in _LINK_FIELDS}
    out = {name: str(value) for name, value in found.items() if value not in (None, "")}
    if link.detail is not None:
        out["detail"] = _compact(link.detail)
    return out
