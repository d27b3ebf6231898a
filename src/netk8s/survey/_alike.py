"""Which nodes are alike, so that one of them can stand for the others.

Two nodes are alike when what they hold is the same once their own addresses, pod networks and device names are put
aside. That is careful rather than clever: whatever differs in a way not foreseen here makes a node one of its own kind.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network

from netk8s import objects
from netk8s.model import Cluster, Net, Node, Programmed, World
from netk8s.survey._ports import Place, Port

_PER_SERVICE = re.compile(
    r"KUBE-(SVC|SVL|EXT|XLB|SEP)-[A-Z2-7]{16}$|KUBE-(SERVICES|NODEPORTS|EXTERNAL-SERVICES|PROXY-FIREWALL)$"
)
_SERVICE_SETS = re.compile(
    r"(service-ips|service-nodeports|no-endpoint-services|no-endpoint-nodeports|hairpin-connections|affinity-.*)$"
)
_ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?:/\d{1,3})?")
_VETH = re.compile(r"\b(?:veth|cali|lxc|eni|azv|gke|vnet|tap)[0-9a-f]{4,}\b")


def environment(node: Node, world: World) -> Hashable:
    """Everything of a node that is not about a single Service port."""
    own = _Own(node, world.cluster)
    return (
        tuple(sorted(_rules(node, own))),
        tuple(sorted(_nft(node, own))),
        tuple(sorted(_sets(node, own))),
        _links(node),
        _silent(node, world),
        _routes(node, world, own),
        tuple(sorted((a.dev, a.scope, a.prefixlen, a.secondary) for a in node.addresses if a.dev != "kube-ipvs0"
                     and not _VETH.search(a.dev))),
        tuple(sorted({(_VETH.sub("<veth>", s.name), s.value) for s in node.sysctls.values()})),
        node.covered - {"neigh", "fdb", "conntrack", "ipvs-counters"},
    )  # fmt: skip


def programming(rows: Iterable[Programmed], node: str, port: Port) -> Hashable:
    """How a node programs a Service port: endpoints of the node itself told apart from those of others."""
    mine = {place.ip for place in port.endpoints if place.node == node}
    out = []
    for row in rows:
        ends = [(end.ip, end.port, end.odds, end.weight) for end in row.backends]
        backends: Hashable = frozenset(ends)
        if ends and {ip for ip, *_ in ends} == mine and len(port.endpoints) > len(ends):
            # Endpoints of the node alone: the policy Local. Those of another node are as good.
            backends = ("own", tuple(sorted(str((p, odds, w)) for _, p, odds, w in ends)))
        addresses = len(row.addresses)
        out.append((row.mode, row.kind, str(row.ip), row.port, row.verdict, row.policy, row.affinity_seconds,
                    row.scheduler, addresses, backends))  # fmt: skip
    return tuple(sorted(out, key=str))


def hosts(port: Port, node: str, of: Node | None) -> Hashable:
    """Whether a node has endpoints of a port, in pods or as its own."""
    own = {a.ip for a in of.addresses} if of is not None else set()
    here: list[Place] = [place for place in port.endpoints if place.node == node]
    return (bool(here), any(place.ip in own for place in here))


# ---------------------------------------------------------------- texts without what is a node's own


class _Own:
    """Replaces what is a node's own in a text."""

    def __init__(self, node: Node, cluster: Cluster) -> None:
        self.addresses = {a.ip: f"<address {i}>" for i, a in enumerate(node.addresses) if a.dev != "kube-ipvs0"}
        for item in cluster.nodes:
            if item.name == node.name:
                for _, text in item.addresses:
                    try:
                        self.addresses.setdefault(ip_address(text), "<address>")
                    except ValueError:
                        continue
        # The pod network by the Node object, else that of a bridge or tunnel; the nodes' own network is not one's own.
        cidrs: list[Net] = [cidr for item in cluster.nodes if item.name == node.name for cidr in item.pod_cidrs]
        kinds = {link.name: link.kind for link in node.links}
        for a in node.addresses:
            if kinds.get(a.dev) == "bridge" and a.scope == "global" and a.prefixlen < a.ip.max_prefixlen:
                cidrs.append(ip_network(f"{a.ip}/{a.prefixlen}", strict=False))
        self.networks = tuple(dict.fromkeys(cidrs))

    def out_of(self, text: str) -> str:
        return _VETH.sub("<veth>", _ADDRESS.sub(self._one, text))

    def _one(self, found: re.Match[str]) -> str:
        host, _, bits = found[0].partition("/")
        try:
            ip = ip_address(host)
        except ValueError:
            return found[0]
        if ip in self.addresses and bits in ("", "32", "128"):
            return self.addresses[ip]
        for net in self.networks:
            if net.version == ip.version and ip in net:
                length = int(bits or net.max_prefixlen)
                if length == net.max_prefixlen:
                    return "<pod>"
                if length >= net.prefixlen:
                    return f"<pods/{bits}>"
        return found[0]


