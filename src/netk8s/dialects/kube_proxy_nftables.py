"""kube-proxy's nftables mode: what its table, chain names, sets and maps say of Services.

Layouts of kube-proxy 1.29 to 1.36: pkg/proxy/nftables/proxier.go. All is in one table per family, ``ip kube-proxy`` and
``ip6 kube-proxy``; a per-Service chain is named ``<kind>-<hash>-<namespace>/<name>/<protocol>/<port name>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from ipaddress import ip_address

from msgspec import Struct
from msgspec.structs import replace

from netk8s.dialects._balancing_rules import ipv4
from netk8s.model import (
    Addr,
    Backend,
    Cluster,
    NftChain,
    NftElement,
    NftExpr,
    NftRule,
    NftStatement,
    NftTable,
    NftVerdict,
    Node,
    Programmed,
    Step,
)

NAME = "kube-proxy (nftables)"
TABLE = "kube-proxy"

_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
_CHAIN = re.compile(
    r"(?P<kind>service|local|external|firewall|endpoint)-[A-Z2-7]{8}-"
    r"(?P<service>[^/]+/[^/]+)/(?P<protocol>tcp|udp|sctp)/(?P<port>[^/]*?)(?:__(?P<ip>[^/]+)/(?P<number>\d+))?"
)
_COMMENT = re.compile(r"(?P<service>[a-z0-9.-]+/[a-z0-9.-]+)(?::(?P<port>[a-zA-Z0-9-]*))?")


class Named(Struct, frozen=True):
    """What a chain's name says. ``kind`` is service, local, external, firewall or endpoint; ``ip`` an endpoint's."""

    kind: str
    service: str
    protocol: int
    port_name: str
    ip: Addr | None = None
    port: int | None = None


def named(chain: str) -> Named | None:
    """What a chain's name says, None when it is none of a Service's."""
    found = _CHAIN.fullmatch(chain)
    if found is None:
        return None
    ip: Addr | None = None
    if found["ip"]:
        try:
            # An IPv6 address stands there with dots in place of its colons.
            dotted = found["ip"]
            ip = ip_address(dotted if dotted.count(".") == 3 and ".." not in dotted else dotted.replace(".", ":"))
        except ValueError:
            ip = None
    number = int(found["number"]) if found["number"] else None
    return Named(found["kind"], found["service"], _NUMBERS[found["protocol"]], found["port"], ip, number)


def tables(node: Node, family: int | None = None) -> Iterator[NftTable]:
    """kube-proxy's tables of a node."""
    for table in node.nft:
        if table.dormant or table.name != TABLE or table.family not in ("ip", "ip6"):
            continue
        if family in (None, 4 if table.family == "ip" else 6):
            yield table


# ---------------------------------------------------------------- what is programmed


