"""kube-proxy's iptables mode: what its chains, hashes and comments say of Services.

Layouts of kube-proxy 1.9 to 1.36: pkg/proxy/iptables/proxier.go. The hash is the one of servicePortChainName there.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from ipaddress import ip_network

from msgspec import Struct
from msgspec.structs import replace

from netk8s.dialects._balancing_rules import Said, Whole, endpoints, ipv4, option, said, whole
from netk8s.model import (
    PROTOCOL_NAMES,
    Addr,
    At,
    Backend,
    Chain,
    Cluster,
    Match,
    Node,
    Option,
    Programmed,
    Rule,
    Rules,
    Step,
    Table,
    Target,
)

NAME = "kube-proxy (iptables)"

HASHED = re.compile(r"KUBE-(SVC|SVL|EXT|FW|XLB|SEP)-([A-Z2-7]{16})")
_COMMENT = re.compile(
    r"(?:^|for )(?P<service>[a-z0-9.-]+/[a-z0-9.-]+)(?::(?P<port>[a-zA-Z0-9-]*))?"
    r"(?P<rest> cluster IP| external IP| loadbalancer IP| has no endpoints| has no local endpoints| -> .*"
    r"| external destinations| LB IP.*| traffic not accepted .*| health check node port)?$"
)
_KINDS = {" cluster IP": "ClusterIP", " external IP": "ExternalIP", " loadbalancer IP": "LoadBalancer"}
_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132, "6": 6, "17": 17, "132": 132}


def chain_hash(service: str, port_name: str, protocol: str, endpoint: str = "", *, colon: bool = False) -> str:
    """The 16 letters of a chain name: base32(sha256(namespace/name[:port] + protocol [+ endpoint])).

    ``service`` is "namespace/name", ``protocol`` in lower case, ``endpoint`` "ip:port" or "[ip]:port" for a KUBE-SEP.
    ``colon``: an unnamed port as kube-proxy up to 1.18 wrote it, with the colon kept.
    """
    name = f"{service}:{port_name}" if port_name or colon else service
    digest = hashlib.sha256((name + protocol + endpoint).encode()).digest()
    return base64.b32encode(digest)[:16].decode()


class Named(Struct, frozen=True):
    """What a comment or a hash says: "namespace/name", the port's name, and the rest of the comment."""

    service: str
    port_name: str
    rest: str = ""


def named(comment: str | None) -> Named | None:
    """The Service of a comment, None when it names none."""
    found = _COMMENT.search(comment) if comment else None
    if found is None:
        return None
    return Named(found["service"], found["port"] or "", found["rest"] or "")


def _destination(rule: Rule) -> Addr | None:
    found = option(rule, "-d")
    if found is None:
        return None
    host, _, length = found.values[0].partition("/")
    quick = ipv4(host) if length == "32" else None
    if quick is not None:
        return quick
    try:
        net = ip_network(found.values[0], strict=False)
    except ValueError:
        return None
    return net.network_address if net.prefixlen == net.max_prefixlen else None


def _port(rule: Rule) -> int | None:
    found = option(rule, "--dport")
    return int(found.values[0]) if found is not None and found.values[0].isdecimal() else None


def _protocol(rule: Rule) -> int:
    found = option(rule, "-p")
    return _NUMBERS.get(found.values[0].lower(), 0) if found is not None else 0


def nat(node: Node, family: int | None = None) -> Iterator[Table]:
    """The nat tables that hold kube-proxy's chains."""
    for table in node.tables:
        if table.name == "nat" and family in (None, table.family) and "KUBE-SERVICES" in table.chains:
            yield table


# ---------------------------------------------------------------- what is programmed


def programmed(node: Node, cluster: Cluster, mention: str = "", node_port: int | None = None) -> Iterator[Programmed]:
    """Every way to dial a Service that the node's rules have; what the filter table refuses or drops is part of it.

    ``mention`` and ``node_port`` narrow the search to rules whose text contains it, or to that NodePort: the answer for
    one Service of a large dump does not decode the others.
    """
    pods = {ip: f"{p.namespace}/{p.name}" for p in cluster.pods for ip in p.ips if not p.host_network}
    hashes, kinds = _hashes(cluster), _kinds(cluster)
    verdicts = dict(_refused(node, hashes, kinds, mention, node_port))
    for table in nat(node):
        told = _tells_internal_policy(table)
        balancing = _Balancing(table, pods, whole(table) if not mention and node_port is None else None)
        for chain in ("KUBE-SERVICES", "KUBE-NODEPORTS"):
            if chain not in table.chains:
                continue
            for rule in _some(table.chains[chain].rules, mention, node_port):
                found = _row(node, table, rule, hashes, kinds)
                if found is None or found.chain in ("KUBE-NODEPORTS", "KUBE-MARK-MASQ") or _other(found, node_port):
                    continue
                row = balancing.of(found, told)
                key = (table.family, table.backend, found.ip, found.protocol, found.port)
                if not row.backends and key in verdicts:
                    refused = verdicts.pop(key)
                    row = replace(row, verdict=refused.verdict, policy=row.policy or refused.policy)
                yield row
    yield from verdicts.values()