def _rules(node: Node, own: _Own) -> Iterator[str]:
    for table in node.tables:
        where = f"{table.family} {table.backend} {table.name}"
        for name in table.chains:
            if name != "KUBE-SERVICES" and _PER_SERVICE.match(name):
                continue
            chain = table.chains[name]
            if name == "KUBE-SERVICES":
                rules = [rule.raw for rule in chain.rules.mentioning("-j KUBE-NODEPORTS")]
            else:
                rules = [rule.raw for rule in chain.rules]
            yield own.out_of(f"{where} {name} {chain.policy} " + "\n".join(rules))


def _nft(node: Node, own: _Own) -> Iterator[str]:
    iptables = {({4: "ip", 6: "ip6"}.get(t.family), t.name) for t in node.tables if t.backend != "legacy"}
    for table in node.nft:
        if (table.family, table.name) in iptables:
            continue
        for name, chain in table.chains.items():
            if "/" not in name or name.startswith("firewall-"):
                text = "\n".join(rule.raw for rule in chain.rules)
                yield own.out_of(
                    f"{table.family} {table.name} {name} {chain.hook} {chain.priority} {chain.policy} {text}"
                )
        for name, found in table.sets.items():
            if not _SERVICE_SETS.match(name):
                text = "\n".join(sorted(str(e.key) + str(e.value) for e in found.elements))
                yield own.out_of(f"{table.family} {table.name} set {name} {text}")


def _sets(node: Node, own: _Own) -> Iterator[str]:
    for each in node.sets:
        if not each.name.startswith("KUBE-") or "-SOURCE-" in each.name or each.name.endswith("-FW"):
            yield own.out_of(f"{each.name} {each.kind} " + "\n".join(sorted(each.entries)))


def _links(node: Node) -> Hashable:
    return tuple(
        sorted({
            ("<veth>" if link.kind == "veth" or _VETH.search(link.name) else link.name, link.kind, link.up,
             link.carries, str(link.master), str(link.hairpin), str(link.isolated), str(link.mode))
            for link in node.links
        })
    )  # fmt: skip


def _silent(node: Node, world: World) -> Hashable:
    """Whom a node has found silent of those that packets are for: pods, nodes, its gateways."""
    failed = {n.ip for n in node.neighbours if n.silent}
    if not failed:
        return frozenset()
    nodes = _nodes_addresses(world)
    gateways = {hop.gateway for route in node.routes for hop in route.nexthops}
    known = objects.of(world.cluster)
    return frozenset(
        ip for ip in failed if ip in gateways or str(ip) in nodes or known.pods_at(ip) or known.endpoints_at(ip)
    )


def _routes(node: Node, world: World, own: _Own) -> Hashable:
    """Routes by what they are for; those to other nodes' pods as one, for a node has them to all others but itself."""
    others: dict[object, str] = {}
    for item in world.cluster.nodes:
        if item.name != node.name:
            others.update(dict.fromkeys(item.pod_cidrs, item.name))
    addresses = {str(ip): name for ip, name in _nodes_addresses(world).items()}
    reached, out = {}, set()
    for route in node.routes:
        if route.table == "local":
            continue
        hops = tuple((hop.dev, str(hop.gateway)) for hop in route.nexthops)
        target = others.get(route.dst)
        if target is not None:
            # By the node's own address, or by an address in its pod network (a tunnel's).
            via = tuple(
                (dev, "the node" if addresses.get(gateway) == target else "its tunnel"
                 if gateway != "None" and ip_address(gateway) in route.dst else gateway)
                for dev, gateway in hops
            )  # fmt: skip
            reached[target] = (route.kind, via, route.metric)
        else:
            devices = tuple((_VETH.sub("<veth>", str(dev)), own.out_of(gateway)) for dev, gateway in hops)
            prefsrc = own.out_of(str(route.prefsrc))
            if devices and devices[0][0].startswith("<veth>"):
                continue
            out.add((own.out_of(str(route.dst)), route.kind, devices, route.table, prefsrc, route.metric))
    names = {item.name for item in world.cluster.nodes if item.pod_cidrs and item.name != node.name}
    lacking = len(names - set(reached)) if reached else -1
    rules = tuple(own.out_of(str((r.priority, r.action, r.table, str(r.src), str(r.dst), r.iif, r.oif, r.fwmark, r.fwmask,
                                  r.negated))) for r in node.rules)  # fmt: skip
    return (frozenset(reached.values()), lacking, frozenset(out), rules)


def _nodes_addresses(world: World) -> Mapping[object, str]:
    out: dict[object, str] = {}
    for item in world.cluster.nodes:
        for _, text in item.addresses:
            out[text] = item.name
    return out
