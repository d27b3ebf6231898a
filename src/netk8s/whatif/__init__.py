"""A snapshot with something changed in it, as the node's kernel and kube-proxy would have it then.

Objects and settings are changed as facts, rules in the text of iptables-save. What a Service's change does to rules is
known for kube-proxy in iptables mode, and only where what it writes for the present state is what the dump holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from msgspec import Struct
from msgspec.structs import replace

from netk8s import decode
from netk8s.errors import NotFound, NotKnown, UsageError
from netk8s.intent import Chosen, chosen
from netk8s.model import Addr, At, Cluster, Dump, Endpoint, Node, Pod, ServicePort, Snapshot, Sysctl, World
from netk8s.whatif import _kube_proxy
from netk8s.whatif._save import Save, apply, near

_SAVED = re.compile(rb"(?m)^\*(?:nat|filter|mangle|raw|security)[ \t\r]*$")


class Wanted(Struct, frozen=True):
    """What is to be changed, in the words of the command line.

    ``external`` and ``internal``: [NAMESPACE/]NAME=POLICY. ``endpoints``: IP[:PORT]. ``pods``: NAMESPACE/NAME. ``drained``:
    names of nodes. ``sysctls``: [NODE:]NAME=VALUE. ``rules``: [NODE:] and a command of iptables.
    """

    external: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    drained: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


class Changed(Struct, frozen=True):
    """The snapshot as it is and as it would be, both still to be completed. ``notes``: what was taken for granted."""

    before: World
    after: World
    notes: tuple[str, ...]


def whatif(snapshot: Snapshot, wanted: Wanted, *, unwrap: bool = False) -> Changed:
    """Decodes a snapshot and changes it.

    Raises UsageError for words that cannot be understood, NotFound for what is not there, NotKnown where it is not known
    which rules there would be, DecodeError.
    """
    before = decode.decode(snapshot, unwrap=unwrap)
    notes: list[str] = []
    cluster = _objects(before, wanted, notes)
    saves = _Saves(snapshot, before)
    for words in wanted.rules:
        _rule(saves, before, words)
    _reprogrammed(saves, before, cluster, notes)
    after = decode.decode(saves.snapshot(), unwrap=unwrap)
    nodes = dict(after.nodes)
    for words in wanted.sysctls:
        _sysctl(nodes, words)
    return Changed(before, replace(after, nodes=nodes, cluster=cluster), tuple(dict.fromkeys(notes)))


# ---------------------------------------------------------------- the API's objects


def _objects(world: World, wanted: Wanted, notes: list[str]) -> Cluster:
    cluster = world.cluster
    for text, field in ((t, f) for f in ("external_policy", "internal_policy")
                        for t in (wanted.external if f == "external_policy" else wanted.internal)):  # fmt: skip
        cluster = _policy(cluster, text, field, notes)
    for text in wanted.endpoints:
        gone = [e for e in cluster.endpoints if _meant(e, text)]
        if not gone:
            raise NotFound(f"endpoint {text}", near(text, (f"{e.ip}:{e.port}" for e in cluster.endpoints)))
        cluster = _without(cluster, gone, ())
    for text in wanted.pods:
        name = text.removeprefix("pod/")
        name = name if "/" in name else f"default/{name}"
        pods = [pod for pod in cluster.pods if f"{pod.namespace}/{pod.name}" == name]
        ends = [e for e in cluster.endpoints if e.pod == name or any(_is_at(e, pod) for pod in pods)]
        if not pods and not ends:
            raise NotFound(f"pod {name}", near(name, (f"{pod.namespace}/{pod.name}" for pod in cluster.pods)))
        cluster = _without(cluster, ends, pods)
    for node in wanted.drained:
        cluster = _drained(world, cluster, node.removeprefix("node/"), notes)
    return cluster


def _policy(cluster: Cluster, text: str, field: str, notes: list[str]) -> Cluster:
    name, _, policy = text.removeprefix("svc/").partition("=")
    name = name if "/" in name else f"default/{name}"
    if policy not in ("Cluster", "Local"):
        raise UsageError(f"{text}: expected [NAMESPACE/]NAME=POLICY", ("Cluster", "Local"))
    mine = [s for s in cluster.services if f"{s.namespace}/{s.service}" == name]
    if not mine:
        raise NotFound(
            f"service {name}", near(name, dict.fromkeys(f"{s.namespace}/{s.service}" for s in cluster.services))
        )
    outside = any(s.node_port or s.lb_ips or s.external_ips for s in mine)
    if field == "external_policy" and not outside:
        raise UsageError(f"svc/{name} has no address for clients outside, so no externalTrafficPolicy")
    more: dict[str, object] = {}
    if field == "external_policy" and policy == "Cluster":
        more["health_check_node_port"] = None
    elif field == "external_policy" and any(s.type == "LoadBalancer" and not s.health_check_node_port for s in mine):
        notes.append(f"the healthCheckNodePort that the API would give svc/{name} is not known and left out")
    changed = tuple(replace(s, **{field: policy}, **more) if s in mine else s for s in cluster.services)
    return replace(cluster, services=changed)


def _meant(e: Endpoint, text: str) -> bool:
    host = f"[{e.ip}]" if e.ip.version == 6 else str(e.ip)
    return text in (str(e.ip), host, f"{host}:{e.port}")


def _is_at(e: Endpoint, pod: Pod) -> bool:
    return not pod.host_network and e.ip in pod.ips


def _without(cluster: Cluster, ends: Iterable[Endpoint], pods: Iterable[Pod]) -> Cluster:
    ends, pods = set(ends), set(pods)
    return replace(
        cluster, endpoints=tuple(e for e in cluster.endpoints if e not in ends),
        pods=tuple(pod for pod in cluster.pods if pod not in pods),
    )  # fmt: skip


def _drained(world: World, cluster: Cluster, node: str, notes: list[str]) -> Cluster:
    """Without the pods of a node. No object says what starts them anew elsewhere."""
    if node not in world.nodes and all(item.name != node for item in cluster.nodes):
        raise NotFound(f"node {node}", near(node, world.nodes))
    pods = [pod for pod in cluster.pods if pod.node == node and not pod.host_network]
    named = {f"{pod.namespace}/{pod.name}" for pod in pods}
    own = {a.ip for a in world.nodes[node].addresses} if node in world.nodes else set()
    host = {ip for pod in cluster.pods if pod.node == node and pod.host_network for ip in pod.ips}
    ends = [
        e for e in cluster.endpoints
        if e.node == node and (e.pod in named or any(_is_at(e, pod) for pod in pods) or e.ip not in own | host)
    ]  # fmt: skip
    notes.append(
        f"{node} is drained of all pods but those of the host network (a DaemonSet's too), and none starts elsewhere"
    )
    return _without(cluster, ends, pods)


# ---------------------------------------------------------------- rules


class _Saves:
    """The iptables-save dumps of a snapshot, taken apart when something is changed in them."""

    def __init__(self, snapshot: Snapshot, world: World) -> None:
        self._snapshot = snapshot
        self._default = next(iter(world.nodes)) if len(world.nodes) == 1 else decode.UNNAMED
        self._found: dict[tuple[str, int], list[Dump]] = {}
        tables = {(t.at.origin, t.family) for node in world.nodes.values() for t in node.tables}
        for dump in snapshot.dumps:
            if dump.pod is None:
                for family in (4, 6):
                    if (dump.origin, family) in tables:
                        self._found.setdefault((dump.node or self._default, family), []).append(dump)
        self._open: dict[str, Save] = {}

    def of(self, node: str, family: int) -> list[Save]:
        """Those of a node and family. Raises NotKnown where a dump is no output of iptables-save."""
        out = []
        for dump in self._found.get((node, family), ()):
            if dump.origin not in self._open:
                if _SAVED.search(bytes(dump.data[: 1 << 16])) is None:
                    raise NotKnown(
                        f"{dump.origin}: rules can only be changed in what iptables-save prints, with its *table lines"
                    )
                self._open[dump.origin] = Save(dump)
            out.append(self._open[dump.origin])
        return out

    def snapshot(self) -> Snapshot:
        """The snapshot with the changed texts."""
        dumps = tuple(self._open[d.origin].text() if d.origin in self._open else d for d in self._snapshot.dumps)
        return replace(self._snapshot, dumps=dumps)


def _rule(saves: _Saves, world: World, words: str) -> None:
    node, _, rest = words.partition(":")
    if node.strip() not in world.nodes:
        node, rest = next(iter(world.nodes)), words
        if len(world.nodes) > 1:
            raise UsageError(f"rule {words!r}: say on which node, as NODE: -A …", tuple(world.nodes))
    node = node.strip()
    family = 6 if rest.split()[:1] == ["ip6tables"] else 4
    found = saves.of(node, family)
    if len(found) != 1:
        what = "both backends' rules" if found else "no output of iptables-save"
        raise NotKnown(f"{node} has {what} for IPv{family}: it is not known where the rule would be")
    apply(found[0], rest)


def _reprogrammed(saves: _Saves, before: World, cluster: Cluster, notes: list[str]) -> None:
    """Writes the rules of every port that changed, on every node."""
    old = {_key(s): s for s in before.cluster.services}
    changed_ends = {(e.namespace, e.service, e.port_name, e.protocol)
                    for e in set(before.cluster.endpoints) ^ set(cluster.endpoints)}  # fmt: skip
    ports = [
        s for s in cluster.services if (s != old[_key(s)] or _key(s) in changed_ends) and not s.proxy and s.cluster_ips
    ]
    ends = (_by_port(before.cluster), _by_port(cluster)) if ports else ({}, {})
    zones = {item.name: item.zone for item in cluster.nodes}
    for name, node in before.nodes.items() if ports else ():
        _whole(node)
        ips = _addresses(before, node)
        for family in (4, 6):
            programmed = [save for save in saves.of(name, family) if "KUBE-SERVICES" in save.section("nat").declared]
            if len(programmed) > 1:
                raise NotKnown(
                    f"{name} has kube-proxy's rules in both backends of iptables: which would change is not known"
                )
            if not programmed:
                if family == 4:
                    notes.append(f"{name} has no rules of kube-proxy in its dumps: nothing changes there")
                continue
            save = programmed[0]
            how = _kube_proxy.style(save)
            for port in ports:
                if any(ip.version == family for ip in port.cluster_ips):
                    was, will = (
                        _ordered(chosen(known.get(_key(port), ()), family, name, zones.get(name))) for known in ends
                    )
                    _rewrite(save, name, (old[_key(port)], was), (port, will), family, ips, how)


def _by_port(cluster: Cluster) -> dict[tuple[str, str, str, int], list[Endpoint]]:
    out: dict[tuple[str, str, str, int], list[Endpoint]] = {}
    for e in cluster.endpoints:
        out.setdefault((e.namespace, e.service, e.port_name, e.protocol), []).append(e)
    return out


def _key(s: ServicePort) -> tuple[str, str, str, int]:
    return s.namespace, s.service, s.name, s.protocol


def _whole(node: Node) -> None:
    """Raises NotKnown for a node whose kube-proxy writes other rules than those of iptables mode."""
    if any(t.name == "kube-proxy" and t.family in ("ip", "ip6") for t in node.nft):
        raise NotKnown(
            f"{node.name} has kube-proxy in nftables mode: what it would write is not known, iptables mode alone is"
        )
    if node.virtual_servers or any(link.name == "kube-ipvs0" for link in node.links):
        raise NotKnown(
            f"{node.name} has kube-proxy in IPVS mode: what it would write is not known, iptables mode alone is"
        )


def _addresses(world: World, node: Node) -> list[Addr]:
    """The node's addresses as its kube-proxy knows them: the API's InternalIPs, else what is on its devices."""
    told = [text for item in world.cluster.nodes if item.name == node.name
            for kind, text in item.addresses if kind == "InternalIP"]  # fmt: skip
    return [ip_address(text) for text in told] or [a.ip for a in node.addresses if a.scope == "global"]


_State = tuple[ServicePort, Chosen]
"""A port and the endpoints that a node uses for it."""


def _rewrite(
    save: Save, node: str, before: _State, after: _State, family: int, ips: Sequence[Addr], how: _kube_proxy.Style
) -> None:
    have = _kube_proxy.present(save, before[0])
    was, will = (_kube_proxy.written(port, family, ends, ips, how) for port, ends in (before, after))
    other = next(_kube_proxy.differing(have, was), None)
    if other is not None:
        name = f"{before[0].namespace}/{before[0].service}"
        raise NotKnown(
            f"{node}: the rules of svc/{name} are not what a kube-proxy of 1.25 or later writes for what the API "
            f"says ({other}), so it is not known what they would become"
        )
    _kube_proxy.exchange(save, have, will)


def _ordered(found: Chosen) -> Chosen:
    return Chosen(_kube_proxy.in_order(found.everywhere), _kube_proxy.in_order(found.here))


# ---------------------------------------------------------------- settings


def _sysctl(nodes: dict[str, Node], words: str) -> None:
    setting, equals, value = words.partition("=")
    node, colon, name = setting.partition(":")
    if not colon:
        node, name = "", setting
    if not equals:
        raise UsageError(f"sysctl {words}: expected [NODE:]NAME=VALUE")
    if node and node not in nodes:
        raise NotFound(f"node {node}", near(node, nodes))
    name = name.strip().replace("/", ".")
    known = {each for found in nodes.values() for each in found.sysctls}
    for each in (node,) if node else tuple(nodes):
        have = nodes[each].sysctls
        if name not in have and (node or name not in known):
            raise NotFound(f"sysctl {name}" + (f" of {node}" if node else ""), near(name, known))
        if name in have:
            nodes[each] = replace(nodes[each], sysctls=_with(have, name, value.strip()))


def _with(have: Mapping[str, Sysctl], name: str, value: str) -> dict[str, Sysctl]:
    """The settings after one is written: forwarding of all is written to each device (inet_forward_change, addrconf)."""
    names = {name}
    for all_, each in (("net.ipv4.conf.all.forwarding", r"net\.ipv4\.(?:ip_forward|conf\..+\.forwarding)"),
                       ("net.ipv6.conf.all.forwarding", r"net\.ipv6\.conf\..+\.forwarding")):  # fmt: skip
        if name == all_ or (name == "net.ipv4.ip_forward" and "ipv4" in all_):
            names |= {other for other in have if re.fullmatch(each, other)}
    return {**have, **{each: Sysctl(each, value, At(f"{have[each].at.origin} (changed)")) for each in names}}


__all__ = ["Changed", "Wanted", "whatif"]
