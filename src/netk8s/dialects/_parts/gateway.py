"""Which backends a Gateway gives a request: gateway.networking.k8s.io/v1, HTTPRoute's matching precedence (GEP-718, GEP-957).

A backend in another namespace needs a ReferenceGrant there; what cannot be resolved is answered with HTTP 500.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s.dialects._parts import proxied
from netk8s.dialects._parts.controllers import controller_of, proxies
from netk8s.dialects._parts.proxied import Chosen
from netk8s.dialects._parts.requests import host_rank, params_of, path_of, under
from netk8s.errors import NotFound, UsageError
from netk8s.model import Ask, Gateway, HttpMatch, HttpRoute, HttpRule, Listener, ObjectRef, Request, World

GROUP = "gateway.networking.k8s.io"
_HTTP = frozenset({"HTTP", "HTTPS"})


class _Hit(Struct, frozen=True):
    rank: tuple[object, ...]
    listener: Listener
    route: HttpRoute
    rule: HttpRule
    match: HttpMatch


def choose(world: World, ask: Ask) -> Chosen:
    """What the Gateway's proxy does with the request. Raises NotFound, and UsageError where --host or --port is needed."""
    kind, _, words = ask.target.partition("/")
    namespace, slash, name = words.partition("/")
    if not slash:
        namespace, name = ask.namespace or "default", words
    route = _route(world, namespace, name) if kind == "httproute" else None
    gateway = _gateway(world, *_parent(ask, route)) if route is not None else _gateway(world, namespace, name)
    controller, _class = controller_of(world, "GatewayClass", gateway.class_name)
    routes = [r for r in world.cluster.http_routes if _attached(gateway, r)]
    listeners = [listener for listener in gateway.listeners if listener.protocol in _HTTP]
    if not listeners:
        kinds = ", ".join(sorted({one.protocol for one in gateway.listeners})) or "no"
        raise UsageError(
            f"gateway {gateway.namespace}/{gateway.name} has {kinds} listeners; only HTTP and HTTPS routes are followed"
        )
    request = _asked(ask, route, routes, listeners)
    port = ask.port if ask.port is not None and any(ask.port == str(one.port) for one in listeners) else None
    hits = sorted(
        _hits(gateway, routes, [one for one in listeners if port in (None, str(one.port))], request),
        key=lambda hit: (hit.route.created or "~", hit.route.namespace, hit.route.name),
    )
    chosen = Chosen(
        controller,
        proxies(world, controller, gateway.name),
        f"no rule matches host {request.host or '(none)'} and path {path_of(request)}",
        answers="HTTP 404: no rule matches",
        usual=tuple(dict.fromkeys(one.port for one in listeners)),
        published=gateway.addresses,
    )
    if not hits:
        return chosen
    best = max(hit.rank for hit in hits)
    return _of(world, chosen, next(hit for hit in hits if hit.rank == best), route)


def _route(world: World, namespace: str, name: str) -> HttpRoute:
    for route in world.cluster.http_routes:
        if (route.namespace, route.name) == (namespace, name):
            return route
    names = [f"httproute/{r.namespace}/{r.name}" for r in world.cluster.http_routes]
    raise NotFound(f"httproute {namespace}/{name}", names[:5], _uncovered(world, "http_routes", "httproutes"))


def _gateway(world: World, namespace: str, name: str) -> Gateway:
    for gateway in world.cluster.gateways:
        if (gateway.namespace, gateway.name) == (namespace, name):
            return gateway
    names = [f"gateway/{g.namespace}/{g.name}" for g in world.cluster.gateways]
    raise NotFound(f"gateway {namespace}/{name}", names[:5], _uncovered(world, "gateways", "gateways"))


def _uncovered(world: World, kind: str, plural: str) -> str:
    if kind in world.cluster.covered:
        return ""
    return f"the dumps have no {plural} (kubectl get gateways,gatewayclasses,httproutes,referencegrants -A -o json)"


def _parent(ask: Ask, route: HttpRoute) -> tuple[str, str]:
    found = [ref for ref, _ in route.parents if (ref.kind, ref.group) == ("Gateway", GROUP)]
    if not found:
        raise UsageError(f"{ask.target} has no Gateway as its parent, so no request comes by it")
    return found[0].namespace, found[0].name


def _attached(gateway: Gateway, route: HttpRoute) -> bool:
    return any(_parents(gateway, route, listener) for listener in gateway.listeners)


def _parents(gateway: Gateway, route: HttpRoute, listener: Listener) -> bool:
    """Whether a route is a listener's: it names the listener, and the listener admits its namespace and kind."""
    named = any(
        (ref.kind, ref.group, ref.namespace, ref.name) == ("Gateway", GROUP, gateway.namespace, gateway.name)
        and section in ("", listener.name)
        and ref.port in ("", str(listener.port))
        for ref, section in route.parents
    )
    near = listener.routes_from != "Same" or route.namespace == gateway.namespace
    return named and near and listener.protocol in _HTTP and (not listener.kinds or "HTTPRoute" in listener.kinds)