def programmed(node: Node, cluster: Cluster, mention: str = "", node_port: int | None = None) -> Iterator[Programmed]:
    """Every way to dial a Service that the node's maps have.

    ``mention`` and ``node_port`` narrow the search: to rows of a Service whose name has it (or, as ``-d IP/``, of an
    address), or to that NodePort.
    """
    pods = {ip: f"{p.namespace}/{p.name}" for p in cluster.pods for ip in p.ips if not p.host_network}
    external = {ip for s in cluster.services for ip in s.external_ips}
    balanced = {ip for s in cluster.services for ip in (*s.lb_ips, *s.lb_ips_proxy)}
    address = mention.removeprefix("-d ").rstrip("/") if mention.startswith("-d ") else ""
    for table in tables(node):
        clustered = set(_addresses(table, "cluster-ips"))
        node_ports = _nodeport_addresses(table)
        found: dict[tuple[Addr | None, int, int], Programmed] = {}
        # Most ways lead to the chain of another, and to its very endpoints.
        ends: dict[str, tuple[Backend, ...]] = {}
        affinity: dict[str, int | None] = {}
        asked = _asked(table)
        for map_name in ("service-ips", "service-nodeports", "no-endpoint-services", "no-endpoint-nodeports"):
            elements = table.sets.get(map_name)
            if map_name.startswith("service-") and map_name not in asked:
                continue
            for element in elements.elements if elements is not None else ():
                key, verdict = _key(element), element.value
                if key is None or (node_port is not None and (key[0], key[2]) != (None, node_port)):
                    continue
                if address and str(key[0]) != address:
                    continue
                if not isinstance(verdict, NftVerdict):
                    continue
                ip, protocol, number = key
                name = named(verdict.chain)
                comment = _COMMENT.fullmatch(element.comment)
                service = name.service if name else comment["service"] if comment else ""
                if mention and not address and mention not in service:
                    continue
                refused = map_name.startswith("no-endpoint")
                kind = "NodePort" if ip is None else "ClusterIP"
                # 1.29 has no set of the ClusterIPs, but sends what comes from outside to a chain of its own.
                outside = ip not in clustered if clustered else name is not None and name.kind == "external"
                if ip is not None and (ip in external or ip in balanced or outside):
                    kind = "ExternalIP" if ip in external else "LoadBalancer" if ip in balanced else "External"
                port_name = name.port_name if name else (comment["port"] or "") if comment else ""
                at = table.chains[verdict.chain].at if verdict.chain in table.chains else table.at
                if elements is not None and refused:
                    at = elements.at
                row = Programmed(
                    node.name, service, port_name, protocol, kind, ip, number, verdict.chain or map_name, (),
                    at=at, mode="nftables", addresses=node_ports if ip is None else (),
                )  # fmt: skip
                if refused:
                    word = "DROP" if verdict.kind == "drop" else "REJECT"
                    before = found.get(key)
                    if before is not None and not before.backends:
                        row = before
                    elif before is not None:
                        yield before
                    # Only the policy Local drops: without any endpoint it is a refusal.
                    policy = row.policy or ("Local" if word == "DROP" else "")
                    found[key] = replace(row, verdict=word, policy=policy)
                    continue
                chain = _chain(table, verdict.chain)
                balancing = chain.name if chain is not None else ""
                backends = ends.get(balancing)
                if backends is None:
                    # Read once for both, and then let go; tuple alone asks for the length first, which keeps them.
                    rules = tuple(iter(chain.rules)) if chain is not None else ()
                    backends = ends[balancing] = tuple(_backends(table, rules, pods))
                    affinity[balancing] = _affinity(table, balancing, rules, affinity)
                seconds = _affinity_of(table, verdict.chain, affinity)
                found[key] = replace(
                    row, backends=backends, affinity=seconds is not None, affinity_seconds=seconds or None,
                    scheduler="random" if backends else "", policy=_policy(table, verdict.chain),
                )  # fmt: skip
        yield from found.values()


def _asked(table: NftTable) -> frozenset[str]:
    """The maps that a rule for all Services looks into."""
    shared = (chain for name, chain in table.chains.items() if "/" not in name)
    maps = (s.args[1] for chain in shared for rule in chain.rules for s in rule.statements if s.kind == "vmap")
    return frozenset(found.words[0] for found in maps if isinstance(found, NftExpr) and found.op == "@")


def _policy(table: NftTable, name: str) -> str:
    """The traffic policy that a chain carries out."""
    kind = name.partition("-")[0]
    if kind in ("service", "local"):
        return {"service": "Cluster", "local": "Local"}[kind]
    chain = table.chains.get(name)
    if kind != "external" or chain is None:
        return ""
    everybody = [_goes_to(rule) for rule in chain.rules if _plain(rule)]
    return "Cluster" if any(target.startswith("service-") for target in everybody) else "Local"


def _nodeport_addresses(table: NftTable) -> tuple[Addr, ...]:
    """The addresses that --nodeport-addresses left, () for every address of the node."""
    chain = table.chains.get("services")
    asked = chain is not None and any("@nodeport-ips" in rule.raw for rule in chain.rules)
    return tuple(_addresses(table, "nodeport-ips")) if asked else ()


def _key(element: NftElement) -> tuple[Addr | None, int, int] | None:
    """(address, protocol, port) of an element; the address None in the maps of NodePorts."""
    key = element.key
    parts = key.args if isinstance(key, NftExpr) and key.op == "concat" else ()
    if len(parts) not in (2, 3):
        return None
    protocol, port = parts[-2], parts[-1]
    number = _NUMBERS.get(protocol) if isinstance(protocol, str) else protocol if isinstance(protocol, int) else None
    if number is None or not isinstance(port, int):
        return None
    address = _address(str(parts[0])) if len(parts) == 3 else None
    return (address, number, port) if address is not None or len(parts) == 2 else None


