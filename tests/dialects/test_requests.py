"""Requests to Ingresses and Gateways: which backend takes them, by the APIs' own words, and both packets in a recorded
cluster, whose Services and pods are given the roles of a controller and of what it serves."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from netk8s import decode, dialects, journey, snapshot
from netk8s.errors import NotFound, UsageError
from netk8s.model import TCP, Ask, Cluster, Dump, Report, Request, ServicePort, Snapshot, World

NGINX = (("app.kubernetes.io/component", "controller"), ("app.kubernetes.io/name", "ingress-nginx"))


@pytest.fixture(scope="module")
def recorded(corpus: Path) -> World:
    return dialects.complete(decode.decode(snapshot.read([str(corpus / "iptables-nft-matrix")])))


def objects(text: str) -> Cluster:
    return decode.decode(Snapshot((Dump("objects.yaml", text.encode()),))).cluster


def balanced(world: World, *, node_port: bool) -> Iterable[ServicePort]:
    """Services for TCP with two ready endpoints or more and nothing that keeps a packet from any of them."""
    for service in world.cluster.services:
        ready = [e for e in world.cluster.endpoints if e.service == service.service and e.ready]
        plain = service.protocol == TCP and service.affinity == "None" and service.external_policy != "Local"
        if plain and len({e.ip for e in ready}) > 1 and service.cluster_ips and bool(service.node_port) == node_port:
            yield service


def with_roles(world: World, text: str, labels: tuple[tuple[str, str], ...] = NGINX) -> tuple[World, ServicePort]:
    """The world with more objects, where the pods behind a NodePort are the controller's; and that Service."""
    front = next(iter(balanced(world, node_port=True)))
    behind = {e.pod for e in world.cluster.endpoints if (e.namespace, e.service) == (front.namespace, front.service)}
    pods = tuple(replace(p, labels=labels) if f"{p.namespace}/{p.name}" in behind else p for p in world.cluster.pods)
    found = objects(text)
    cluster = replace(
        world.cluster,
        pods=pods,
        **{
            name: getattr(found, name)
            for name in ("ingresses", "classes", "gateways", "http_routes", "grants", "config_maps")
        },
        covered=world.cluster.covered | found.covered,
    )
    return replace(world, cluster=cluster), front


def backend(world: World) -> ServicePort:
    return next(s for s in balanced(world, node_port=False) if s.service != "kube-dns")


CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
---
"""


def ingress(*paths: tuple[str, str, str], host: str = "shop.example", name: str = "shop", extra: str = "") -> str:
    """An Ingress whose ``paths`` are (path, kind, Service:port)."""
    document = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "default", "annotations": yaml.safe_load(extra or "{}")},
        "spec": {
            "ingressClassName": "nginx",
            "rules": [
                {
                    "host": host,
                    "http": {
                        "paths": [
                            {
                                "path": path,
                                "pathType": kind,
                                "backend": {
                                    "service": {
                                        "name": to.partition(":")[0],
                                        "port": {"number": int(to.partition(":")[2])},
                                    }
                                },
                            }
                            for path, kind, to in paths
                        ]
                    },
                }
            ],
        },
    }
    return yaml.safe_dump(document) + "---\n"


def ask(path: str = "/", target: str = "ingress/shop", **words: object) -> Ask:
    host = words.pop("host", "shop.example")
    headers = words.pop("headers", ())
    return Ask(target, request=Request(host, path, headers=headers), **words)  # type: ignore[arg-type]


# ---------------------------------------------------------------- both packets


def test_the_request_goes_to_the_controller_and_from_there_to_the_endpoints(recorded: World) -> None:
    service = backend(recorded)
    world, front = with_roles(recorded, CLASS + ingress(("/", "Prefix", f"{service.service}:{service.port}")))
    report = journey.answer(world, ask(port=str(front.node_port)))
    first, *others = report.legs
    assert first.name == "to ingress-nginx"
    assert first.trace.flow.packet.dport == front.node_port
    assert (
        f"host shop.example, path / (Prefix) of Ingress default/shop -> Service default/{service.service}"
        in first.notes[0]
    )
    controllers = {(e.ip, e.node) for e in world.cluster.endpoints if e.service == front.service and e.ready}
    ready = {(e.ip, e.port) for e in world.cluster.endpoints if e.service == service.service and e.ready}
    assert {leg.trace.flow.packet.src for leg in others} == {ip for ip, _ in controllers}
    # The proxy dials endpoints itself: no ClusterIP in the second packet.
    assert {(leg.trace.flow.packet.dst, leg.trace.flow.packet.dport) for leg in others} == ready
    delivered = [o for o in report.trace.outcomes if o.verdict == "delivered"]
    assert {(o.reached.ip, o.reached.port) for o in delivered if o.reached} == ready
    assert sum(o.odds or 0 for o in delivered) == 1
    assert not any(o.preserved for o in delivered)
    assert all("X-Forwarded-For" in leg.notes[-1] for leg in others)


def test_by_annotation_the_controller_dials_the_cluster_ip(recorded: World) -> None:
    service = backend(recorded)
    upstream = "{nginx.ingress.kubernetes.io/service-upstream: 'true'}"
    text = CLASS + ingress(("/", "Prefix", f"{service.service}:{service.port}"), extra=upstream)
    world, front = with_roles(recorded, text)
    report = journey.answer(world, ask(port=str(front.node_port)))
    assert {leg.trace.flow.packet.dst for leg in report.legs[1:]} == {service.cluster_ips[0]}


def test_a_lost_source_is_what_the_header_says(recorded: World) -> None:
    """Through a NodePort of policy Cluster the proxy sees a node: X-Forwarded-For can only name that."""
    service = backend(recorded)
    world, front = with_roles(recorded, CLASS + ingress(("/", "Prefix", f"{service.service}:{service.port}")))
    report = journey.answer(world, ask(port=str(front.node_port)))
    masked = {str(o.source) for o in report.legs[0].trace.outcomes if o.preserved is False}
    assert masked
    said = {note for leg in report.legs[1:] for note in leg.notes if "not the client's own address" in note}
    assert {address for address in masked if any(address in note for note in said)} == masked


def test_settings_of_the_controller_are_said(recorded: World) -> None:
    service = backend(recorded)
    settings = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: default}
data: {use-proxy-protocol: "true", use-forwarded-headers: "true"}
---
"""
    world, front = with_roles(
        recorded, CLASS + settings + ingress(("/", "Prefix", f"{service.service}:{service.port}"))
    )
    report = journey.answer(world, ask(port=str(front.node_port)))
    assert any("expects PROXY protocol" in note for note in report.notes)
    assert any("as it comes (use-forwarded-headers)" in note for note in report.notes)


def test_what_the_proxy_answers_itself(recorded: World) -> None:
    world, front = with_roles(recorded, CLASS + ingress(("/a", "Exact", "gone:80")))
    port = str(front.node_port)
    missed = journey.answer(world, ask("/b", port=port))
    assert {(o.verdict, o.reason) for o in missed.trace.outcomes} == {
        ("refused", "ingress-nginx answers HTTP 404: no rule matches")
    }
    gone = journey.answer(world, ask("/a", port=port))
    assert all("Service default/gone does not exist" in o.reason for o in gone.trace.outcomes)


def test_a_controller_without_pods_here_is_not_known(recorded: World) -> None:
    service = backend(recorded)
    text = CLASS + ingress(("/", "Prefix", f"{service.service}:{service.port}"))
    world, _ = with_roles(recorded, text, labels=(("app", "other"),))
    with pytest.raises(NotFound, match="no running pod has its labels"):
        journey.answer(world, ask())
    world, _ = with_roles(recorded, text.replace("k8s.io/ingress-nginx", "ingress.k8s.aws/alb"))
    with pytest.raises(NotFound, match=r"AWS Load Balancer Controller is no pod of the cluster.*-> Service default/"):
        journey.answer(world, ask())


def test_what_is_not_there_is_told_with_what_is(recorded: World) -> None:
    with pytest.raises(NotFound, match="kubectl get ingresses"):
        journey.answer(recorded, ask())
    world, _ = with_roles(recorded, CLASS + ingress(("/", "Prefix", "a:80")))
    with pytest.raises(NotFound, match="ingress default/other"):
        journey.answer(world, ask(target="ingress/other"))
    with pytest.raises(UsageError, match="no way in at port 9"):
        journey.answer(world, ask(port="9"))


# ---------------------------------------------------------------- which backend


