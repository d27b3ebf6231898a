"""``svc/NAME``: which of a Service's ports is meant, by the API's objects, else by the rules."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from netk8s import plugins
from netk8s.dialects import kube_proxy_iptables
from netk8s.dialects._question.addresses import OUTSIDE
from netk8s.dialects._question.dialled import Dialled
from netk8s.dialects._question.names import family_of, near, no_rules, port_number
from netk8s.errors import NotFound, UsageError
from netk8s.model import PROTOCOL_NAMES, TCP, Ask, ExternalName, Programmed, ServicePort, World


def service_name(ask: Ask) -> tuple[str, str] | None:
    """(namespace, name) of the Service that is the target, None when the target is something else."""
    word, _, words = ask.target.partition("/")
    return _named(ask, words) if words and word in ("svc", "service", "services") else None


def _named(ask: Ask, words: str) -> tuple[str, str]:
    namespace, slash, name = words.partition("/")
    if not slash:
        return ask.namespace or "default", words
    if ask.namespace and ask.namespace != namespace:
        raise UsageError(f"svc/{words} names namespace {namespace} and --namespace names {ask.namespace}")
    return namespace, name


def dial_service(world: World, ask: Ask, words: str, protocol: int | None, notes: list[str]) -> Dialled:
    namespace, name = _named(ask, words)
    full = f"{namespace}/{name}"
    if "services" in world.cluster.covered:
        ports = [s for s in world.cluster.services if (s.namespace, s.service) == (namespace, name)]
        elsewhere = next(
            (e for e in world.cluster.external_names if (e.namespace, e.service) == (namespace, name)), None
        )
        if elsewhere is not None:
            return _external_name(ask, elsewhere, protocol, notes)
        if not ports:
            names = [f"{s.namespace}/{s.service}" for s in world.cluster.services]
            names += [f"{e.namespace}/{e.service}" for e in world.cluster.external_names]
            raise NotFound(f"service {full}", [f"svc/{n}" for n in near(full, names)])
        ips = ports[0].cluster_ips
        by_node = port_number(ask.port) in {p for s in ports for p in (s.node_port, s.health_check_node_port) if p}
        if ask.family in ("4", "6") and ips and not by_node and not any(str(ip.version) == ask.family for ip in ips):
            raise NotFound(f"IPv{ask.family}", (), f"service {full} has no IPv{ask.family} address")
        return _choose(ask, full, _dialled_by_objects(ports, family_of(ask)), protocol)
    rows = rows_of(world, full, None)
    rows = [row for row in rows if row.service == full]
    if not rows:
        rows = _by_hash(world, full, protocol) or _nameless(world, ask, full, notes)
    if not rows and any(node.virtual_servers for node in world.nodes.values()):
        why = f"service {full}: virtual servers carry no names; add kubectl get services -A -o json, or dial IP:PORT"
        raise NotFound(f"service {full}", (), why)
    if not rows and not any({"rules4", "rules6", "nft"} & node.covered for node in world.nodes.values()):
        raise no_rules(world)
    if not rows:
        raise NotFound(f"service {full} in the rules", [f"svc/{n}" for n in near(full, _all_names(world))])
    if ask.family in ("4", "6"):
        rows = [row for row in rows if row.ip is None or str(row.ip.version) == ask.family]
        if not rows:
            raise NotFound(f"IPv{ask.family}", (), f"no rule is for an IPv{ask.family} address of service {full}")
    return _choose(ask, full, _dialled_by_rules(rows, family_of(ask)), protocol)


def rows_of(world: World, mention: str, node_port: int | None) -> list[Programmed]:
    return [
        row
        for node in world.nodes.values()
        for dialect in plugins.modules("netk8s.dialects")
        if hasattr(dialect, "programmed")
        for row in dialect.programmed(node, world.cluster, mention, node_port)
    ]


def _external_name(ask: Ask, service: ExternalName, protocol: int | None, notes: list[str]) -> Dialled:
    """An address that stands for the name elsewhere: no rule is made of such a Service."""
    full = f"{service.namespace}/{service.service}"
    ports = [p for p in service.ports if protocol in (None, p[1])]
    fitting = ports if ask.port is None else [p for p in ports if ask.port in (p[0], str(p[2]))]
    number = port_number(ask.port)
    if number is None and len(fitting) != 1:
        offers = [f"{p[2]}/{PROTOCOL_NAMES[p[1]]}{f' ({p[0]})' if p[0] else ''}" for p in ports]
        raise UsageError(f"svc/{full} is the name {service.host} elsewhere; choose a port with --port", offers)
    found = fitting[0] if fitting else ("", protocol or TCP, number or 0)
    ip = OUTSIDE[family_of(ask) or 4]
    notes.append(f"{ip} stands for {service.host}: svc/{full} is a CNAME to it, and no dump tells its address")
    return Dialled(ip, found[2] if number is None else number, found[1], "address", stands_for=service.host)


def _by_hash(world: World, full: str, protocol: int | None) -> list[Programmed]:
    """Rows of a Service whose comments are missing, by the hash of its unnamed port."""
    out = []
    for number in (protocol,) if protocol else (6, 17, 132):
        for colon in (False, True):
            digest = kube_proxy_iptables.chain_hash(full, "", PROTOCOL_NAMES[number], colon=colon)
            out.extend(rows_of(world, digest, None))
    return out


def _nameless(world: World, ask: Ask, full: str, notes: list[str]) -> list[Programmed]:
    """NodePort rows of that port where the node has no Service names at all (IPVS without the API's objects)."""
    number = port_number(ask.port)
    rows = rows_of(world, "", number) if number is not None else []
    if not rows or any(row.service for row in rows):
        return []
    notes.append(f"no dump names Services: NodePort {number} is taken to be that of {full}")
    return [replace(row, service=full) for row in rows]


def _all_names(world: World) -> list[str]:
    out: dict[str, None] = {}
    for node in world.nodes.values():
        for dialect in plugins.modules("netk8s.dialects"):
            if hasattr(dialect, "services"):
                out.update(dict.fromkeys(dialect.services(node, world.cluster)))
            elif hasattr(dialect, "programmed"):
                out.update(dict.fromkeys(row.service for row in dialect.programmed(node, world.cluster) if row.service))
    return list(out)


class _Choice(Struct, frozen=True):
    dialled: Dialled
    port_name: str


def _dialled_by_objects(ports: list[ServicePort], family: int | None) -> list[_Choice]:
    out = []
    for s in ports:
        full = f"{s.namespace}/{s.service}"
        families = tuple(ip.version for ip in s.cluster_ips)
        if s.node_port is not None:
            out.append(_Choice(Dialled(None, s.node_port, s.protocol, "nodeport", full, families=families), s.name))
        check = s.health_check_node_port
        if check is not None and not any(c.dialled.kind == "healthcheck" for c in out):
            out.append(_Choice(Dialled(None, check, TCP, "healthcheck", full), ""))
        ips = [ip for ip in s.cluster_ips if family in (None, ip.version)]
        if ips:
            out.append(_Choice(Dialled(ips[0], s.port, s.protocol, "clusterip", full), s.name))
    return out


def _dialled_by_rules(rows: list[Programmed], family: int | None) -> list[_Choice]:
    """What the rules program. A port of both families is dialled in the sender's, else in IPv4."""
    out: dict[Dialled, _Choice] = {}
    families: dict[int, set[int]] = {}
    for row in rows:
        if row.kind == "NodePort":
            families.setdefault(row.port, set()).update(b.ip.version for b in row.backends)
    for row in sorted(rows, key=lambda row: row.ip is not None and row.ip.version != (family or 4)):
        kind = {"NodePort": "nodeport", "ClusterIP": "clusterip"}.get(row.kind)
        if kind is not None:
            served = tuple(sorted(families[row.port])) if kind == "nodeport" else ()
            dialled = Dialled(row.ip, row.port, row.protocol, kind, row.service, families=served)
            out.setdefault(replace(dialled, ip=None), _Choice(dialled, row.port_name))
    return list(out.values())


def _choose(ask: Ask, full: str, choices: list[_Choice], protocol: int | None) -> Dialled:
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
    number = port_number(ask.port)
    if number is not None:
        fitting = [c for c in fitting if c.dialled.port == number]
    else:
        fitting = [c for c in fitting if c.port_name == ask.port and c.dialled.kind == "clusterip"]
    if not fitting:
        of = f"{PROTOCOL_NAMES[protocol]} port" if protocol is not None else "port"
        raise NotFound(f"{of} {ask.port} of service {full}", listed)
    if len(fitting) > 1:
        raise UsageError(
            f"--port {ask.port} of svc/{full} is ambiguous; add --protocol, or give IP:PORT as the target",
            [_offer(c) for c in fitting],
        )
    return fitting[0].dialled


def _offer(choice: _Choice) -> str:
    name = f" ({choice.port_name})" if choice.port_name else ""
    return f"{choice.dialled}{name}"
