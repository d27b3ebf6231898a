"""Cluster DNS as a pod uses it: its resolv.conf by dnsPolicy, the names it asks in order, and whom.

Sources: pkg/kubelet/network/dns/dns.go (GetPodDNS), resolv.conf(5) for search and ndots; the cluster's domain and DNS
address are kubelet's settings, which the API does not show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from netk8s.dialects._question import resolve
from netk8s.errors import NotFound, UsageError
from netk8s.model import UDP, Ask, Part, Pod, ServicePort, World

USUAL = (
    ("kube-system", "kube-dns"),
    ("kube-system", "coredns"),
    ("kube-system", "rke2-coredns-rke2-coredns"),
    ("openshift-dns", "dns-default"),
)
"""Names of the cluster's DNS Service: kubeadm and most others, MicroK8s and some charts, RKE2, OpenShift."""
DOMAIN = "cluster.local"
NODE_CACHE = "169.254.20.10"
_NAME = re.compile(
    r"(?=.{1,253}\.?$)([A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?\.?"
)


class Resolver(Struct, frozen=True):
    """A pod's resolv.conf: ``nameservers`` is empty where only the node's own file has them."""

    nameservers: tuple[str, ...]
    searches: tuple[str, ...]
    ndots: int
    of_node: bool


def parts(world: World, ask: Ask) -> tuple[Part, ...]:
    """The query to each of the pod's nameservers, the first alone an outcome. Raises UsageError and NotFound."""
    pod = _pod(world, ask)
    assumptions: list[str] = []
    domain = _domain(world, assumptions)
    service = _service(world)
    resolver = resolver_of(world, pod, domain, service, assumptions)
    notes = (*_file(pod, resolver), *(_asked(world, ask.name, resolver, domain) if ask.name else ()))
    if not resolver.nameservers:
        where = f"/etc/resolv.conf of {pod.node or 'its node'}"
        why = f"pod {pod.namespace}/{pod.name} asks the nameservers of {where}, which no dump has; {'; '.join(notes)}"
        raise NotFound("the pod's nameservers", (), why)
    out = []
    for position, server in enumerate(resolver.nameservers):
        words = replace(ask, target=_at(server), port=None, protocol=ask.protocol or "udp", namespace=None, family=None)
        flow = resolve(world, words)
        flow = replace(flow, target=ask.target, assumptions=(*flow.assumptions, *assumptions))
        name = f"nameserver {server}" if len(resolver.nameservers) > 1 else ""
        out.append(Part(name, flow, besides=position > 0, notes=notes if position == 0 else ()))
    return tuple(out)


def _at(server: str) -> str:
    return f"[{server}]:53" if ":" in server else f"{server}:53"


def _pod(world: World, ask: Ask) -> Pod:
    words = (ask.source or "").split("/")
    if words[0] not in ("pod", "pods") or len(words) not in (2, 3):
        raise UsageError("dns: say which pod asks, with --from pod/NAMESPACE/NAME")
    namespace, name = (words[1], words[2]) if len(words) == 3 else (ask.namespace or "default", words[1])
    if ask.name is not None and not _NAME.fullmatch(ask.name):
        raise UsageError(f"{ask.name!r} is no DNS name")
    for pod in world.cluster.pods:
        if (pod.namespace, pod.name) == (namespace, name):
            return pod
    names = [f"pod/{p.namespace}/{p.name}" for p in world.cluster.pods if p.name.startswith(name[:4])]
    raise NotFound(f"pod {namespace}/{name}", names[:5])


def _domain(world: World, assumptions: list[str]) -> str:
    """The cluster's domain by CoreDNS' own Corefile, else the usual one."""
    for each in world.cluster.config_maps:
        for key, text in each.data:
            found = (
                re.search(r"^\s*kubernetes\s+([A-Za-z0-9][-A-Za-z0-9.]*)", text, re.M) if key == "Corefile" else None
            )
            if found:
                return found[1].strip(".")
    assumptions.append(f"the cluster's domain is {DOMAIN}")
    return DOMAIN


def _service(world: World) -> ServicePort | None:
    """The cluster's DNS Service by its usual names."""
    for wanted in USUAL:
        for service in world.cluster.services:
            if (service.namespace, service.service) == wanted and (service.port, service.protocol) == (53, UDP):
                return service
    return None