def _plain(rule: NftRule) -> bool:
    """Whether a rule holds for every packet: it marks, counts and goes on, and asks nothing."""
    return all(s.kind in ("verdict", "mangle", "counter") for s in rule.statements)


def _goes_to(rule: NftRule) -> str:
    for s in rule.statements:
        if s.kind == "verdict" and isinstance(s.args[0], NftVerdict) and s.args[0].kind in ("goto", "jump"):
            return s.args[0].chain
    return ""


def _chain(table: NftTable, name: str) -> NftChain | None:
    """The chain that balances: the one itself, or that which an external- chain sends everybody else to."""
    for _ in range(4):
        chain = table.chains.get(name)
        if chain is None or not name.startswith("external-"):
            return chain
        onward = [t for r in chain.rules if _plain(r) and (t := _goes_to(r)) and named(t) is not None]
        if not onward:
            return None
        name = onward[-1]
    return None


def _backends(table: NftTable, rules: Iterable[NftRule], pods: dict[Addr, str]) -> Iterator[Backend]:
    for rule in rules:
        for s in rule.statements:
            if s.kind == "vmap":
                for element, odds in _shares(s.args[0], s.args[1]):
                    if isinstance(element.value, NftVerdict):
                        yield from _endpoint(table, element.value.chain, odds, pods)
            elif s.kind == "dnat" and isinstance(s.args[0], NftExpr) and s.args[0].op == "map":
                for element, odds in _shares(*s.args[0].args):
                    value = element.value
                    if isinstance(value, NftExpr) and value.op == "concat" and len(value.args) == 2:
                        yield from _backend(value.args[0], value.args[1], odds, rule, pods)


def _shares(key: object, data: object) -> Iterator[tuple[NftElement, Fraction]]:
    """The elements of ``numgen random mod N`` with the odds of each."""
    if isinstance(key, NftExpr) and key.op == "numgen" and isinstance(data, NftExpr) and data.op == "set":
        modulus = key.args[0]
        if isinstance(modulus, int) and modulus > 0:
            share = Fraction(1, modulus)
            yield from ((element, share) for element in data.args if isinstance(element, NftElement))


def _endpoint(table: NftTable, name: str, odds: Fraction, pods: dict[Addr, str]) -> Iterator[Backend]:
    chain = table.chains.get(name)
    for rule in chain.rules if chain is not None else ():
        for s in rule.statements:
            if s.kind == "dnat":
                yield from _backend(s.args[0], s.args[1], odds, rule, pods)


def _backend(ip: object, port: object, odds: Fraction, rule: NftRule, pods: dict[Addr, str]) -> Iterator[Backend]:
    address = _address(str(ip))
    if address is not None:
        pod = pods.get(address) if pods else None
        yield Backend(address, port if isinstance(port, int) else None, odds, rule.chain, pod, rule.at)


def _address(text: str) -> Addr | None:
    """An address, None for any other text."""
    quick = ipv4(text)
    if quick is not None:
        return quick
    try:
        return ip_address(text)
    except ValueError:
        return None


def _affinity_of(table: NftTable, name: str, known: dict[str, int | None]) -> int | None:
    """For how many seconds a client keeps its endpoint (0: the set does not say), None where it does not.

    ``known``: what was found of other chains.
    """
    if name not in known:
        chain = table.chains.get(name)
        known[name] = _affinity(table, name, chain.rules if chain is not None else (), known)
    return known[name]


def _affinity(table: NftTable, name: str, rules: Iterable[NftRule], known: dict[str, int | None]) -> int | None:
    for rule in rules:
        for s in rule.statements:
            if set_name := _affinity_set(s):
                found = table.sets.get(set_name)
                return (found.timeout if found is not None else None) or 0
        if name.startswith("external-") and (target := _goes_to(rule)).startswith(("service-", "local-")):
            seconds = _affinity_of(table, target, known)
            if seconds is not None:
                return seconds
    return None


