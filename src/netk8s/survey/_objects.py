"""The API's objects of a question without their names, and what nodes remember of connections to it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from ipaddress import ip_network

from msgspec.structs import replace

from netk8s import dialects, objects
from netk8s.errors import DecodeError
from netk8s.model import TCP, Addr, At, Cluster, Endpoint, Pod, PolicyPeer, Requirement, Selector, ServicePort, World
from netk8s.survey._names import Numbering, Places
from netk8s.survey._networks import Networks
from netk8s.survey._ports import Port

CLUSTER_FIELDS = frozenset({"services", "endpoints", "pods", "nodes", "policies", "namespaces", "elsewhere"})
"""The lists that a walk, and what is told of it, looks at."""

UNREAD = frozenset({
    "other_policies", "external_names", "ingresses", "classes", "gateways", "http_routes", "grants", "config_maps", "covered",
})  # fmt: skip
"""The lists of which at most is asked whether there are any: what routes HTTP is no question's target."""


class Objects:
    """The API's objects without their names."""

    def __init__(self, world: World, networks: Networks) -> None:
        self._world, self._cluster = world, world.cluster
        self._known = objects.of(world.cluster)
        self._told = dialects.told_of_pods(world.cluster)
        self._policies = _Policies(world.cluster)
        self._others: dict[Addr, list[Pod]] = {}
        for there in world.cluster.elsewhere:
            for pod in (*there.peers, *there.clients):
                for ip in pod.ips:
                    self._others.setdefault(ip, []).append(pod)
        self.numbers = set(self._policies.numbers)
        for pod in world.cluster.pods:
            for _, port, _, host_port, _ in pod.ports:
                self.numbers.update(() if host_port is None else (host_port,))
                self.numbers.update((port,) if pod.host_network else ())
        for s in world.cluster.services:
            self.numbers.update(() if s.health_check_node_port is None else (s.health_check_node_port,))
        for net in self._known.service_ranges:
            networks.add(net, "Services")
        for net in self._policies.networks:
            networks.add(net, ("policy", str(net)))
        for item in world.cluster.nodes:
            kind: Hashable = item.name if item.name in world.nodes else ("no dump", item.kube_proxy_version)
            for cidr in item.pod_cidrs:
                networks.add(cidr, ("pods", cidr.prefixlen, kind))
            for what, text in item.addresses:
                try:
                    networks.add(ip_network(text), (what, kind))
                except ValueError:
                    continue

    def of_pod(self, pod: Pod) -> Hashable:
        """What is written of a pod but its name, node and addresses."""
        name = f"{pod.namespace}/{pod.name}" if pod.name else ""
        bare = replace(pod, namespace="", name="", node="", ips=(), labels=(), at=At(""))
        told = name if name in self._told else ""
        return repr(bare), tuple(ip.version for ip in pod.ips), self._policies.of(pod), told

    def of_port(self, port: Port, hosts: Mapping[str, Addr], names: Numbering, places: Places) -> Hashable:
        """What the objects say of a port. Names of pods, and of nodes without dumps, are numbered in ``names``.

        ``hosts``: the addresses at which it is dialled, and its endpoints'. ``places`` are added where it says so.
        """
        told: list[Hashable] = [
            (row.node, row.mode, row.kind, row.ip is None or names.of(str(row.ip)), row.addresses) for row in port.rows
        ]
        space, _, service = port.service.partition("/")
        dialled = dict.fromkeys(d.ip for d in port.dialled if d.ip is not None)
        for s in self._known.services_named(space, service):
            places.add(s.at.origin, s.at.line)
            told.append(self._of_service(s, names, port))
        for ip in dialled:
            others = (s for s in self._known.services_at(ip) if (s.namespace, s.service) != (space, service))
            told += [(names.of(str(ip)), repr(replace(s, at=At("")))) for s in others]
        for number in dict.fromkeys(d.port for d in port.dialled if d.ip is None):
            told += [
                (names.of(str(number)), (s.namespace, s.service) == (space, service), s.name, s.protocol)
                for s in self._known.with_node_port(number)
            ]
        ends = [e for e in self._known.endpoints_of(space, service) if (e.port_name, e.protocol) == port.key[1:]]
        # Nobody asks for the order of a set of endpoints, but the first of those that share an address tells its pod.
        ends.sort(key=lambda e: names.order(str(e.ip)))
        told += [self._of_endpoint(e, names, own=True) for e in ends]
        for host in sorted(hosts, key=names.order):
            ip = hosts[host]
            told.append(names.of(host))
            for e in self._known.endpoints_at(ip):
                places.add(e.at.origin, e.at.line)
                told.append(self._of_endpoint(e, names, own=(e.namespace, e.service) == (space, service)))
            told.append(tuple(ip in there.addresses for there in self._cluster.elsewhere))
            for pod in (*self._known.pods_at(ip), *self._others.get(ip, ())):
                name = names.number(f"{pod.namespace}/{pod.name}") if pod.name else ""
                places.add(pod.at.origin, pod.at.line)
                told.append(
                    (name, self._node(pod.node, names), self.of_pod(pod), tuple(names.of(str(i)) for i in pod.ips))
                )
        return tuple(told)

    def _node(self, name: str | None, names: Numbering) -> Hashable:
        return name if name is None or name in self._world.nodes else names.number(name)

    def _of_service(self, s: ServicePort, names: Numbering, port: Port) -> Hashable:
        """A port of the Service itself: by this one's own addresses and NodePorts; those of the others are another's."""
        own = (s.name, s.protocol) == port.key[1:]
        lists = (s.cluster_ips, s.external_ips, s.lb_ips, s.lb_ips_proxy)
        bare = replace(
            s, namespace="", service="", cluster_ips=(), external_ips=(), lb_ips=(), lb_ips_proxy=(), node_port=None,
            health_check_node_port=None, at=At(""),
        )  # fmt: skip
        return (
            own, repr(bare), tuple(tuple(names.of(str(ip)) for ip in ips) for ips in lists),
            names.of(str(s.node_port)) if own and s.node_port is not None else s.node_port is not None,
            s.health_check_node_port is not None,
        )  # fmt: skip

    def _of_endpoint(self, e: Endpoint, names: Numbering, *, own: bool) -> Hashable:
        pod = names.number(e.pod) if e.pod is not None else None
        told = (
            own,
            names.of(str(e.ip)),
            self._node(e.node, names),
            pod,
            e.port_name if own else "",
            e.protocol,
            e.port,
        )
        return (*told, e.ready, e.serving, e.terminating, e.hints, e.zone if e.hints else None)