def resolver_of(world: World, pod: Pod, domain: str, service: ServicePort | None, assumptions: list[str]) -> Resolver:
    """The pod's resolv.conf, of what kubelet writes there. Raises NotFound when the cluster's DNS Service is not there."""
    policy = pod.dns_policy
    if policy == "ClusterFirst" and pod.host_network:
        policy = "Default"
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        cached = _cached(world, pod)
        if cached:
            servers.append(NODE_CACHE)
            assumptions.append(f"{cached}, so kubelet's clusterDNS is taken to be {NODE_CACHE}")
        elif service is not None and service.cluster_ips:
            servers.append(str(service.cluster_ips[0]))
            assumptions.append(f"kubelet's clusterDNS is the ClusterIP of {service.namespace}/{service.service}")
        else:
            names = ", ".join("/".join(name) for name in USUAL)
            raise NotFound("the cluster's DNS Service", (), f"no Service of the dumps is called {names}")
        searches += [f"{pod.namespace}.svc.{domain}", f"svc.{domain}", domain]
        options["ndots"] = "5"
    servers += [each for each in pod.dns.nameservers if each not in servers]
    searches += [each for each in pod.dns.searches if each not in searches]
    options.update(pod.dns.options)
    ndots = options.get("ndots", "")
    return Resolver(
        tuple(servers[:3]),
        tuple(searches),
        min(int(ndots), 15) if ndots.isascii() and ndots.isdigit() else 1,
        policy == "Default",
    )


def _cached(world: World, pod: Pod) -> str:
    """In IPVS mode the node's cache has no other address: kubelet names its link-local one."""
    node = world.nodes.get(pod.node or "")
    if node is None or not node.virtual_servers:
        return ""
    if any(str(address.ip) == NODE_CACHE for address in node.addresses):
        return f"{node.name} runs NodeLocal DNSCache and kube-proxy in IPVS mode"
    return ""


def _file(pod: Pod, resolver: Resolver) -> Iterator[str]:
    policy = pod.dns_policy
    if policy == "ClusterFirst" and pod.host_network:
        policy = "ClusterFirst with hostNetwork, which is Default"
    if resolver.of_node:
        yield f"dnsPolicy {policy}: resolv.conf is that of {pod.node or 'its node'}"
        return
    search = f", search {' '.join(resolver.searches)}" if resolver.searches else ""
    names = " ".join(resolver.nameservers) or "none"
    yield f"dnsPolicy {policy}: nameserver {names}{search}, ndots {resolver.ndots}"


def queries(name: str, resolver: Resolver) -> tuple[str, ...]:
    """The names that a resolver asks for in order, until one is answered (resolv.conf(5); glibc and musl alike)."""
    if name.endswith("."):
        return (name,)
    searched = tuple(f"{name}.{domain.rstrip('.')}." for domain in resolver.searches)
    itself = (f"{name}.",)
    return (*itself, *searched) if name.count(".") >= resolver.ndots else (*searched, *itself)


def _asked(world: World, name: str, resolver: Resolver, domain: str) -> Iterator[str]:
    if resolver.of_node and not resolver.searches:
        yield f"which names are asked for {name} is for the node's resolv.conf to say"
        return
    asked = queries(name, resolver)
    yield f"asked in order, each for A and AAAA: {', '.join(asked)}"
    for position, each in enumerate(asked):
        answered = _answer(world, each, domain)
        if answered is None:
            continue
        wasted = f" after {position} that do not exist" if position else ""
        yield f"{each} is the first that is answered{wasted}: {answered}"
        return
    known = name.rstrip(".").endswith(domain) or all(each.rstrip(".").endswith(domain) for each in asked)
    if known and "services" in world.cluster.covered:
        yield "no Service of that name is there: the answer is NXDOMAIN"
    else:
        yield f"no Service has the name: {asked[-1] if asked else name} is for the upstream resolver of the cluster's DNS"


def _answer(world: World, query: str, domain: str) -> str | None:
    """What the Service of a name is answered with; None when no Service has it."""
    labels = query.rstrip(".").lower().removesuffix(f".{domain.lower()}")
    if labels == query.rstrip(".").lower() or not labels.endswith(".svc"):
        return None
    words = labels.split(".")
    if len(words) != 3:
        return None
    service, namespace = words[0], words[1]
    for outside in world.cluster.external_names:
        if (outside.namespace.lower(), outside.service.lower()) == (namespace, service):
            return f"CNAME {outside.host}"
    found = [s for s in world.cluster.services if (s.namespace.lower(), s.service.lower()) == (namespace, service)]
    if not found:
        return None
    if found[0].cluster_ips:
        return ", ".join(map(str, found[0].cluster_ips))
    ready = sorted(
        {str(e.ip) for e in world.cluster.endpoints if e.ready and (e.namespace, e.service) == (namespace, service)}
    )
    return f"the pods' addresses {', '.join(ready)}" if ready else "no address (headless, no ready endpoint)"
