"""The API's objects after a change, as the API server and its controllers would have them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from netk8s.errors import NotFound, UsageError
from netk8s.intent import DEFAULT_AFFINITY
from netk8s.model import Cluster, Endpoint, Pod, ServicePort, World
from netk8s.whatif._wanted import Wanted, near


def changed(world: World, wanted: Wanted, notes: list[str]) -> Cluster:
    """The cluster's objects after what is wanted. Raises UsageError, NotFound."""
    cluster = world.cluster
    for text, field in ((t, f) for f in ("external_policy", "internal_policy")
                        for t in (wanted.external if f == "external_policy" else wanted.internal)):  # fmt: skip
        cluster = _policy(cluster, text, field, notes)
    for text in wanted.affinity:
        cluster = _affinity(cluster, text)
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
    name, _, policy = text.partition("=")
    if policy not in ("Cluster", "Local"):
        raise UsageError(f"{text}: expected [NAMESPACE/]NAME=POLICY", ("Cluster", "Local"))
    name, mine = _service(cluster, name)
    outside = any(s.node_port or s.lb_ips or s.external_ips for s in mine)
    if field == "external_policy" and not outside:
        raise UsageError(f"svc/{name} has no address for clients outside, so no externalTrafficPolicy")
    more: dict[str, object] = {}
    if field == "external_policy" and policy == "Cluster":
        more["health_check_node_port"] = None
    elif field == "external_policy" and any(s.type == "LoadBalancer" and not s.health_check_node_port for s in mine):
        notes.append(f"the healthCheckNodePort that the API would give svc/{name} is not known and left out")
    return _with(cluster, mine, {field: policy, **more})


def _affinity(cluster: Cluster, text: str) -> Cluster:
    name, _, words = text.partition("=")
    kind, _, seconds = words.partition(":")
    # The API takes up to a day (ValidateService, core/v1).
    timed = seconds.isdecimal() and 0 < int(seconds[:6]) <= 86400 and len(seconds) < 6
    if kind not in ("None", "ClientIP") or (":" in words and (kind == "None" or not timed)):
        raise UsageError(f"{text}: expected [NAMESPACE/]NAME=None or =ClientIP[:SECONDS], at most 86400 s")
    _, mine = _service(cluster, name)
    until = (int(seconds) if seconds else DEFAULT_AFFINITY) if kind == "ClientIP" else None
    return _with(cluster, mine, {"affinity": kind, "affinity_seconds": until})


def _service(cluster: Cluster, name: str) -> tuple[str, list[ServicePort]]:
    """A Service's full name and its ports."""
    name = name.removeprefix("svc/")
    name = name if "/" in name else f"default/{name}"
    mine = [s for s in cluster.services if f"{s.namespace}/{s.service}" == name]
    if not mine:
        raise NotFound(
            f"service {name}", near(name, dict.fromkeys(f"{s.namespace}/{s.service}" for s in cluster.services))
        )
    return name, mine


def _with(cluster: Cluster, mine: list[ServicePort], fields: dict[str, object]) -> Cluster:
    return replace(cluster, services=tuple(replace(s, **fields) if s in mine else s for s in cluster.services))


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
