"""Who sends the packet, and which node it starts on or enters at."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec.structs import replace

from netk8s import objects
from netk8s.dialects._question.addresses import owner_of
from netk8s.dialects._question.dialled import Dialled
from netk8s.dialects._question.names import near, no_rules, node_names, port_number
from netk8s.dialects._question.pods import find_pod
from netk8s.errors import NotFound, UsageError
from netk8s.model import Addr, Ask, Pod, World


def with_source_port(ask: Ask) -> Ask:
    """The words with the port of ``--from IP:PORT`` or ``--from [IPv6]:PORT`` taken off the source."""
    host, colon, port = (ask.source or "").rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (bracketed or ":" not in host) or "/" in host:
        return ask
    number = port_number(port)
    if number is None:
        raise UsageError(f"--from {ask.source}: expected IP:PORT or [IPv6]:PORT")
    if ask.sport not in (None, number):
        raise UsageError(f"--from {ask.source} names a port and --sport names another ({ask.sport})")
    return replace(ask, source=host.strip("[]"), sport=number)


def default_source(world: World, ask: Ask, dialled: Dialled, notes: list[str]) -> str:
    """Who dials when nobody says: a client for what is meant for the outside, else a pod, else a node."""
    if dialled.kind in ("nodeport", "loadbalancer", "external-ip", "hostport", "healthcheck"):
        return "client"
    if dialled.kind == "address" and dialled.ip is not None and owner_of(world, dialled.ip) is not None:
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
        raise no_rules(world)
    if "pods" not in world.cluster.covered and not world.nodes[node].addresses:
        return "pod"
    notes.append(f"node/{node} is taken as the sender; choose with --from")
    return f"node/{node}"


def sender(world: World, ask: Ask, source: str) -> tuple[str, str | None, Addr | None, Pod | None]:
    """(origin, node it starts on, source address, pod)."""
    word, _, rest = source.partition("/")
    if source == "client":
        return "outside", None, None, None
    if source == "pod":
        return "pod", ask.node or ask.via or next(iter(world.nodes)), None, None
    if rest and word in ("pod", "po", "pods"):
        return _from_pod(world, find_pod(world, rest, ask.namespace), None)
    if rest and word in ("node", "no", "nodes"):
        if rest not in world.nodes:
            names = [f"node/{n}" for n in near(rest, world.nodes)]
            known = rest in node_names(world)
            raise NotFound(
                f"node {rest}", names, f"no dump of node {rest}, where the packet would start" if known else ""
            )
        return "node", rest, None, None
    try:
        ip = ip_address(source)
    except ValueError:
        raise UsageError(f"--from {source}: expected client, an IP, pod/NAMESPACE/NAME or node/NAME") from None
    for pod in objects.of(world.cluster).pods_at(ip):
        if not pod.host_network and pod.phase not in ("Succeeded", "Failed"):
            return _from_pod(world, pod, ip)
    owner = owner_of(world, ip)
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


def entry_node(world: World, ask: Ask, dialled: Dialled, notes: list[str]) -> str:
    """The node an outside packet enters at."""
    if ask.via is not None or ask.node is not None:
        return ask.via or ask.node or ""
    if dialled.owner is not None and dialled.kind in ("hostport", "address"):
        return dialled.owner
    if dialled.ip is not None:
        owner = owner_of(world, dialled.ip)
        if owner is not None:
            return owner
    if not world.nodes:
        raise no_rules(world)
    names = list(world.nodes)
    if len(names) > 1 and dialled.kind not in ("clusterip", "pod"):
        notes.append(f"the packet is taken to enter at {names[0]}; choose with --via ({', '.join(names[1:6])})")
    return names[0]
