"""The words of the command line -> one flow: which packet, from where, entering which node."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from netk8s import plugins
from netk8s.dialects import kube_proxy_iptables, kube_proxy_ipvs
from netk8s.errors import NotFound, UsageError
from netk8s.model import (
    PROTOCOL_NAMES,
    TCP,
    Addr,
    Ask,
    ClusterNode,
    Flow,
    Node,
    Packet,
    Pod,
    Programmed,
    ServicePort,
    World,
    service_ranges,
)

# Documentation networks (RFC 5737, RFC 3849): addresses that stand for one no dump tells, and are nobody's.
CLIENT: dict[int, Addr] = {4: ip_address("198.51.100.10"), 6: ip_address("2001:db8:c::10")}
NODE: dict[int, Addr] = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8:a::1")}
POD: dict[int, Addr] = {4: ip_address("192.0.2.250"), 6: ip_address("2001:db8:b::250")}
UNSPECIFIED: dict[int, Addr] = {4: IPv4Address(0), 6: IPv6Address(0)}
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True, slots=True)
class _Dialled:
    """What is dialled: ``ip`` None for a NodePort, which every node answers."""

    ip: Addr | None
    port: int
    protocol: int
    kind: str
    service: str | None = None
    owner: str | None = None

    def __str__(self) -> str:
        name = {"nodeport": "NodePort", "clusterip": "Service port", "hostport": "hostPort"}.get(self.kind, self.kind)
        return f"{name} {self.port}/{PROTOCOL_NAMES[self.protocol]}"


def resolve(world: World, ask: Ask) -> Flow:
    """The flow that the words ask for.

    Raises UsageError for contradictory or ambiguous words, NotFound for a name that is not there.
    """
    notes: list[str] = []
    protocol = _protocol(ask.protocol)
    for name in (ask.via, ask.node):
        if name is not None and name not in world.nodes and name not in {n.name for n in world.cluster.nodes}:
            raise NotFound(f"node {name}", _near(name, _node_names(world)))
    dialled = _target(world, ask, protocol, notes)
    return _flow(world, ask, dialled, notes)


def _protocol(word: str | None) -> int | None:
    if word is None:
        return None
    if word.lower() not in _PROTOCOLS:
        raise UsageError(f"unknown protocol {word}", sorted(_PROTOCOLS))
    return _PROTOCOLS[word.lower()]


def _near(name: str, names: Iterable[str]) -> list[str]:
    pool = list(dict.fromkeys(names))
    close = difflib.get_close_matches(name, pool, n=5, cutoff=0.5)
    last = name.rpartition("/")[2]
    return close or [n for n in pool if n.rpartition("/")[2] == last][:5] or pool[:5]


def _node_names(world: World) -> list[str]:
    return list(dict.fromkeys([*world.nodes, *(n.name for n in world.cluster.nodes)]))


# ---------------------------------------------------------------- the target


def _target(world: World, ask: Ask, protocol: int | None, notes: list[str]) -> _Dialled:
    word, _, rest = ask.target.partition("/")
    kind = {"svc": "svc", "service": "svc", "services": "svc", "pod": "pod", "po": "pod", "pods": "pod",
            "node": "node", "no": "node", "nodes": "node"}.get(word) if rest else None  # fmt: skip
    if kind == "svc":
        return _service(world, ask, rest, protocol, notes)
    if kind == "pod":
        return _pod_target(_pod(world, rest, ask.namespace), ask, protocol, world)
    if kind == "node":
        port = _number(ask.port)
        if port is None:
            raise UsageError(f"{ask.target} needs --port with a number")
        ip = _node_address(world, rest, _family_of(ask.source), notes)
        return _Dialled(ip, port, protocol or TCP, "address", owner=rest)
    return _address(world, ask, protocol)


def _number(text: str | None) -> int | None:
    if text is None or not text.isdecimal():
        return None
    if not 0 < int(text) < 65536:
        raise UsageError(f"port {text} is not between 1 and 65535")
    return int(text)


def _address(world: World, ask: Ask, protocol: int | None) -> _Dialled:
    text = ask.target
    host, port = text, ask.port
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise UsageError(f"{text}: expected [IPv6]:PORT")
        port = tail[1:] or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if ask.port is not None and port != ask.port:
        raise UsageError(f"{text} names a port and --port names another ({ask.port})")
    try:
        ip = ip_address(host)
    except ValueError:
        raise UsageError(
            f"{text} is no target; expected svc/NAME, svc/NAMESPACE/NAME, pod/NAMESPACE/NAME, node/NAME, IP:PORT or "
            "[IPv6]:PORT"
        ) from None
    number = _number(port)
    if number is None:
        shown = f"[{ip}]:PORT" if ip.version == 6 else f"{ip}:PORT"
        raise UsageError(f"{text} needs a port: {shown} or --port PORT")
    kind, service = _kind_of(world, ip, number)
    return _Dialled(ip, number, protocol or TCP, kind, service)


def _kind_of(world: World, ip: Addr, port: int) -> tuple[str, str | None]:
    """What an address is to the cluster: (kind, "namespace/name" of its Service)."""
    for service in world.cluster.services:
        name = f"{service.namespace}/{service.service}"
        if ip in service.cluster_ips:
            return "clusterip", name
        if ip in service.lb_ips or ip in service.lb_ips_proxy:
            return "loadbalancer", name
        if ip in service.external_ips:
            return "external-ip", name
    if any(ip in pod.ips and not pod.host_network for pod in world.cluster.pods):
        return "pod", None
    if _owner(world, ip) is not None:
        nodeport = next((s for s in world.cluster.services if s.node_port == port), None)
        return ("nodeport", f"{nodeport.namespace}/{nodeport.service}") if nodeport else ("address", None)
    if "services" not in world.cluster.covered:
        for row in _rows(world, f"-d {ip}/", None):
            if row.ip == ip:
                kind = {"ClusterIP": "clusterip", "LoadBalancer": "loadbalancer", "ExternalIP": "external-ip"}
                return kind.get(row.kind, "address"), row.service or None
    return "address", None


def _rows(world: World, mention: str, port: int | None) -> list[Programmed]:
    return [
        row
        for node in world.nodes.values()
        for dialect in plugins.modules("netk8s.dialects")
        if hasattr(dialect, "programmed")
        for row in dialect.programmed(node, world.cluster, mention, port)
    ]


def _service(world: World, ask: Ask, words: str, protocol: int | None, notes: list[str]) -> _Dialled:
    namespace, slash, name = words.partition("/")
    if not slash:
        namespace, name = ask.namespace or "default", words
    elif ask.namespace and ask.namespace != namespace:
        raise UsageError(f"svc/{words} names namespace {namespace} and --namespace names {ask.namespace}")
    full = f"{namespace}/{name}"
    if "services" in world.cluster.covered:
        ports = [s for s in world.cluster.services if (s.namespace, s.service) == (namespace, name)]
        if not ports:
            names = [f"{s.namespace}/{s.service}" for s in world.cluster.services]
            raise NotFound(f"service {full}", [f"svc/{n}" for n in _near(full, names)])
        return _choose(ask, full, _dialled_by_objects(ports, _family_of(ask.source)), protocol)
    rows = _rows(world, full, None)
    rows = [row for row in rows if row.service == full]
    if not rows:
        rows = _by_hash(world, full, protocol) or _nameless(world, ask, full, notes)
    if not rows and any(node.virtual_servers for node in world.nodes.values()):
        why = f"service {full}: virtual servers carry no names; add kubectl get services -A -o json, or dial IP:PORT"
        raise NotFound(f"service {full}", (), why)
    if not rows:
        raise NotFound(f"service {full} in the rules", [f"svc/{n}" for n in _near(full, _all_names(world))])
    return _choose(ask, full, _dialled_by_rules(rows, _family_of(ask.source)), protocol)


def _by_hash(world: World, full: str, protocol: int | None) -> list[Programmed]:
    """Rows of a Service whose comments are missing, by the hash of its unnamed port."""
    out = []
    for number in (protocol,) if protocol else (6, 17, 132):
        for colon in (False, True):
            digest = kube_proxy_iptables.chain_hash(full, "", PROTOCOL_NAMES[number], colon=colon)
            out.extend(_rows(world, digest, None))
    return out


def _nameless(world: World, ask: Ask, full: str, notes: list[str]) -> list[Programmed]:
    """NodePort rows of that port where the node has no Service names at all (IPVS without the API's objects)."""
    number = _number(ask.port)
    rows = [row for row in _rows(world, "", number) if row.kind == "NodePort"] if number is not None else []
    if not rows or any(row.service for row in rows):
        return []
    notes.append(f"no dump names Services: NodePort {number} is taken to be that of {full}")
    return [replace(row, service=full) for row in rows]


def _all_names(world: World) -> list[str]:
    return [row.service for row in _rows(world, "", None) if row.service]


@dataclass(frozen=True, slots=True)
class _Choice:
    dialled: _Dialled
    port_name: str


def _dialled_by_objects(ports: list[ServicePort], family: int | None) -> list[_Choice]:
    out = []
    for s in ports:
        full = f"{s.namespace}/{s.service}"
        if s.node_port is not None:
            out.append(_Choice(_Dialled(None, s.node_port, s.protocol, "nodeport", full), s.name))
        ips = [ip for ip in s.cluster_ips if family in (None, ip.version)]
        if ips:
            out.append(_Choice(_Dialled(ips[0], s.port, s.protocol, "clusterip", full), s.name))
    return out


def _dialled_by_rules(rows: list[Programmed], family: int | None) -> list[_Choice]:
    """What the rules program. A port of both families is dialled in the sender's, else in IPv4."""
    out: dict[_Dialled, _Choice] = {}
    for row in sorted(rows, key=lambda row: row.ip is not None and row.ip.version != (family or 4)):
        kind = {"NodePort": "nodeport", "ClusterIP": "clusterip"}.get(row.kind)
        if kind is not None:
            dialled = _Dialled(row.ip, row.port, row.protocol, kind, row.service)
            out.setdefault(replace(dialled, ip=None), _Choice(dialled, row.port_name))
    return list(out.values())


def _choose(ask: Ask, full: str, choices: list[_Choice], protocol: int | None) -> _Dialled:
    """The one thing of a Service that --port and --protocol mean."""
    if not choices:
        why = f"service {full} is headless: it has no address to dial; trace to one of its pods (pod/NAMESPACE/NAME)"
        raise NotFound(f"service {full}", (), why)
    fitting = [c for c in choices if protocol in (None, c.dialled.protocol)]
    listed = [_offer(c) for c in choices]
    if ask.port is None:
        fitting = [c for c in fitting if c.dialled.kind == "clusterip"]
        if len(fitting) != 1:
            raise UsageError(f"svc/{full} has several ports; choose one with --port", listed)
        return fitting[0].dialled
    number = _number(ask.port)
    if number is not None:
        fitting = [c for c in fitting if c.dialled.port == number]
    else:
        fitting = [c for c in fitting if c.port_name == ask.port and c.dialled.kind == "clusterip"]
    if not fitting:
        raise NotFound(f"port {ask.port} of service {full}", listed)
    if len(fitting) > 1:
        raise UsageError(
            f"--port {ask.port} of svc/{full} is ambiguous; add --protocol, or give IP:PORT as the target",
            [_offer(c) for c in fitting],
        )
    return fitting[0].dialled


def _offer(choice: _Choice) -> str:
    name = f" ({choice.port_name})" if choice.port_name else ""
    return f"{choice.dialled}{name}"


def _pod(world: World, words: str, namespace: str | None) -> Pod:
    first, slash, name = words.partition("/")
    space, name = (first, name) if slash else (namespace or "default", first)
    for pod in world.cluster.pods:
        if (pod.namespace, pod.name) == (space, name):
            return pod
    names = [f"{p.namespace}/{p.name}" for p in world.cluster.pods]
    why = (
        ""
        if "pods" in world.cluster.covered
        else f"pod {space}/{name}: the dumps have no list of pods (kubectl get pods -A -o json)"
    )
    raise NotFound(f"pod {space}/{name}", [f"pod/{n}" for n in _near(f"{space}/{name}", names)], why)


def _pod_target(pod: Pod, ask: Ask, protocol: int | None, world: World) -> _Dialled:
    full = f"{pod.namespace}/{pod.name}"
    family = _family_of(ask.source)
    ips = [ip for ip in pod.ips if family in (None, ip.version)]
    if not ips:
        raise NotFound(f"an address of pod {full}")
    declared = [p for p in pod.ports if protocol in (None, p[2])]
    number = _number(ask.port)
    if ask.port is None and len(declared) == 1:
        number = declared[0][1]
    elif ask.port is not None and number is None:
        number = next((p[1] for p in declared if p[0] == ask.port), None)
    offers = [f"{p[1]}{f' ({p[0]})' if p[0] else ''}{f', hostPort {p[3]}' if p[3] else ''}" for p in declared]
    if number is None:
        raise UsageError(f"pod/{full} needs --port", offers)
    hosted = next((p for p in declared if p[3] == number and p[1] != number), None)
    if hosted is not None and not pod.host_network:
        return _Dialled(None, number, hosted[2], "hostport", owner=pod.node)
    found = next((p[2] for p in declared if p[1] == number), TCP)
    return _Dialled(ips[0], number, protocol or found, "pod", owner=pod.node)


# ---------------------------------------------------------------- nodes and their addresses


def _family_of(source: str | None) -> int | None:
    try:
        return ip_address(source).version if source else None
    except ValueError:
        return None


def _owner(world: World, ip: Addr) -> str | None:
    """The node that has an address, by its dumps, else by the Node objects."""
    for name, node in world.nodes.items():
        # Every node has the virtual addresses that IPVS balances: they say nothing of whose an address is.
        if any(a.ip == ip and a.dev != kube_proxy_ipvs.DEVICE for a in node.addresses):
            return name
    for item in world.cluster.nodes:
        if any(text == str(ip) for _, text in item.addresses):
            return item.name
    return None


def _object(world: World, name: str) -> ClusterNode | None:
    return next((n for n in world.cluster.nodes if n.name == name), None)


def _node_address(world: World, name: str, family: int | None, notes: list[str]) -> Addr:
    """A node's own address: InternalIP, else the first address of the device of its default route, else a stand-in."""
    item = _object(world, name)
    if item is None and name not in world.nodes:
        raise NotFound(f"node {name}", [f"node/{n}" for n in _near(name, _node_names(world))])
    for kind in ("InternalIP", "ExternalIP"):
        for what, text in item.addresses if item else ():
            if what == kind:
                try:
                    ip = ip_address(text)
                except ValueError:
                    continue
                if family in (None, ip.version):
                    return ip
    node = world.nodes.get(name)
    if node is not None:
        devices = [h.dev for r in node.routes if r.dst.prefixlen == 0 and r.table == "main" for h in r.nexthops]
        for device in devices:
            for address in node.addresses:
                if address.dev == device and address.scope == "global" and family in (None, address.ip.version):
                    return address.ip
        for ip in _programmed_addresses(node) if not node.addresses else ():
            if family in (None, ip.version):
                return ip
    return NODE[family or 4]


def _client_address(world: World, name: str, family: int, notes: list[str]) -> Addr:
    """An outside address: a documentation address; for a node without default route a free one of its own network."""
    node = world.nodes.get(name)
    routes = [r for r in node.routes if r.dst.version == family and r.table == "main"] if node else []
    if routes and not any(r.dst.prefixlen == 0 for r in routes) and node is not None:
        taken = {a.ip for n in world.nodes.values() for a in n.addresses}
        mine = _node_address(world, name, family, [])
        for address in node.addresses:
            if address.ip == mine and address.prefixlen < address.ip.max_prefixlen - 2:
                net = ip_network(f"{address.ip}/{address.prefixlen}", strict=False)
                for i in range(2, min(net.num_addresses - 1, 4096)):
                    ip = net[-i]
                    if ip not in taken:
                        notes.append(f"{ip} stands for a client in {net}: {name} has no default route")
                        return ip
    notes.append(f"{CLIENT[family]} stands for a client outside the cluster; give its address with --from")
    return CLIENT[family]


# ---------------------------------------------------------------- the flow


def _flow(world: World, ask: Ask, dialled: _Dialled, notes: list[str]) -> Flow:
    source = ask.source or _default_source(world, ask, dialled, notes)
    origin, start, src, pod = _sender(world, ask, source)
    family = (
        dialled.ip.version if dialled.ip is not None else src.version if src is not None else _family_of_nodes(world)
    )
    stand_ins: list[tuple[Addr, str]] = []
    entry = ask.via or ask.node
    if origin == "outside":
        node = _entry(world, ask, dialled, notes)
    else:
        assert start is not None  # noqa: S101 - _sender names the node of everything but an outside sender
        node = start
    dst = dialled.ip
    if dst is None:
        at = (dialled.owner if dialled.kind == "hostport" and entry is None else entry) or node
        dst = _node_address(world, at, family, notes)
        if dst == NODE[family]:
            notes.append(f"{dst} stands for an address of {at}, which no dump tells")
            stand_ins.append((dst, f"node/{at}"))
    if src is not None and src.version != dst.version:
        raise UsageError(f"{source} is of IPv{src.version} and {dst} of IPv{dst.version}")
    if src is None:
        if origin == "outside":
            src = _client_address(world, node, dst.version, notes)
            stand_ins.append((src, "client"))
        elif origin == "pod":
            src = _pod_address(world, node, pod, dst, notes)
            if pod is None:
                stand_ins.append((src, "pod"))
        else:
            src = UNSPECIFIED[dst.version]
    packet = Packet(dialled.protocol, src, dst, None, dialled.port)
    if dialled.protocol != TCP:
        packet = packet.replace(tcp_flags=frozenset())
    name = f"{pod.namespace}/{pod.name}" if pod is not None else None
    inside = dialled.kind in ("clusterip", "pod") or _in_service_range(world, dst)
    routed = not (origin == "outside" and inside and entry is None)
    return Flow(
        ask.target, source, origin, node, packet, name, None, dialled.service, dialled.kind, tuple(notes),
        tuple(stand_ins), routed, _owned(world),
    )  # fmt: skip


def _owned(world: World) -> tuple[tuple[Addr, str], ...]:
    """The addresses that rules say are a node's, where no dump lists them."""
    return tuple(
        (ip, name)
        for name, node in world.nodes.items()
        if "addr" not in node.covered
        for ip in _programmed_addresses(node)
    )


def _programmed_addresses(node: Node) -> list[Addr]:
    dialects = [d for d in plugins.modules("netk8s.dialects") if hasattr(d, "node_addresses")]
    return [ip for dialect in dialects for ip in dialect.node_addresses(node)]


def _in_service_range(world: World, ip: Addr) -> bool:
    return any(ip.version == net.version and ip in net for net in service_ranges(world.cluster.services))


def _family_of_nodes(world: World) -> int:
    for node in world.cluster.nodes:
        for _, text in node.addresses:
            try:
                return ip_address(text).version
            except ValueError:
                continue
    families = {t.family for n in world.nodes.values() for t in n.tables}
    families |= {{"ip": 4, "ip6": 6}.get(t.family, 4) for n in world.nodes.values() for t in n.nft}
    return 6 if families == {6} else 4


def _default_source(world: World, ask: Ask, dialled: _Dialled, notes: list[str]) -> str:
    """Who dials when nobody says: a client for what is meant for the outside, else a pod, else a node."""
    if dialled.kind in ("nodeport", "loadbalancer", "external-ip", "hostport"):
        return "client"
    if dialled.kind == "address" and dialled.ip is not None and _owner(world, dialled.ip) is not None:
        return "client"
    start = ask.node or ask.via
    endpoints = {e.ip for e in world.cluster.endpoints if f"{e.namespace}/{e.service}" == dialled.service}
    serving = {e.ip for e in world.cluster.endpoints}
    fitting = [
        pod
        for pod in world.cluster.pods
        if not pod.host_network
        and pod.phase not in ("Succeeded", "Failed")
        and pod.ips
        and not endpoints & set(pod.ips)
        and dialled.ip not in pod.ips
        and pod.node in world.nodes
        and start in (None, pod.node)
    ]
    # A pod that serves nothing is the likelier client.
    for pod in sorted(fitting, key=lambda p: bool(serving & set(p.ips))):
        notes.append(f"pod/{pod.namespace}/{pod.name} is taken as the sender; choose with --from")
        return f"pod/{pod.namespace}/{pod.name}"
    node = start or next(iter(world.nodes), None)
    if node is None:
        raise UsageError("the dumps hold the cluster's objects and no node's rules; add a node's iptables-save")
    if "pods" not in world.cluster.covered and not world.nodes[node].addresses:
        return "pod"
    notes.append(f"node/{node} is taken as the sender; choose with --from")
    return f"node/{node}"


def _sender(world: World, ask: Ask, source: str) -> tuple[str, str | None, Addr | None, Pod | None]:
    """(origin, node it starts on, source address, pod)."""
    word, _, rest = source.partition("/")
    if source == "client":
        return "outside", None, None, None
    if source == "pod":
        return "pod", ask.node or ask.via or next(iter(world.nodes)), None, None
    if rest and word in ("pod", "po", "pods"):
        return _from_pod(world, _pod(world, rest, ask.namespace), None)
    if rest and word in ("node", "no", "nodes"):
        if rest not in world.nodes:
            names = [f"node/{n}" for n in _near(rest, world.nodes)]
            known = rest in _node_names(world)
            raise NotFound(
                f"node {rest}", names, f"no dump of node {rest}, where the packet would start" if known else ""
            )
        return "node", rest, None, None
    try:
        ip = ip_address(source)
    except ValueError:
        raise UsageError(f"--from {source}: expected client, an IP, pod/NAMESPACE/NAME or node/NAME") from None
    for pod in world.cluster.pods:
        if ip in pod.ips and not pod.host_network and pod.phase not in ("Succeeded", "Failed"):
            return _from_pod(world, pod, ip)
    owner = _owner(world, ip)
    if owner is not None and owner in world.nodes:
        return "node", owner, ip, None
    if ip.is_loopback:
        return "node", ask.node or ask.via or next(iter(world.nodes)), ip, None
    return "outside", None, ip, None


def _from_pod(world: World, pod: Pod, ip: Addr | None) -> tuple[str, str | None, Addr | None, Pod | None]:
    full = f"{pod.namespace}/{pod.name}"
    if pod.node is None or pod.node not in world.nodes:
        raise NotFound(f"pod {full}", (), f"no dump of node {pod.node}, where pod {full} runs")
    if pod.host_network:
        return "node", pod.node, None, pod
    return "pod", pod.node, ip, pod


def _pod_address(world: World, node: str, pod: Pod | None, dst: Addr, notes: list[str]) -> Addr:
    if pod is not None:
        for ip in pod.ips:
            if ip.version == dst.version:
                return ip
        raise UsageError(f"pod {pod.namespace}/{pod.name} has no IPv{dst.version} address, and {dst} is one")
    network = _pod_network(world.nodes[node], dst.version)
    address = POD[dst.version]
    if network is not None:
        net = ip_network(network, strict=False)
        if net.num_addresses > 4:
            address = net[-3]
    notes.append(f"{address} stands for a pod on {node} that is none of the endpoints; give one with --from")
    return address


def _pod_network(node: Node, family: int) -> str | None:
    found = (d.pod_network(node, family) for d in plugins.modules("netk8s.dialects") if hasattr(d, "pod_network"))
    return next((network for network in found if network is not None), None)


def _entry(world: World, ask: Ask, dialled: _Dialled, notes: list[str]) -> str:
    """The node an outside packet enters at."""
    if ask.via is not None or ask.node is not None:
        return ask.via or ask.node or ""
    if dialled.owner is not None and dialled.kind in ("hostport", "address"):
        return dialled.owner
    if dialled.ip is not None:
        owner = _owner(world, dialled.ip)
        if owner is not None:
            return owner
    if not world.nodes:
        raise UsageError("the dumps hold the cluster's objects and no node's rules; add a node's iptables-save")
    names = list(world.nodes)
    if len(names) > 1 and dialled.kind not in ("clusterip", "pod"):
        notes.append(f"the packet is taken to enter at {names[0]}; choose with --via ({', '.join(names[1:6])})")
    return names[0]