def _affinity_set(s: NftStatement) -> str:
    right = s.args[1] if s.kind == "match" else None
    asks = isinstance(right, NftExpr) and right.op == "@" and right.words[0].startswith("affinity-")
    return right.words[0] if asks and isinstance(right, NftExpr) else ""


# ---------------------------------------------------------------- the network of the pods


def pod_network(node: Node, family: int) -> str | None:
    """The cluster CIDR that kube-proxy's rules carry: the ``saddr !=`` of a rule that marks ClusterIP traffic."""
    for table in tables(node, family):
        for i, (name, chain) in enumerate(table.chains.items()):
            if i > 400:
                break
            if name == "services" or name.startswith(("service-", "local-")):
                for rule in chain.rules:
                    for s in rule.statements:
                        right = s.args[1] if s.kind == "match" and s.words[0] == "!=" else None
                        if isinstance(right, NftExpr) and right.op == "prefix" and s.args[0] == _source(table):
                            return f"{right.args[0]}/{right.args[1]}"
    return None


def _source(table: NftTable) -> NftExpr:
    return NftExpr("payload", (table.family, "saddr"))


def node_addresses(node: Node) -> Iterator[Addr]:
    """The addresses that take NodePorts, which are the node's own (unless --nodeport-addresses chose among them)."""
    for table in tables(node):
        yield from _addresses(table, "nodeport-ips")


def _addresses(table: NftTable, name: str) -> Iterator[Addr]:
    found = table.sets.get(name)
    for element in found.elements if found is not None else ():
        address = _address(str(element.key))
        if address is not None:
            yield address


# ---------------------------------------------------------------- words for steps


_JUMPS = {
    "services": "Service lookup",
    "masquerading": "masquerade what is marked",
    "mark-for-masquerade": "mark for masquerade",
    "firewall-check": "LoadBalancer source ranges",
    "service-endpoints-check": "Services without usable endpoints",
    "nodeport-endpoints-check": "NodePorts without usable endpoints",
    "endpoints-check": "Services without usable endpoints",
    "cluster-ips-check": "ports and addresses of the Service range that no Service has",
    "reject-chain": "the Service has no usable endpoint",
    "forward": "drop what conntrack calls invalid",
}
_KINDS = {
    "service": "all endpoints",
    "local": "endpoints of this node",
    "external": "traffic from outside",
    "firewall": "LoadBalancer source ranges",
}


def means(step: Step) -> str:
    """What a step is for in kube-proxy's words, "" when the rule is not kube-proxy's."""
    rule = step.nft
    if rule is None or step.table != TABLE:
        return ""
    word, _, target = step.action.partition(" ")
    found = named(target) if word in ("goto", "jump") else None
    if found is not None:
        who = f"{found.service}{f':{found.port_name}' if found.port_name else ''}"
        if found.kind == "endpoint":
            return f"endpoint {_endpoint_text(found)} of {who}"
        return f"Service {who}: {_KINDS[found.kind]}"
    if word in ("goto", "jump"):
        return _JUMPS.get(target, "")
    return _does(rule, word)


def _endpoint_text(found: Named) -> str:
    ip = f"[{found.ip}]" if found.ip is not None and found.ip.version == 6 else str(found.ip)
    return f"{ip}:{found.port}"


def _does(rule: NftRule, word: str) -> str:
    kinds = {s.kind for s in rule.statements}
    if rule.chain == "masquerading":
        if word == "return":
            return "not marked: leave the source as it is"
        if "hairpin-connections" in rule.raw:
            return "masquerade a pod that reaches itself through a Service"
        return "masquerade what is marked" if "masquerade" in kinds else "take the mark off again"
    if "dnat" in kinds:
        return "the endpoint is the new destination"
    if "mangle" in kinds:
        return rule.comment or "marked for masquerade"
    if "set" in kinds:
        return "remember the client for session affinity"
    if rule.chain == "reject-chain":
        return _JUMPS[rule.chain]
    if rule.chain.startswith("firewall-"):
        return "the client is in none of the LoadBalancer's source ranges"
    if word == "drop" and rule.chain.endswith("endpoints-check"):
        return "the Service has no usable endpoint on this node"
    return rule.comment or _JUMPS.get(rule.chain, "")
