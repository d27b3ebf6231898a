"""What the kube-proxies of the nodes make of changed objects, each in its own mode."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from ipaddress import ip_address
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from netk8s.dialects import kube_proxy_nftables
from netk8s.errors import NotKnown
from netk8s.intent import Where
from netk8s.model import Addr, Cluster, Endpoint, NftTable, Node, ServicePort
from netk8s.whatif import _iptables, _ipvs, _nftables
from netk8s.whatif._plan import Plan, planned
from netk8s.whatif._saves import Saves

_Key = tuple[str, str, str, int]
"""A Service port: namespace, Service, name of the port, protocol."""


class _Turned(Struct, frozen=True):
    """A port before and after, as one node plans it in one family."""

    was: Plan
    will: Plan


class _Objects:
    """The objects of one state, with each port's endpoints at hand."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ports = {_key(s): s for s in cluster.services}
        self.ends: dict[_Key, list[Endpoint]] = {}
        for e in cluster.endpoints:
            self.ends.setdefault((e.namespace, e.service, e.port_name, e.protocol), []).append(e)
        self.cluster_ips = frozenset(ip for s in cluster.services for ip in s.cluster_ips)
        self.zones = {item.name: item.zone for item in cluster.nodes}

    def plan(self, port: ServicePort, family: int, node: str) -> Plan:
        return planned(port, self.ends.get(_key(port), ()), family, node, self.zones.get(node))


def reprogrammed(
    saves: Saves, nodes: dict[str, Node], before: Cluster, after: Cluster, notes: list[str]
) -> dict[str, Node]:
    """The nodes with every port that changed written anew: here what is no text of iptables, in ``saves`` what is.

    Raises NotKnown where it is not known what a kube-proxy would write.
    """
    old, new = _Objects(before), _Objects(after)
    gone = {(e.namespace, e.service, e.port_name, e.protocol) for e in set(before.endpoints) ^ set(after.endpoints)}
    ports = [
        s for s in after.services
        if (s != old.ports[_key(s)] or _key(s) in gone) and not s.proxy and s.cluster_ips
    ]  # fmt: skip
    return {name: _node(saves, node, ports, (old, new), notes) for name, node in nodes.items()} if ports else nodes


def _key(s: ServicePort) -> _Key:
    return s.namespace, s.service, s.name, s.protocol


def _node(
    saves: Saves, node: Node, ports: list[ServicePort], states: tuple[_Objects, _Objects], notes: list[str]
) -> Node:
    old, new = states
    done = False
    for family in (4, 6):
        turned = [
            _Turned(old.plan(old.ports[_key(port)], family, node.name), new.plan(port, family, node.name))
            for port in ports if any(ip.version == family for ip in port.cluster_ips)
        ]  # fmt: skip
        modes = list(_modes(node, family, old.cluster_ips))
        done = done or bool(modes)
        if not turned or not modes:
            continue
        if len(modes) > 1:
            raise NotKnown(
                f"{node.name} has rules of kube-proxy in {' and '.join(modes)} mode for IPv{family}: which of them it "
                "would change is not known. Where one kind is left over, remove it and take the dump again"
            )
        if modes == ["nftables"]:
            node = _in_nftables(node, family, turned, states)
        elif modes == ["IPVS"]:
            node = _in_ipvs(saves, node, family, turned, new)
        else:
            _in_iptables(saves, node, family, turned, new.cluster)
    if not done:
        notes.append(f"{node.name} has no rules of kube-proxy in its dumps: nothing changes there")
    return node


def _modes(node: Node, family: int, cluster_ips: frozenset[Addr]) -> Iterator[str]:
    """The modes in which a kube-proxy has programmed a node."""
    if any("services" in table.chains for table in kube_proxy_nftables.tables(node, family)):
        yield "nftables"
    # The device alone may be left over, or the only sign of a mode that no dump of ipvsadm shows; servers may be others'.
    untold = "ipvs" not in node.covered and any(link.name == "kube-ipvs0" for link in node.links)
    ipvs = untold or any(server.ip in cluster_ips for server in node.virtual_servers)
    if ipvs:
        yield "IPVS"
    nat = [t.chains for t in node.tables if (t.family, t.name) == (family, "nat")]
    # In IPVS mode it has a chain of the name KUBE-SERVICES too, and none of a Service.
    if any("KUBE-SERVICES" in chains for chains in nat) and not (
        ipvs and not any(name.startswith("KUBE-SVC-") for chains in nat for name in chains)
    ):
        yield "iptables"


def _unlike(node: Node, plan: Plan, what: str, other: str) -> NotKnown:
    return NotKnown(
        f"{node.name}: the rules of svc/{plan.service} are not what {what} writes for what the API says ({other}), so it "
        "is not known what they would become"
    )


# ---------------------------------------------------------------- iptables


