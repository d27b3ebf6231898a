"""Which backend an Ingress gives a request: networking.k8s.io/v1, "Multiple matches" and "Hostname wildcards"."""

from __future__ import annotations

from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s.dialects._parts.controllers import Controller, controller_of, proxies
from netk8s.dialects._parts.proxied import Chosen
from netk8s.dialects._parts.requests import host_rank, path_of, under
from netk8s.errors import NotFound, UsageError
from netk8s.model import Ask, Ingress, IngressPath, IngressRule, ObjectRef, Request, World

_REGEX = "nginx.ingress.kubernetes.io/use-regex"
_CANARY = "nginx.ingress.kubernetes.io/canary"


class Matched(Struct, frozen=True):
    """The backend (None: nothing matches) with the Ingress it is of, in words, and what was assumed."""

    ingress: Ingress
    controller: Controller
    request: Request
    backend: ObjectRef | None
    because: str
    assumptions: tuple[str, ...] = ()


def choose(world: World, ask: Ask) -> Chosen:
    """What the Ingress's controller does with the request. Raises NotFound, and UsageError where --host is needed."""
    found = match(world, ask, find(world, ask, ask.target.partition("/")[2]))
    ingress, controller = found.ingress, found.controller
    host = found.request.host or ""
    secure = any(host_rank(name, host, labels=1) is not None for name in ingress.tls_hosts)
    chosen = Chosen(
        controller,
        proxies(world, controller),
        found.because,
        usual=(443, 80) if secure else (80, 443),
        published=ingress.addresses,
        by_cluster_ip=dict(ingress.annotations).get(controller.cluster_by) == "true" or controller.dials == "cluster",
        assumptions=found.assumptions,
    )
    if found.backend is None:
        return replace(chosen, answers="HTTP 404: no rule matches")
    backend = replace(found.backend, namespace=found.backend.namespace or ingress.namespace)
    return replace(chosen, backends=((backend, Fraction(1)),))


def find(world: World, ask: Ask, words: str) -> Ingress:
    """The Ingress by its name. Raises NotFound."""
    namespace, name = _named(ask, words)
    for ingress in world.cluster.ingresses:
        if (ingress.namespace, ingress.name) == (namespace, name):
            return ingress
    names = [f"ingress/{i.namespace}/{i.name}" for i in world.cluster.ingresses]
    why = "" if "ingresses" in world.cluster.covered else (
        f"ingress {namespace}/{name}: the dumps have no Ingresses (kubectl get ingresses,ingressclasses -A -o json)"
    )  # fmt: skip
    raise NotFound(f"ingress {namespace}/{name}", names[:5], why)


def _named(ask: Ask, words: str) -> tuple[str, str]:
    namespace, slash, name = words.partition("/")
    return (namespace, name) if slash else (ask.namespace or "default", words)


def match(world: World, ask: Ask, ingress: Ingress) -> Matched:
    """What comes of the request at the Ingress's controller, which serves all Ingresses of its class as one.

    Raises UsageError where --host is needed.
    """
    controller, class_name = controller_of(world, "IngressClass", ingress.class_name)
    request = _asked(ask, ingress)
    host, path = request.host or "", path_of(request)
    same = [i for i in world.cluster.ingresses if controller_of(world, "IngressClass", i.class_name)[1] == class_name]
    # The one that was asked for first: of equal rules the older one wins, and nothing here tells which that is.
    same.sort(key=lambda i: i is not ingress)
    found: list[tuple[tuple[object, ...], Ingress, IngressRule, IngressPath]] = []
    canaries = [i for i in same if dict(i.annotations).get(_CANARY) == "true"]
    for one in same:
        for rule in () if one in canaries else one.rules:
            rank = host_rank(rule.host, host, labels=1)
            for each in rule.paths if rank is not None else ():
                if _fits(each, path, controller):
                    found.append(((rank, len(each.path.rstrip("/")), each.kind == "Exact"), one, rule, each))
    assumptions = [f"canary Ingress {i.namespace}/{i.name} gets no share of the requests" for i in canaries]
    if found:
        best = max(rank for rank, *_ in found)
        winners = [(one, rule, each) for rank, one, rule, each in found if rank == best]
        one, rule, each = winners[0]
        others = {f"{i.namespace}/{i.name}" for i, _, e in winners[1:] if e.backend != each.backend}
        if others:
            assumptions.append(
                f"{one.namespace}/{one.name} wins over {', '.join(sorted(others))}, which has the same path"
            )
        assumptions += _guessed(one, each, controller)
        because = f"host {rule.host or '*'}, path {each.path} ({each.kind}) of Ingress {one.namespace}/{one.name}"
        return Matched(one, controller, request, each.backend, because, tuple(assumptions))
    if ingress.default is not None:
        because = f"no rule matches: default backend of Ingress {ingress.namespace}/{ingress.name}"
        return Matched(ingress, controller, request, ingress.default, because, tuple(assumptions))
    because = f"no rule matches host {host or '(none)'} and path {path}"
    return Matched(ingress, controller, request, None, because, tuple(assumptions))


def _asked(ask: Ask, ingress: Ingress) -> Request:
    """The request with the Ingress's only host or path where the words leave it out."""
    request = ask.request
    hosts = list(dict.fromkeys(rule.host for rule in ingress.rules))
    if request.host is None:
        if len(hosts) > 1 or (hosts and hosts[0].startswith("*")):
            raise UsageError(f"{ask.target} has rules for several hosts; choose one with --host", hosts)
        request = replace(request, host=hosts[0] if hosts else "")
    request = replace(request, host=(request.host or "").lower().partition(":")[0])
    if request.path is None:
        paths = {p.path for r in ingress.rules if host_rank(r.host, request.host or "", labels=1) for p in r.paths}
        request = replace(request, path=paths.pop() if len(paths) == 1 else "/")
    return request


def _fits(each: IngressPath, path: str, controller: Controller) -> bool:
    if each.kind == "Exact":
        return path == each.path
    if each.kind == "ImplementationSpecific" and controller.title == "ingress-nginx":
        return path.startswith(each.path)
    return under(path, each.path)


def _guessed(ingress: Ingress, each: IngressPath, controller: Controller) -> list[str]:
    if dict(ingress.annotations).get(_REGEX) == "true":
        return [f"path {each.path} is a regular expression to the controller and is taken as a prefix"]
    if each.kind == "ImplementationSpecific" and controller.title != "ingress-nginx":
        return [f"path {each.path} is ImplementationSpecific and is taken as Prefix"]
    return []