def chosen(world: World, asked: Ask) -> str:
    """What the answer says was chosen."""
    report: Report = journey.answer(world, asked)
    return report.legs[0].notes[0] if report.legs else report.notes[0]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        # https://kubernetes.io/docs/concepts/services-networking/ingress/, "Examples" and "Multiple matches".
        ("/", "root"),
        ("/foo", "exact"),
        ("/foo/", "prefix"),
        ("/foo/bar", "prefix"),
        ("/foobar", "root"),
        ("/aaa/bbb/ccc", "longer"),
        ("/aaa/bbbxyz", "shorter"),
        ("/FOO", "root"),
        ("/foo?q=1", "exact"),
    ],
)
def test_paths_of_an_ingress(recorded: World, path: str, wanted: str) -> None:
    paths = (
        ("/", "Prefix", "root:80"),
        ("/foo", "Exact", "exact:80"),
        ("/foo/", "Prefix", "prefix:80"),
        ("/aaa", "Prefix", "shorter:80"),
        ("/aaa/bbb", "Prefix", "longer:80"),
    )
    world, front = with_roles(recorded, CLASS + ingress(*paths))
    assert f"-> Service default/{wanted}:80" in chosen(world, ask(path, port=str(front.node_port)))


@pytest.mark.parametrize(
    ("host", "wanted"),
    [("bar.foo.example", "-> Service default/exact"), ("baz.foo.example", "-> Service default/wild"),
     ("a.baz.foo.example", "no rule matches"), ("foo.example", "no rule matches"), ("BAR.foo.example:8080", "default/exact")],
)  # fmt: skip
def test_hosts_of_an_ingress(recorded: World, host: str, wanted: str) -> None:
    """A wildcard stands for one label, and an exact host wins over it, also of another Ingress of the class."""
    text = ingress(("/", "Prefix", "wild:80"), host="*.foo.example")
    text += ingress(("/", "Prefix", "exact:80"), host="bar.foo.example", name="other")
    world, front = with_roles(recorded, CLASS + text)
    assert wanted in chosen(world, ask(host=host, port=str(front.node_port)))


GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: gwc}
spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  gatewayClassName: gwc
  listeners:
  - {name: web, port: 80, protocol: HTTP}
  - {name: shop, port: 80, protocol: HTTP, hostname: "*.shop.example"}
---
"""


def route(name: str, rules: str, parent: str = "{name: edge}", hosts: str = "[]", namespace: str = "default") -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-0{len(name) % 9 + 1}T00:00:00Z"}}
spec:
  parentRefs: [{parent}]
  hostnames: {hosts}
  rules: {rules}
---
"""


def to(service: str, weight: int = 1, namespace: str = "") -> str:
    space = f", namespace: {namespace}" if namespace else ""
    return f"{{name: {service}, port: 80, weight: {weight}{space}}}"


RULES = f"""
  - backendRefs: [{to("all")}]
  - matches: [{{path: {{type: PathPrefix, value: /api}}}}]
    backendRefs: [{to("api")}]
  - matches: [{{path: {{type: Exact, value: /api}}}}]
    backendRefs: [{to("exact")}]
  - matches: [{{path: {{type: PathPrefix, value: /api}}, method: POST}}]
    backendRefs: [{to("post")}]
  - matches: [{{path: {{value: /api}}, headers: [{{name: X-Version, value: two}}]}}]
    backendRefs: [{to("header")}]
  - matches: [{{path: {{value: /api}}, queryParams: [{{name: v, value: "2"}}]}}]
    backendRefs: [{to("query")}]
"""


def of_gateway(world: World, text: str) -> World:
    return with_roles(world, GATEWAY + text, labels=(("gateway.networking.k8s.io/gateway-name", "edge"),))[0]


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (Request("any.example", "/"), "all"),
        (Request("any.example", "/api/x"), "api"),
        (Request("any.example", "/apix"), "all"),
        (Request("any.example", "/api"), "exact"),
        (Request("any.example", "/api/x", "POST"), "post"),
        (Request("any.example", "/api/x", "POST", (("X-Version", "two"),)), "post"),
        (Request("any.example", "/api/x", "GET", (("x-version", "two"),)), "header"),
        (Request("any.example", "/api/x?v=2", "GET"), "query"),
        (Request("any.example", "/api/x?v=2", "GET", (("x-version", "two"),)), "header"),
    ],
)
def test_rules_of_a_route_in_the_order_of_the_gateway_api(recorded: World, request_: Request, wanted: str) -> None:
    """HTTPRouteRule.matches: exact path, longest prefix, method, most headers, most query parameters."""
    world = of_gateway(recorded, route("r", RULES))
    front = next(iter(balanced(recorded, node_port=True)))
    said = chosen(world, Ask("gateway/edge", port=str(front.node_port), request=request_))
    assert f"-> Service default/{wanted}:80" in said