def _in_iptables(saves: Saves, node: Node, family: int, turned: list[_Turned], cluster: Cluster) -> None:
    programmed = [save for save in saves.of(node.name, family) if "KUBE-SERVICES" in save.section("nat").declared]
    if len(programmed) > 1:
        raise NotKnown(
            f"{node.name} has kube-proxy's rules in both backends of iptables: which would change is not known"
        )
    for save in programmed:
        how, ips = _iptables.style(save), _addresses(cluster, node)
        for each in turned:
            have = _iptables.present(save, each.was)
            was, will = (_iptables.written(plan, ips, how) for plan in (each.was, each.will))
            other = next(_iptables.differing(have, was), None)
            if other is not None:
                raise _unlike(node, each.was, "a kube-proxy of 1.25 or later", other)
            _iptables.exchange(save, have, will)


def _addresses(cluster: Cluster, node: Node) -> list[Addr]:
    """The node's addresses as its kube-proxy knows them: the API's InternalIPs, else what is on its devices."""
    told = [text for item in cluster.nodes if item.name == node.name
            for kind, text in item.addresses if kind == "InternalIP"]  # fmt: skip
    return [ip_address(text) for text in told] or [a.ip for a in node.addresses if a.scope == "global"]


# ---------------------------------------------------------------- nftables


def _in_nftables(node: Node, family: int, turned: list[_Turned], states: tuple[_Objects, _Objects]) -> Node:
    table = next(kube_proxy_nftables.tables(node, family))
    ruleset = _nftables.Ruleset(table, states[0].cluster_ips)
    what = "a kube-proxy of 1.29 to 1.36 in nftables mode"
    for plan, have, will in _parts(node, turned, ruleset.written, ruleset.present, _nftables.differing, what):
        gone = {key for name, key in have.elements if name == _nftables.HAIRPIN and (name, key) not in will.elements}
        ruleset.exchange(have, will, _of_others(gone, _nftables.hairpin_key, plan, states[1], node.name))
    return replace(node, nft=_exchanged(node.nft, table, ruleset.table))


def _exchanged(tables: Iterable[NftTable], old: NftTable, new: NftTable) -> tuple[NftTable, ...]:
    return tuple(new if table is old else table for table in tables)


# ---------------------------------------------------------------- IPVS


def _in_ipvs(saves: Saves, node: Node, family: int, turned: list[_Turned], state: _Objects) -> Node:
    lacking = [
        command for kind, command in (("ipvs", "ipvsadm -Sn"), ("ipset", "ipset save")) if kind not in node.covered
    ]
    if lacking:
        raise NotKnown(
            f"{node.name} has kube-proxy in IPVS mode, and what it would change is in no dump: add {' and '.join(lacking)}"
        )
    ipvs = _ipvs.Ipvs(node, family)
    what = "a kube-proxy of 1.26 or later in IPVS mode"
    for plan, old, new in _parts(node, turned, ipvs.written, ipvs.present, _ipvs.differing, what):
        gone = {entry for kind, entry in old.entries - new.entries if kind == _ipvs.LOOP_BACK}
        ipvs.exchange(old, new, _of_others(gone, _ipvs.hairpin_entry, plan, state, node.name, every=True))
    if ipvs.turned():
        programmed = [save for save in saves.of(node.name, family) if "KUBE-SERVICES" in save.section("nat").declared]
        if len(programmed) != 1:
            raise NotKnown(
                f"{node.name}: an ipset of kube-proxy would be empty or no longer be, and of the rules that go with it there is "
                f"{'more than one dump' if programmed else 'no dump'} (iptables-save)"
            )
        _ipvs.rewrite(programmed[0], ipvs, node.name)
    return ipvs.node


# ---------------------------------------------------------------- what ports share

_T = TypeVar("_T", bound=Hashable)
_P = TypeVar("_P")


def _parts(
    node: Node,
    turned: Iterable[_Turned],
    written: Callable[[Plan], _P],
    present: Callable[[Plan, _P], _P],
    differing: Callable[[_P, _P], Iterator[str]],
    what: str,
) -> list[tuple[Plan, _P, _P]]:
    """(plan, what there is, what there will be) of each port. All are looked at before any is exchanged: ports share elements.

    Raises NotKnown where there is something else than ``what`` would have written.
    """
    parts = []
    for each in turned:
        was, will = written(each.was), written(each.will)
        have = present(each.was, was)
        other = next(differing(have, was), None)
        if other is not None:
            raise _unlike(node, each.was, what, other)
        parts.append((each.will, have, will))
    return parts


def _of_others(
    gone: Collection[_T],
    key: Callable[[Where, str], _T],
    plan: Plan,
    state: _Objects,
    node: str,
    *,
    every: bool = False,
) -> frozenset[_T]:
    """Of the local endpoints that a port has no longer, as ``key`` says them, those that another port still has.

    ``every``: an endpoint counts that is not in use too.
    """
    if not gone:
        return frozenset()
    near = {
        (e.namespace, e.service, e.port_name, e.protocol): None for e in state.cluster.endpoints
        if e.protocol == plan.port.protocol and key((e.ip, e.port), plan.protocol) in gone
    }  # fmt: skip
    others = (state.ports[each] for each in near if each in state.ports and each != _key(plan.port))
    plans = (state.plan(port, plan.family, node) for port in others if not port.proxy and port.cluster_ips)
    ends = (end for each in plans for end in (each.own if every else set(each.used) & each.own))
    return frozenset(key(end, plan.protocol) for end in ends) & frozenset(gone)