_NAMING = re.compile(r"--comment (?:\"([^\"]*)\"|([^ \"]+)) .*--dport \d+ .*-j (\S+)")


def services(node: Node, cluster: Cluster) -> Iterator[str]:
    """The Services ("namespace/name") of :func:`programmed`, told without decoding a rule."""
    if cluster.services:
        # Their names may be told by hashes alone.
        yield from (row.service for row in programmed(node, cluster) if row.service)
        return
    entries = {"nat": ("KUBE-SERVICES", "KUBE-NODEPORTS"), "filter": ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES")}
    for table in node.tables:
        for chain in entries.get(table.name, ()):
            for _, text in table.chains[chain].rules.texts() if chain in table.chains else ():
                found = _NAMING.search(text)
                refused = found is not None and found[3] in ("REJECT", "DROP")
                if found is None or (not refused if table.name == "filter" else found[3] == "KUBE-MARK-MASQ"):
                    continue
                name = named(found[1] or found[2])
                if name is not None:
                    yield name.service


_Key = tuple[int, str, Addr | None, int, int]


def _refused(
    node: Node, hashes: dict[str, Named], kinds: dict[Addr, str], mention: str, node_port: int | None
) -> Iterator[tuple[_Key, Programmed]]:
    """What the filter table refuses or drops for want of usable endpoints."""
    for table in node.tables:
        if table.name != "filter":
            continue
        for chain in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"):
            if chain in table.chains:
                for rule in _some(table.chains[chain].rules, mention, node_port):
                    if rule.target is not None and rule.target.name in ("REJECT", "DROP"):
                        row = _row(node, table, rule, hashes, kinds)
                        if row is not None and not _other(row, node_port):
                            verdict = rule.target.name
                            # "has no endpoints" is a REJECT whatever the policy is; only Local ones are dropped.
                            policy = "Local" if verdict == "DROP" else ""
                            key = (table.family, table.backend, row.ip, row.protocol, row.port)
                            yield key, replace(row, verdict=verdict, chain=rule.chain, policy=policy)


class _Balancing:
    """What the chains of one table balance to. Many ways lead to a Service's endpoints: each chain is read once."""

    def __init__(self, table: Table, pods: dict[Addr, str], read: Whole | None = None) -> None:
        read = read or Whole({}, {}, {})
        self._places, self._dice, self._onward = read.places, read.dice, read.onward
        self._table, self._pods, self._origin = table, pods, table.at.origin
        self._backends: dict[str, tuple[Backend, ...]] = {}
        self._affinity: dict[str, int | None] = {}
        self._said: dict[str, tuple[Sequence[int], Sequence[Said]]] = {}
        self._addresses: tuple[Addr, ...] | None = None

    def of(self, row: Programmed, told: bool) -> Programmed:
        """The row with what its chain balances to."""
        backends = self.backends(row.chain)
        seconds = self.affinity(row.chain)
        # KUBE-XLB of kube-proxy up to 1.23 marks for drop what it has no endpoint for.
        dropped = not backends and self._marks_for_drop(row.chain)
        if row.ip is None and self._addresses is None:
            self._addresses = _nodeport_addresses(self._table)
        policy = self.policy(row.chain, told or row.kind != "ClusterIP")
        return replace(
            row, backends=backends, affinity=seconds is not None, affinity_seconds=seconds or None, policy=policy,
            verdict="DROP" if dropped else "", scheduler="random" if backends else "",
            addresses=self._addresses or () if row.ip is None else (),
        )  # fmt: skip

    def said(self, name: str) -> tuple[Sequence[int], Sequence[Said]]:
        """What the rules of a chain say, kept while others ask for the same few chains."""
        found = self._said.get(name)
        if found is None:
            onward = self._onward.get(name)
            if onward is not None:
                return (), (("",) * 5 + (onward, ""),)
            if len(self._said) >= 8:
                self._said.clear()
            found = self._said[name] = said(self._table, name)
        return found

    def backends(self, name: str, depth: int = 0) -> tuple[Backend, ...]:
        """The endpoints of a chain, with the odds of each for a new client from outside the node.

        KUBE-EXT and KUBE-XLB branch off pods and the node itself first, by source; KUBE-FW lets its source ranges pass.
        """
        if name in self._backends:
            return self._backends[name]
        if depth > 4:
            return ()
        thrown = self._dice.get(name)
        if thrown is not None:
            backends: list[Backend] = []
            for chain, share in zip(thrown[2], _odds(thrown[1]), strict=True):
                backends += self._endpoint(chain, share)
            self._backends[name] = tuple(backends)
            return self._backends[name]
        firewall = name.startswith("KUBE-FW-")
        ends: list[str] = []
        probabilities: list[str] = []
        rest: tuple[Backend, ...] = ()
        for addressed, typed, recent, _, probability, target, _ in self.said(name)[1]:
            if recent:
                continue
            if target.startswith("KUBE-SEP-"):
                ends.append(target)
                probabilities.append(probability)
            elif HASHED.fullmatch(target):
                conditional = addressed or typed or probability
                if (firewall or not conditional) and not any(_odds(tuple(probabilities))):
                    rest = self.backends(target, depth + 1)
                    break
        own: list[Backend] = []
        for target, share in zip(ends, _odds(tuple(probabilities)), strict=True):
            own += self._endpoint(target, share)
        self._backends[name] = (*own, *rest) if own else rest
        return self._backends[name]

    def _endpoint(self, name: str, odds: Fraction) -> Sequence[Backend]:
        place = self._places.get(name)
        if place is not None:
            line, ip, port = place
            pod = self._pods.get(ip) if self._pods else None
            return (Backend(ip, port, odds, name, pod, At(self._origin, line)),)
        return [
            Backend(ip, port, odds, name, self._pods.get(ip), At(self._origin, line))
            for line, ip, port in endpoints(self._table, name)
        ]

    def affinity(self, name: str, depth: int = 0) -> int | None:
        """For how many seconds a client keeps its endpoint, None where it does not."""
        if name in self._affinity or depth > 4:
            return self._affinity.get(name)
        thrown = self._dice.get(name)
        if thrown is not None:
            return thrown[0]
        found = None
        for _, _, recent, seconds, _, target, _ in self.said(name)[1]:
            if recent:
                found = int(seconds) if seconds.isdecimal() else 0
                break
            if target.startswith(("KUBE-SV", "KUBE-EXT-", "KUBE-XLB-")):
                found = self.affinity(target, depth + 1)
                if found is not None:
                    break
        self._affinity[name] = found
        return found

    def policy(self, name: str, told: bool, depth: int = 0) -> str:
        """The traffic policy that a chain carries out, "" where it does not tell."""
        found = HASHED.fullmatch(name)
        kind = found[1] if found else ""
        if kind in ("SVL", "XLB"):
            return "Local"
        if kind == "SVC":
            return "Cluster" if told else ""
        for *conditions, probability, target, _ in self.said(name)[1]:
            if kind == "FW" and HASHED.fullmatch(target):
                return self.policy(target, True, depth + 1) if depth < 4 else ""
            if kind == "EXT" and target.startswith("KUBE-SVC-") and not (probability or any(conditions)):
                return "Cluster"
        return "Local" if kind == "EXT" else ""

    def _marks_for_drop(self, name: str) -> bool:
        for *_, target, _ in self.said(name)[1]:
            if target == "KUBE-MARK-DROP" and name.startswith(("KUBE-XLB-", "KUBE-SVL-")):
                return True
            if name.startswith("KUBE-FW-") and target.startswith(("KUBE-XLB-", "KUBE-EXT-")):
                return self._marks_for_drop(target)
        return False


def _tells_internal_policy(table: Table) -> bool:
    """Whether these rules keep internalTrafficPolicy Local apart (KUBE-SVL): up to 1.23 KUBE-SVC held local endpoints."""
    if any(name.startswith(("KUBE-EXT-", "KUBE-SVL-")) for name in table.chains):
        return True
    for name in _few(table, 400):
        if name.startswith("KUBE-SVC-"):
            for rule in table.chains[name].rules:
                if rule.target is not None and rule.target.name.startswith("KUBE-SEP-"):
                    return " -> " in (rule.comment or "")
    return False


def _nodeport_addresses(table: Table) -> tuple[Addr, ...]:
    """The addresses that --nodeport-addresses left, () for every address of the node."""
    out = []
    for rule in table.chains["KUBE-SERVICES"].rules.mentioning("-j KUBE-NODEPORTS"):
        address = _destination(rule)
        if address is None:
            return ()
        out.append(address)
    return tuple(out)


def _some(rules: Rules, mention: str, node_port: int | None) -> Iterator[Rule]:
    if mention:
        yield from rules.mentioning(mention)
    elif node_port is not None:
        # An address that no Service has: what is for those of Services is left out.
        yield from rules.relevant("0.0.0.0", "", node_port)  # noqa: S104 - what is compared with, not bound to
    else:
        yield from rules


def _other(row: Programmed, node_port: int | None) -> bool:
    return node_port is not None and (row.kind, row.port) != ("NodePort", node_port)


def _row(node: Node, table: Table, rule: Rule, hashes: dict[str, Named], kinds: dict[Addr, str]) -> Programmed | None:
    port = _port(rule)
    if port is None or rule.target is None:
        return None
    name = named(rule.comment) or hashes.get(rule.target.name[-16:])
    address = _destination(rule)
    kind = _KINDS.get(name.rest if name else "", "NodePort" if address is None else "ClusterIP")
    if table.name == "filter" and address is not None:
        # Comments of the filter table do not tell kinds. Up to 1.19 KUBE-SERVICES had those of load balancers too.
        kind = kinds.get(address, "ClusterIP" if rule.chain == "KUBE-SERVICES" else "External")
    return Programmed(
        node.name, name.service if name else "", name.port_name if name else "", _protocol(rule), kind, address, port,
        rule.target.name, (), at=rule.at, mode="iptables",
    )  # fmt: skip


def _kinds(cluster: Cluster) -> dict[Addr, str]:
    """What the API's Services use an address for."""
    out: dict[Addr, str] = {}
    for s in cluster.services:
        for kind, ips in (("ClusterIP", s.cluster_ips), ("ExternalIP", s.external_ips), ("LoadBalancer", s.lb_ips)):
            for ip in ips:
                out.setdefault(ip, kind)
    return out


def _hashes(cluster: Cluster) -> dict[str, Named]:
    """Chain hashes of the API's Services, for rules without a comment."""
    out = {}
    for s in cluster.services:
        name = f"{s.namespace}/{s.service}"
        protocol = PROTOCOL_NAMES.get(s.protocol, str(s.protocol))
        for colon in (False, True) if not s.name else (False,):
            out[chain_hash(name, s.name, protocol, colon=colon)] = Named(name, s.name)
    return out


@lru_cache(maxsize=1024)
def _odds(probabilities: tuple[str, ...]) -> tuple[Fraction, ...]:
    """The odds of each rule of a chain that throws dice in turn; "" stands for a rule that takes what comes to it."""
    left = Fraction(1)
    out = []
    for text in probabilities:
        share = _share(text) if text else Fraction(1)
        out.append(left * share)
        left *= 1 - share
    return tuple(out)


@lru_cache(maxsize=1024)
def _share(text: str) -> Fraction:
    try:
        exact = min(Fraction(text if "e" not in text.lower() else "x"), Fraction(1))
    except (ValueError, ZeroDivisionError):
        return Fraction(1)
    if exact <= 0:
        return Fraction(0)
    near = Fraction(1, round(1 / exact)) if exact < 1 else Fraction(1)
    return near if abs(near - exact) < Fraction(1, 100000) else exact


# ---------------------------------------------------------------- the network of the pods, hooks left out of a dump


def pod_network(node: Node, family: int) -> str | None:
    """The cluster CIDR that kube-proxy's rules carry: the ``! -s`` of a KUBE-SVC or KUBE-SERVICES mark rule."""
    for table in nat(node, family):
        names = ["KUBE-SERVICES", *(n for n in _few(table, 200) if n.startswith("KUBE-SV"))]
        for name in names:
            chain = table.chains.get(name)
            for rule in chain.rules.mentioning("KUBE-MARK-MASQ") if chain else ():
                for match in rule.matches:
                    for one in match.options:
                        if one.name == "-s" and one.negated:
                            return one.values[0]
    return None


def _few(table: Table, most: int) -> Iterator[str]:
    for i, name in enumerate(table.chains):
        if i >= most:
            return
        yield name


_HOOK_JUMPS = (("PREROUTING", "KUBE-SERVICES"), ("OUTPUT", "KUBE-SERVICES"), ("POSTROUTING", "KUBE-POSTROUTING"))


class _Listed:
    """A handful of rules, all decoded."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def relevant(self, daddr: str, protocol: str, dport: int | None) -> tuple[Rule, ...]:
        return self._rules

    def mentioning(self, text: str) -> tuple[Rule, ...]:
        return tuple(r for r in self._rules if text in r.raw)

    def texts(self) -> Iterator[tuple[int, str]]:
        return ((rule.at.line, rule.raw) for rule in self._rules)


def complete(table: Table) -> tuple[Table, str] | None:
    """A nat table whose dump has kube-proxy's chains and no built-in ones, with the jumps kube-proxy makes to them.

    Returns the table and the assumption in words; None when nothing is to add.
    """
    builtin = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")
    if not table.headless or table.name != "nat" or any(name in table.chains for name in builtin):
        return None
    if "KUBE-SERVICES" not in table.chains:
        return None
    added: dict[str, Chain] = {}
    for hook, target in _HOOK_JUMPS:
        if target in table.chains:
            at = At(table.at.origin)
            rule = Rule(hook, (Match("comment", (Option("--comment", ("assumed by netk8s",)),)),), Target(target), at,
                        f"-A {hook} -j {target}", "assumed by netk8s")  # fmt: skip
            added[hook] = Chain(hook, "ACCEPT", _Listed((rule,)), at, declared=False)
    words = "; ".join(f"{hook} → {target}" for hook, target in _HOOK_JUMPS if hook in added)
    text = f"{table.at.origin} has no built-in chains: kube-proxy's usual jumps are taken to be there ({words})"
    return replace(table, chains={**dict(table.chains.items()), **added}), text


_FILTERS = frozenset({"KUBE-FORWARD", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"})


def opaque(node: Node, cluster: Cluster) -> str:
    """Why a node's rules do not tell where a packet goes that has kube-proxy's filter table without its nat table.

    ``iptables -S`` prints one table, filter when none is named. "" for another node.
    """
    del cluster
    if any(table.name == "nat" for table in node.tables):
        return ""
    for table in node.tables:
        if table.headless and not _FILTERS.isdisjoint(table.chains):
            return (
                f"{table.at.origin} is the filter table alone, as `iptables -S` prints it, and kube-proxy's translations are in "
                "the nat table; give `iptables-save`, or `iptables -t nat -S` beside it"
            )
    return ""


# ---------------------------------------------------------------- words for steps


_FIXED = {
    "KUBE-SERVICES": "Service lookup",
    "KUBE-NODEPORTS": "NodePort lookup",
    "KUBE-POSTROUTING": "masquerade what is marked",
    "KUBE-MARK-MASQ": "mark for masquerade",
    "KUBE-MARK-DROP": "mark for drop",
    "KUBE-FORWARD": "let Service traffic be forwarded",
    "KUBE-FIREWALL": "drop what is marked, and 127.0.0.0/8 from outside",
    "KUBE-EXTERNAL-SERVICES": "Services without usable endpoints, dialled from outside",
    "KUBE-PROXY-FIREWALL": "LoadBalancer source ranges",
}


def means(step: Step) -> str:
    """What a step is for in kube-proxy's words, "" when the rule is not kube-proxy's."""
    rule = step.detail
    if rule is None or any(match.module == "set" for match in rule.matches):
        # Rules that ask ipsets are those of the IPVS mode.
        return ""
    target = rule.target.name if rule.target else ""
    service = named(rule.comment)
    who = f"{service.service}{f':{service.port_name}' if service.port_name else ''}" if service else ""
    found = HASHED.fullmatch(target)
    if found:
        kind = found[1]
        if kind == "SEP":
            where = rule.comment.partition(" -> ")[2] if rule.comment else ""
            return f"endpoint {where}".strip() if where else f"an endpoint of {who}" if who else "an endpoint"
        return {
            "SVC": f"Service {who}: all endpoints",
            "SVL": f"Service {who}: endpoints of this node",
            "EXT": f"Service {who}: traffic from outside",
            "FW": f"Service {who}: LoadBalancer source ranges",
            "XLB": f"Service {who}: externalTrafficPolicy Local",
        }[kind].replace("Service :", "Service:")
    if rule.chain == "KUBE-POSTROUTING":
        return {
            "RETURN": "not marked: leave the source as it is",
            "MARK": "take the mark off again",
            "MASQUERADE": "masquerade what is marked",
        }.get(target, "")
    if rule.chain == "KUBE-MARK-MASQ":
        return "marked for masquerade"
    if target == "DNAT" and rule.chain.startswith("KUBE-SEP-"):
        return "the endpoint is the new destination"
    if target in _FIXED:
        return _FIXED[target]
    if rule.chain in _FIXED and service is not None:
        return f"{who}{service.rest}"
    return _FIXED.get(rule.chain, "") if rule.chain.startswith("KUBE-") else ""