def _asked(ask: Ask, route: HttpRoute | None, routes: list[HttpRoute], listeners: list[Listener]) -> Request:
    """The request with the only host or path there is where the words leave it out."""
    request = ask.request
    mine = [route] if route is not None else routes
    if request.host is None:
        hosts = list(dict.fromkeys(host for r in mine for host in r.hostnames))
        hosts = hosts or list(dict.fromkeys(one.hostname for one in listeners if one.hostname))
        if len(hosts) > 1 or (hosts and hosts[0].startswith("*")):
            raise UsageError(f"{ask.target} has rules for several hosts; choose one with --host", hosts)
        request = replace(request, host=hosts[0] if hosts else "")
    request = replace(request, host=(request.host or "").lower().partition(":")[0])
    if request.path is None:
        paths = {match.path for r in mine for rule in r.rules for match in rule.matches}
        request = replace(request, path=paths.pop() if len(paths) == 1 else "/")
    return request


def _hits(gateway: Gateway, routes: list[HttpRoute], listeners: list[Listener], request: Request) -> Iterator[_Hit]:
    host = request.host or ""
    fitting = {one.name: fit for one in listeners if (fit := host_rank(one.hostname, host, labels=None)) is not None}
    # Of the listeners of a port the one with the most specific hostname takes the request.
    best = {one.port: max(fitting[o.name] for o in listeners if o.port == one.port and o.name in fitting)
            for one in listeners if one.name in fitting}  # fmt: skip
    for listener in listeners:
        if listener.name not in fitting or fitting[listener.name] != best[listener.port]:
            continue
        for route in routes:
            ranks = [host_rank(name, host, labels=None) for name in route.hostnames] or [(0, 0)]
            known = [each for each in ranks if each is not None]
            if not known or not _parents(gateway, route, listener):
                continue
            for rule in route.rules:
                for match in rule.matches:
                    rank = _rank(match, request)
                    if rank is not None:
                        yield _Hit((max(known), *rank), listener, route, rule, match)


def _rank(match: HttpMatch, request: Request) -> tuple[object, ...] | None:
    """Greater is better: exact path, longest prefix, method, headers, query parameters; None: no match."""
    path = path_of(request)
    if match.method and match.method != request.method:
        return None
    headers = {name.lower(): value for name, value in request.headers}
    given = ((match.headers, headers, str.lower), (match.params, params_of(request), str))
    for wanted, have, spelt in given:
        for kind, name, value in wanted:
            found = have.get(spelt(name))
            if found is None or not _same(kind, value, found):
                return None
    if match.path_kind == "Exact":
        fits = path == match.path
    elif match.path_kind == "RegularExpression":
        fits = _same(match.path_kind, match.path, path)
    else:
        fits = under(path, match.path)
    if not fits:
        return None
    return (
        match.path_kind == "Exact", len(match.path.rstrip("/")), bool(match.method), len(match.headers), len(match.params),
    )  # fmt: skip


def _same(kind: str, wanted: str, found: str) -> bool:
    if kind != "RegularExpression":
        return wanted == found
    try:
        return re.fullmatch(wanted, found) is not None
    except re.error:
        return False


def _of(world: World, chosen: Chosen, hit: _Hit, asked: HttpRoute | None) -> Chosen:
    route, rule, match = hit.route, hit.rule, hit.match
    name = f"{route.namespace}/{route.name}"
    host = f"host {', '.join(route.hostnames) or '*'}, " if route.hostnames or hit.listener.hostname else ""
    because = f"{host}path {match.path} ({match.path_kind}) of HTTPRoute {name}, listener {hit.listener.name}"
    notes: list[str] = []
    assumptions: list[str] = []
    if asked is not None and asked is not route:
        notes.append(f"HTTPRoute {name} takes the request, not {asked.namespace}/{asked.name}")
    if hit.listener.routes_from == "Selector":
        assumptions.append(f"listener {hit.listener.name} admits routes of namespace {route.namespace} by its selector")
    if "RegularExpression" in (match.path_kind, *(kind for kind, _, _ in (*match.headers, *match.params))):
        assumptions.append(f"a regular expression of HTTPRoute {name} means to the proxy what it means to Python")
    if "RequestMirror" in rule.filters:
        notes.append("a copy of the request is mirrored to another backend (RequestMirror)")
    found = replace(chosen, because=because, answers="", notes=tuple(notes), assumptions=tuple(assumptions))
    if "RequestRedirect" in rule.filters:
        words = "the proxy answers with a redirect (RequestRedirect) and sends nothing on"
        return replace(found, redirects=True, notes=(*notes, words))
    usable: list[tuple[ObjectRef, int]] = []
    lost = 0
    for ref, weight in rule.backends:
        if _granted(world, route, ref):
            usable.append((ref, weight))
        elif weight:
            lost += weight
            where = f"namespace {ref.namespace}"
            notes.append(f"no ReferenceGrant of {where} lets HTTPRoute {name} use {ref.kind} {ref.name}: HTTP 500")
    total = lost + sum(weight for _, weight in usable)
    if total == lost:
        return replace(found, notes=tuple(notes), answers=f"HTTP 500: HTTPRoute {name} has no backend that can be used")
    if lost:
        notes.append(f"{Fraction(lost, total)} of the requests get HTTP 500")
    return replace(found, notes=tuple(notes), backends=proxied.evenly(usable))


def _granted(world: World, route: HttpRoute, ref: ObjectRef) -> bool:
    if ref.namespace in ("", route.namespace):
        return True
    return any(
        grant.namespace == ref.namespace
        and (GROUP, "HTTPRoute", route.namespace) in grant.sources
        and any(
            (group, kind) == (ref.group, ref.kind) and name in ("", ref.name) for group, kind, name in grant.targets
        )
        for grant in world.cluster.grants
    )