class _Policies:
    """NetworkPolicies by what of a pod they look at: its namespace, and each label that a selector asks for."""

    def __init__(self, cluster: Cluster) -> None:
        self._any = bool(cluster.policies)
        self._spaces = {policy.namespace for policy in cluster.policies}
        self._labels = {space.name: dict(space.labels) for space in cluster.namespaces}
        self._asked: dict[tuple[str, str | None], list[int]] = {}
        self.networks = {
            net for peer in _peers(cluster) if peer.block is not None for net in (peer.block, *peer.excluded)
        }
        rules = [rule for policy in cluster.policies for rule in (*policy.ingress, *policy.egress)]
        ports = [port for rule in rules for port in rule.ports or ()]
        self.numbers = {n for port in ports for n in (port.port, port.end) if isinstance(n, int)}
        self._by_space = False
        for number, selector in enumerate(_selectors(cluster)):
            for requirement in selector:
                for key in _hits(requirement):
                    self._asked.setdefault(key, []).append(number)
        self._by_space = any(peer.namespaces is not None for peer in _peers(cluster))

    def of(self, pod: Pod) -> Hashable:
        """All that policies can tell of a pod.

        A selector holds, or does not, by the labels that one of its requirements names; of a pod without any of these
        labels it is the same for every pod.
        """
        if not self._any:
            return ()
        space = pod.namespace if pod.namespace in self._spaces else ""
        labels = self._labels.get(pod.namespace)
        # The API server gives every namespace the label of its name.
        of_space = self._hit({**(labels or {}), "kubernetes.io/metadata.name": pod.namespace}) if self._by_space else ()
        return space, labels is None, of_space, self._hit(dict(pod.labels))

    def _hit(self, labels: dict[str, str]) -> Hashable:
        keys = ((key, value) for pair in labels.items() for key, value in (pair, (pair[0], None)))
        return tuple(sorted({(key, value or "", tuple(found)) for key, value in keys
                             if (found := self._asked.get((key, value)))}))  # fmt: skip


def _peers(cluster: Cluster) -> Iterator[PolicyPeer]:
    for policy in cluster.policies:
        for rule in (*policy.ingress, *policy.egress):
            yield from rule.peers or ()


def _selectors(cluster: Cluster) -> Iterator[Selector]:
    for policy in cluster.policies:
        yield policy.pods
    for peer in _peers(cluster):
        yield from (each for each in (peer.pods, peer.namespaces) if each is not None)


def _hits(requirement: Requirement) -> Iterator[tuple[str, str | None]]:
    """The labels that a requirement tells apart from no label: (key, value), the value None for any."""
    if requirement.operator in ("In", "NotIn"):
        yield from ((requirement.key, value) for value in requirement.values)
    # A label of any other value is told apart from none by Exists, DoesNotExist, and what is not known here.
    if requirement.operator != "In":
        yield (requirement.key, None)


class Connections:
    """What was dialled of connections that nodes remember, and where their answers come from.

    They decide for packets whose source port is known, and no question gives one, so only findings tell of them
    (NK420, NK421): of those that go on to something else than the Service's endpoints.
    """

    def __init__(self, world: World) -> None:
        self._told = "endpoints" in world.cluster.covered
        self._answers: dict[tuple[int, int], set[tuple[Addr, Addr]]] = {}
        tables = [table for node in world.nodes.values() for table in node.conntrack]
        self.any = bool(tables)
        self.able = True
        try:
            for entry in (entry for table in tables for entry in table.connections):
                if entry.original.dport is not None:
                    ends = self._answers.setdefault((entry.protocol, entry.original.dport), set())
                    ends.add((entry.original.dst, entry.reply.src))
        except DecodeError:
            # It is told of where somebody asks for that entry.
            self.able = False

    def as_expected(self, port: Port) -> bool:
        """Whether no finding is about connections to a port."""
        ends = frozenset(place.ip for place in port.endpoints) if self.any else frozenset()
        for dialled in port.dialled:
            for dst, answering in self._answers.get((port.protocol, dialled.port), ()):
                if dialled.ip not in (None, dst):
                    continue
                untold = answering == dst or answering in ends or not self._told
                if not untold or (answering == dst and port.protocol != TCP):
                    return False
        return True
