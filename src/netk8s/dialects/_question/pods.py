"""``pod/NAMESPACE/NAME``: a pod, and which of its ports is meant."""

from __future__ import annotations

from netk8s.dialects._question.dialled import Dialled
from netk8s.dialects._question.names import family_of, near, port_number
from netk8s.errors import NotFound, UsageError
from netk8s.model import TCP, Ask, Pod, World


def find_pod(world: World, words: str, namespace: str | None) -> Pod:
    first, slash, name = words.partition("/")
    space, name = (first, name) if slash else (namespace or "default", first)
    for pod in world.cluster.pods:
        if (pod.namespace, pod.name) == (space, name):
            return pod
    names = [f"{p.namespace}/{p.name}" for p in world.cluster.pods]
    why = (
        ""
        if "pods" in world.cluster.covered
        else f"pod {space}/{name}: the dumps have no list of pods (kubectl get pods -A -o json)"
    )
    raise NotFound(f"pod {space}/{name}", [f"pod/{n}" for n in near(f"{space}/{name}", names)], why)


def dial_pod(pod: Pod, ask: Ask, protocol: int | None, world: World) -> Dialled:
    full = f"{pod.namespace}/{pod.name}"
    family = family_of(ask.source)
    ips = [ip for ip in pod.ips if family in (None, ip.version)]
    if not ips:
        raise NotFound(f"an address of pod {full}")
    declared = [p for p in pod.ports if protocol in (None, p[2])]
    number = port_number(ask.port)
    if ask.port is None and len(declared) == 1:
        number = declared[0][1]
    elif ask.port is not None and number is None:
        number = next((p[1] for p in declared if p[0] == ask.port), None)
    offers = [f"{p[1]}{f' ({p[0]})' if p[0] else ''}{f', hostPort {p[3]}' if p[3] else ''}" for p in declared]
    if number is None:
        raise UsageError(f"pod/{full} needs --port", offers)
    hosted = next((p for p in declared if p[3] == number and p[1] != number), None)
    if hosted is not None and not pod.host_network:
        return Dialled(None, number, hosted[2], "hostport", owner=pod.node)
    found = next((p[2] for p in declared if p[1] == number), TCP)
    return Dialled(ips[0], number, protocol or found, "pod", owner=pod.node)