def test_the_listener_with_the_better_hostname_takes_the_request(recorded: World) -> None:
    text = route("general", f"[{{backendRefs: [{to('general')}]}}]", "{name: edge, sectionName: web}")
    text += route("special", f"[{{backendRefs: [{to('special')}]}}]", "{name: edge, sectionName: shop}")
    world = of_gateway(recorded, text)
    port = str(next(iter(balanced(recorded, node_port=True))).node_port)
    for host, wanted in (("a.shop.example", "special"), ("shop.example", "general"), ("x.y.shop.example", "special")):
        assert f"default/{wanted}:80" in chosen(world, Ask("gateway/edge", port=port, request=Request(host, "/")))


def test_an_older_route_wins_and_the_asked_one_hears_of_it(recorded: World) -> None:
    text = route("a", f"[{{backendRefs: [{to('older')}]}}]") + route("bb", f"[{{backendRefs: [{to('newer')}]}}]")
    world = of_gateway(recorded, text)
    port = str(next(iter(balanced(recorded, node_port=True))).node_port)
    report = journey.answer(world, Ask("httproute/bb", port=port, request=Request("h.example", "/")))
    assert "default/older:80" in report.notes[0]
    assert "HTTPRoute default/a takes the request, not default/bb" in report.notes


def test_weights_grants_and_redirects(recorded: World) -> None:
    service = backend(recorded)
    port = str(next(iter(balanced(recorded, node_port=True))).node_port)
    mine = f"{{name: {service.service}, port: {service.port}, weight: 3}}"
    text = route("w", f"[{{backendRefs: [{mine}, {to('gone')}]}}]")
    report = journey.answer(of_gateway(recorded, text), Ask("gateway/edge", port=port, request=Request("h", "/")))
    lost = [o for o in report.trace.outcomes if o.verdict == "refused"]
    assert sum(o.odds or 0 for o in lost) == Fraction(1, 4)
    assert sum(o.odds or 0 for o in report.trace.outcomes if o.verdict == "delivered") == Fraction(3, 4)
    assert any("(3/4)" in note for note in report.notes)
    other = route("w", f"[{{backendRefs: [{to('far', namespace='elsewhere')}]}}]")
    report = journey.answer(of_gateway(recorded, other), Ask("gateway/edge", port=port, request=Request("h", "/")))
    assert {o.verdict for o in report.trace.outcomes} == {"refused"}
    assert any("no ReferenceGrant of namespace elsewhere" in note for note in report.notes)
    grant = """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: elsewhere}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: "", kind: Service, name: far}]
---
"""
    report = journey.answer(
        of_gateway(recorded, other + grant), Ask("gateway/edge", port=port, request=Request("h", "/"))
    )
    assert all("Service elsewhere/far does not exist" in o.reason for o in report.trace.outcomes)
    sent = route("w", "[{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]")
    report = journey.answer(of_gateway(recorded, sent), Ask("gateway/edge", port=port, request=Request("h", "/")))
    assert {o.verdict for o in report.trace.outcomes} == {"delivered"}
    assert len(report.legs) == 1
    assert any("redirect" in note for note in report.notes)


def test_routes_of_other_namespaces_need_a_listener_that_admits_them(recorded: World) -> None:
    text = route("far", f"[{{backendRefs: [{to('x')}]}}]", "{name: edge, namespace: default}", namespace="team")
    port = str(next(iter(balanced(recorded, node_port=True))).node_port)
    world = of_gateway(recorded, text)
    assert "no rule matches" in chosen(world, Ask("gateway/edge", port=port, request=Request("h", "/")))
    admitting = tuple(
        replace(g, listeners=tuple(replace(one, routes_from="All") for one in g.listeners))
        for g in world.cluster.gateways
    )
    world = replace(world, cluster=replace(world.cluster, gateways=admitting))
    assert "team/x:80" in chosen(world, Ask("gateway/edge", port=port, request=Request("h", "/")))


def test_several_hosts_need_a_choice(recorded: World) -> None:
    world = of_gateway(recorded, route("r", f"[{{backendRefs: [{to('a')}]}}]", hosts="[a.example, b.example]"))
    with pytest.raises(UsageError, match="--host"):
        journey.answer(world, Ask("httproute/r"))
    text = ingress(("/", "Prefix", "a:80")) + ingress(("/", "Prefix", "b:80"), host="*.example", name="wild")
    world, _ = with_roles(recorded, CLASS + text)
    with pytest.raises(UsageError, match="--host"):
        journey.answer(world, Ask("ingress/wild"))
