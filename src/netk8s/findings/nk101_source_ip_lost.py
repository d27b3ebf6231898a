"""The endpoint does not see who asked: a rule replaced the source address.

What it sees
------------
A delivered packet whose source is no longer the sender's, the rule that replaced it, the
address it was replaced by, and the rule that asked for it. kube-proxy does not masquerade in
the rule that translates: it marks the packet early (KUBE-MARK-MASQ) and KUBE-POSTROUTING
masquerades what is marked when it leaves. So the place that matters is the one that marks:

  marked in               because
  KUBE-EXT-, KUBE-FW-,    the Service's externalTrafficPolicy is Cluster
  KUBE-NODEPORTS
  KUBE-SVC-, no source    kube-proxy runs with --masquerade-all
  KUBE-SVC-, ! -s or ! -i the sender is no pod that kube-proxy recognises
  KUBE-SEP-               the packet goes back to the pod that sent it (hairpin)
  no mark                 a rule of the CNI plugin, or of someone else, replaces sources by itself

It is a warning when an outside client's address is lost, or a pod's by a setting that can be
changed. It is only information for a node's own packets, for hairpin, and for what a CNI plugin
does to packets that leave the pod network.

Why it matters
--------------
Access logs, rate limits, allow lists and geography all work on an address that is not the
client's. NetworkPolicies on the endpoint's node see the replaced address too. And the new
address is not "the node's IP": MASQUERADE takes an address of the device towards the endpoint,
so one Service shows several.

Example
-------
  NK101 warning  worker-1 replaces the source 203.0.113.7 of the client by 10.244.1.1 (seen by
                 10.244.1.5:80), because externalTrafficPolicy of default/shop is Cluster
     worker-1.iptables-save:83, :57
  Rule 83 sends everything from outside to KUBE-MARK-MASQ, rule 57 masquerades it.

What to do
----------
By who asked for it; each has its price.

externalTrafficPolicy: Local keeps the address. Nodes without an endpoint of the Service then
drop the packets, so the load balancer must use the healthCheckNodePort (which Services of type
LoadBalancer have) or check the port of each node, or every node must have an endpoint; load is
spread by node and not by endpoint; during a roll-out connections may be lost until the load
balancer notices. In IPVS mode such nodes do not drop: they send the packets to other nodes'
endpoints, unmasqueraded by kube-proxy, so that answers get lost unless the CNI masquerades.

PROXY protocol or X-Forwarded-For carry the address in the payload. Spreading stays even, but
whatever terminates the connection must write it and the application must read it and trust only
that sender.

A hostNetwork endpoint on the node that the client addresses sees the client, for nothing of the
kind is masqueraded on its way to a local process. Ports may clash and the pod is exposed on the
host.

--masquerade-all can usually be turned off: it is needed only where answers would not find the
way back.

A pod that is taken for a stranger needs the right --cluster-cidr or --detect-local-mode. A
range that is too wide does harm: outside clients of a ClusterIP are then not masqueraded, and
their connections hang.

A CNI plugin's masquerade can be limited to what leaves the cluster (ip-masq-agent's
nonMasqueradeCIDRs, Calico's natOutgoing, AWS_VPC_K8S_CNI_EXTERNALSNAT); the network must then
route pod addresses back.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from netk8s.findings import _marks
from netk8s.findings._reading import (
    address,
    arrived,
    endpoints,
    live,
    named,
    node_names,
    option,
    places,
    proven,
    service_name,
    service_port,
    usable,
)
from netk8s.model import TCP, Addr, Finding, Hop, Rewrite, ServicePort, Step, Trace, Way, World

CODE = "NK101"
SEVERITY = "warning"
SUMMARY = "The endpoint sees another source address than the sender's."

_CNI = (
    ("FLANNEL-POSTRTG", "flannel"),
    ("CNI-", "the CNI plugin's ipMasq"),
    ("cali-", "Calico"),
    ("IP-MASQ", "ip-masq-agent"),
    ("AWS-SNAT-CHAIN", "the AWS VPC CNI"),
    ("CILIUM_", "Cilium"),
    ("KUBE-ROUTER", "kube-router"),
    ("WEAVE", "Weave Net"),
)


_EARLIER = "earlier"
"""No rule was asked: the packet belongs to a connection that a conntrack dump lists."""


class _Loss(Struct):
    """One rule that replaces one address for one reason, and what came of it."""

    rewrite: Rewrite
    reason: str
    marker: Step | None
    seen: dict[Addr | None, list[str]] = field(default_factory=dict)
    ways: list[Way] = field(default_factory=list)


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    losses: dict[object, _Loss] = {}
    for way in live(trace):
        if not arrived(way) or way.reached is None:
            continue
        for rewrite in way.rewrites:
            reason, marker = _asked(trace, port, way, rewrite)
            key = (rewrite.node, rewrite.at, rewrite.before, reason, marker.at if marker is not None else None)
            loss = losses.setdefault(key, _Loss(rewrite, reason, marker))
            loss.seen.setdefault(rewrite.after, []).append(address(way.reached.ip, way.reached.port))
            loss.ways.append(way)
    for loss in losses.values():
        yield _finding(world, trace, port, loss)


def _asked(trace: Trace, port: ServicePort | None, way: Way, rewrite: Rewrite) -> tuple[str, Step | None]:
    """(why the source was replaced, the step that asked for it)."""
    if rewrite.rule is None:
        return _EARLIER, None
    hop = next((h for h in way.hops if h.node == rewrite.node and _has(h, rewrite)), None)
    if hop is not None and rewrite.chain in _marks.MASQUERADING:
        found = _marks.marked(trace, port, hop, rewrite.chain)
        if found is not None:
            return found.reason, found.step
    return next((f"cni {who}" for start, who in _CNI if rewrite.chain.startswith(start)), _marks.OTHER), None


def _has(hop: Hop, rewrite: Rewrite) -> bool:
    return any(s.at == rewrite.at and s.rule == rewrite.rule for s in hop.steps)


def _finding(world: World, trace: Trace, port: ServicePort | None, loss: _Loss) -> Finding:
    rewrite, flow = loss.rewrite, trace.flow
    service = service_name(trace, loss.marker.detail if loss.marker is not None else None)
    first = flow.packet.src == rewrite.before
    owner = {"outside": " of the client", "pod": " of the pod", "node": ""}[flow.origin] if first else ""
    summary = (
        f"{rewrite.node} replaces the source {rewrite.before}{owner} by {_seen(loss)}, {_because(trace, loss, service)}"
    )
    policy = loss.reason == _marks.POLICY and port is not None and bool(port.at.origin)
    return Finding(
        CODE,
        _severity(trace, loss),
        summary,
        places(
            loss.marker,
            rewrite.at,
            f"service {service} ({port.at})" if policy and port is not None else None,
        ),
        _remedy(world, trace, port, loss, service),
        proven(loss.ways),
    )


def _seen(loss: _Loss) -> str:
    parts = []
    for after, whom in loss.seen.items():
        what = str(after) if after is not None else "an address of the node that no dump tells"
        parts.append(f"{what} (seen by {named(whom, 'endpoints')})")
    return " and ".join(parts)


def _severity(trace: Trace, loss: _Loss) -> str:
    flow = trace.flow
    again = loss.rewrite.before != flow.packet.src
    if flow.origin == "node" or again or loss.reason in (_marks.HAIRPIN, _marks.NODE, _EARLIER):
        return "info"
    if flow.origin == "pod" and (loss.reason == _marks.HOSTPORT or (_by_cni(loss) and not _by_outside_address(trace))):
        return "info"
    return SEVERITY


def _by_cni(loss: _Loss) -> bool:
    return loss.reason.startswith("cni ")


def _by_outside_address(trace: Trace) -> bool:
    """Whether a pod dials a Service by an address meant for the outside, where a ClusterIP would do."""
    return trace.flow.service is not None and trace.flow.kind not in ("clusterip", "pod")


def _because(trace: Trace, loss: _Loss, service: str) -> str:
    of = f" of {service}" if service else ""
    chain = loss.rewrite.chain
    origin = trace.flow.origin
    if loss.reason == _EARLIER:
        return "because the connection began so: its conntrack entry has that address"
    if loss.reason == _marks.POLICY:
        return f"because externalTrafficPolicy{of or ' of the Service'} is Cluster"
    if loss.reason == _marks.ALL:
        return "because kube-proxy masquerades all traffic to ClusterIPs (--masquerade-all)"
    if loss.reason == _marks.HAIRPIN:
        return "because the packet goes back to the pod that sent it"
    if loss.reason == _marks.NODE:
        return f"because it comes from the node itself and goes to a Service{of and f' ({service})'}"
    if loss.reason == _marks.STRANGER:
        who = (
            "the client is outside and dials a ClusterIP"
            if origin == "outside"
            else "kube-proxy does not recognise it as a pod"
        )
        return f"because {who} (not from {_local(loss)})"
    if loss.reason == _marks.HOSTPORT:
        return "because the portmap plugin masquerades hostPort traffic from the node and its own pods"
    if _by_cni(loss):
        return f"because a rule of {loss.reason[4:]} does it ({chain})"
    return f"because a rule in {chain} does it"


def _local(loss: _Loss) -> str:
    """What kube-proxy takes for its pods, as the mark rule has it."""
    found = option(loss.marker.detail, "-s", "-i") if loss.marker is not None else None
    return found.values[0] if found is not None else "the pod network"


def _remedy(world: World, trace: Trace, port: ServicePort | None, loss: _Loss, service: str) -> str:
    origin = trace.flow.origin
    if loss.reason == _EARLIER:
        return "Ask again without --sport to see which rule does it to a new connection, and what to do about that."
    if loss.reason == _marks.NODE or origin == "node":
        return (
            "Nothing is lost but which of the node's addresses it was; a NetworkPolicy that admits the node has to "
            "admit the addresses of its bridge or tunnel device as well."
        )
    if origin == "pod" and (loss.reason == _marks.POLICY or (_by_cni(loss) and _by_outside_address(trace))):
        return (
            "Dial the ClusterIP from inside the cluster: a pod's address is kept there. externalTrafficPolicy: Local "
            "keeps it too, but only at the address of the pod's own node."
        )
    if loss.reason == _marks.POLICY:
        return _policy_remedy(world, trace, port, service)
    if loss.reason == _marks.ALL:
        return (
            "Run kube-proxy without --masquerade-all (iptables.masqueradeAll: false). It is needed only where answers "
            "would not come back through the node, as with pods on macvlan."
        )
    if loss.reason == _marks.STRANGER and origin == "outside":
        return (
            "The answer would not come back through this node otherwise, so the masquerade is needed. Give outside "
            "clients a LoadBalancer or NodePort with externalTrafficPolicy: Local, or carry the address by PROXY "
            "protocol or X-Forwarded-For."
        )
    if loss.reason == _marks.STRANGER:
        return (
            "Make kube-proxy recognise the pod: --cluster-cidr, or --detect-local-mode with a bridge or interface "
            f"prefix, has to cover {loss.rewrite.before}. Do not make the range wider than the pods' own: with node "
            "or client networks in it, outside clients of a ClusterIP are no longer masqueraded and their "
            "connections hang."
        )
    if loss.reason == _marks.HAIRPIN:
        return "Nothing: a pod that reaches itself through its Service would not accept a packet from its own address."
    if loss.reason == _marks.HOSTPORT:
        return (
            "Dial the pod's own address from inside the cluster. The plugin's option snat: false turns the "
            "masquerade off, and then neither 127.0.0.1 nor the pod itself can use the hostPort."
        )
    if origin == "pod":
        return (
            "That is what the CNI plugin does to packets that leave the pod network. To keep the pod's address, "
            "except the destination (ip-masq-agent's nonMasqueradeCIDRs, Calico's natOutgoing, flannel's "
            "--ip-masq) and let the network route pod addresses back."
        )
    return (
        f"Except these packets from the rule in {loss.rewrite.chain}, or put a RETURN before it. Answers must then "
        "come back through the node that translated the packet: they do when the endpoint is on that node, else "
        "the network has to see to it."
    )


def _policy_remedy(world: World, trace: Trace, port: ServicePort | None, service: str) -> str:
    namespace, _, name = service.partition(":")[0].partition("/")
    how = (
        f'kubectl -n {namespace} patch svc {name} -p \'{{"spec":{{"externalTrafficPolicy":"Local"}}}}\'' if name else ""
    )
    # The API server allocates a health check port to Services of type LoadBalancer only.
    by_port = port is not None and port.type != "LoadBalancer"
    watch = "check the port of each node" if by_port else "watch the healthCheckNodePort"
    in_payload = (
        " PROXY protocol, or X-Forwarded-For behind an HTTP proxy, keeps even spreading; the endpoint has to read it "
        "and trust only the proxy."
        if trace.flow.packet.protocol == TCP
        else ""
    )
    without = _without_endpoint(world, trace, port)
    if _by_ipvs(world, trace):
        who = named(without, "nodes") if without else "nodes without an endpoint of their own"
        sends = "sends" if len(without) == 1 else "send"
        drops = (
            f"in IPVS mode {who} then {sends} these packets to other nodes' endpoints, unmasqueraded by kube-proxy, and "
            "connections hang unless the CNI masquerades"
        )
    elif without:
        verb = "drops" if len(without) == 1 else "drop"
        drops = f"then {named(without, 'nodes')} {verb} these packets, for lack of an endpoint"
    else:
        drops = "nodes without an endpoint of their own then drop these packets"
    return (
        f"externalTrafficPolicy: Local keeps the address{f' ({how})' if how else ''}; {drops}, so the load balancer "
        f"has to {watch} or every node needs an endpoint, and load is spread by node, not by endpoint.{in_payload}"
    )


def _by_ipvs(world: World, trace: Trace) -> bool:
    node, packet = world.nodes.get(trace.flow.node), trace.flow.packet
    return node is not None and any(
        (s.ip, s.port, s.protocol) == (packet.dst, packet.dport, packet.protocol) for s in node.virtual_servers
    )


def _without_endpoint(world: World, trace: Trace, port: ServicePort | None) -> list[str]:
    if port is None or "endpoints" not in world.cluster.covered:
        return []
    have = {e.node for e in usable(endpoints(world, port, trace.flow.packet.family))}
    return [name for name in node_names(world) if name not in have]
