"""Objects of the API that route HTTP: Ingress, IngressClass, Gateway, GatewayClass, HTTPRoute, ReferenceGrant; ConfigMap.

Shapes: networking.k8s.io/v1, gateway.networking.k8s.io/v1 (ReferenceGrant: v1beta1). Defaults are those of the API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netk8s.decode._json import JsonObject, clean
from netk8s.model import (
    ConfigMap,
    ControllerClass,
    Gateway,
    HttpMatch,
    HttpRoute,
    HttpRule,
    Ingress,
    IngressPath,
    IngressRule,
    Listener,
    ObjectRef,
    ReferenceGrant,
)

HttpObject = Ingress | ControllerClass | Gateway | HttpRoute | ReferenceGrant | ConfigMap

COVERS = {
    "Ingress": "ingresses", "IngressClass": "classes", "GatewayClass": "classes", "Gateway": "gateways",
    "HTTPRoute": "http_routes", "ReferenceGrant": "grants", "ConfigMap": "config_maps",
}  # fmt: skip

GATEWAY = "gateway.networking.k8s.io"


def decoded(item: JsonObject, kind: str) -> HttpObject | None:
    """The object, None for one of another kind or of an API version of another shape. Raises DecodeError."""
    reads = _KINDS.get(kind)
    group = (item.text("apiVersion") or "").rpartition("/")[0]
    # Istio and others have objects called Gateway too.
    if reads is None or (group not in _GROUPS.get(kind, ("",)) and group != ""):
        return None
    return reads(item)


def _part(item: JsonObject, key: str) -> JsonObject:
    return item.child(key) or item.empty(key)


def _namespace(metadata: JsonObject) -> str:
    return metadata.text("namespace") or "default"


def _words(item: JsonObject, key: str) -> tuple[tuple[str, str], ...]:
    found = item.child(key)
    return tuple(sorted((clean(name), found.text(name) or "") for name in found.members)) if found else ()


def _ingress(item: JsonObject) -> Ingress:
    metadata, spec = _part(item, "metadata"), _part(item, "spec")
    annotations = _words(metadata, "annotations")
    published = _part(_part(item, "status"), "loadBalancer")
    old = dict(annotations).get("kubernetes.io/ingress.class", "")
    default = spec.child("defaultBackend")
    rules = []
    for rule in spec.children("rules"):
        paths = [
            IngressPath(path.text("path") or "/", path.text("pathType") or "ImplementationSpecific",
                        _backend(_part(path, "backend")))
            for path in _part(rule, "http").children("paths")
        ]  # fmt: skip
        rules.append(IngressRule((rule.text("host") or "").lower(), tuple(paths)))
    return Ingress(
        _namespace(metadata), metadata.need("name"), spec.text("ingressClassName") or old, tuple(rules),
        _backend(default) if default else None,
        tuple(host.lower() for tls in spec.children("tls") for host in tls.texts("hosts")),
        tuple(a for one in published.children("ingress") for a in (one.text("ip"), one.text("hostname")) if a),
        tuple((name, text) for name, text in annotations if not name.endswith("last-applied-configuration")),
        item.at,
    )  # fmt: skip


def _backend(item: JsonObject) -> ObjectRef:
    """A Service with its port, or another object. v1beta1 had serviceName and servicePort."""
    service = item.child("service")
    if service is not None:
        port = _part(service, "port")
        return ObjectRef("Service", service.need("name"), port=port.word("number") or port.text("name") or "")
    other = item.child("resource")
    if other is not None:
        return ObjectRef(other.need("kind"), other.need("name"), group=other.text("apiGroup") or "")
    return ObjectRef("Service", item.need("serviceName"), port=item.word("servicePort") or "")


def _ingress_class(item: JsonObject) -> ControllerClass:
    metadata = _part(item, "metadata")
    default = dict(_words(metadata, "annotations")).get("ingressclass.kubernetes.io/is-default-class") == "true"
    controller = _part(item, "spec").text("controller") or ""
    return ControllerClass("IngressClass", metadata.need("name"), controller, default, item.at)


def _gateway_class(item: JsonObject) -> ControllerClass:
    controller = _part(item, "spec").text("controllerName") or ""
    return ControllerClass("GatewayClass", _part(item, "metadata").need("name"), controller, at=item.at)


def _gateway(item: JsonObject) -> Gateway:
    metadata, spec = _part(item, "metadata"), _part(item, "spec")
    listeners = []
    for each in spec.children("listeners"):
        port = each.number("port", 1, 65535)
        if port is None:
            raise each.wrong("port", "the port of the listener")
        allowed = _part(each, "allowedRoutes")
        listeners.append(
            Listener(
                each.need("name"), port, each.text("protocol") or "HTTP", (each.text("hostname") or "").lower(),
                _part(allowed, "namespaces").text("from") or "Same",
                tuple(kind.need("kind") for kind in allowed.children("kinds")),
            )
        )  # fmt: skip
    addresses = tuple(one.text("value") or "" for one in _part(item, "status").children("addresses"))
    return Gateway(
        _namespace(metadata), metadata.need("name"), spec.text("gatewayClassName") or "", tuple(listeners), addresses,
        item.at,
    )  # fmt: skip


def _http_route(item: JsonObject) -> HttpRoute:
    metadata, spec = _part(item, "metadata"), _part(item, "spec")
    namespace = _namespace(metadata)
    parents = tuple(
        (_reference(one, "Gateway", GATEWAY, namespace), one.text("sectionName") or "")
        for one in spec.children("parentRefs")
    )
    return HttpRoute(
        namespace, metadata.need("name"), tuple(host.lower() for host in spec.texts("hostnames")), parents,
        tuple(_rule(rule, namespace) for rule in spec.children("rules")) or (HttpRule((HttpMatch(),)),),
        metadata.text("creationTimestamp") or "", item.at,
    )  # fmt: skip


def _reference(item: JsonObject, kind: str, group: str, namespace: str) -> ObjectRef:
    given = item.text("group")
    return ObjectRef(
        item.text("kind") or kind, item.need("name"), item.text("namespace") or namespace,
        group if given is None else given, item.word("port") or "",
    )  # fmt: skip


def _rule(item: JsonObject, namespace: str) -> HttpRule:
    backends = []
    for one in item.children("backendRefs"):
        weight = one.number("weight", 0, 1_000_000)
        backends.append((_reference(one, "Service", "", namespace), 1 if weight is None else weight))
    matches = tuple(_match(one) for one in item.children("matches")) or (HttpMatch(),)
    filters = tuple(one.text("type") or "" for one in item.children("filters"))
    return HttpRule(matches, tuple(backends), filters)


def _match(item: JsonObject) -> HttpMatch:
    path = _part(item, "path")
    named = [
        tuple((one.text("type") or "Exact", one.need("name"), one.text("value") or "") for one in item.children(key))
        for key in ("headers", "queryParams")
    ]
    return HttpMatch(
        path.text("value") or "/", path.text("type") or "PathPrefix", item.text("method") or "", named[0], named[1]
    )


def _grant(item: JsonObject) -> ReferenceGrant:
    spec = _part(item, "spec")
    sources = tuple((one.text("group") or "", one.need("kind"), one.need("namespace")) for one in spec.children("from"))
    targets = tuple((one.text("group") or "", one.need("kind"), one.text("name") or "") for one in spec.children("to"))
    return ReferenceGrant(_namespace(_part(item, "metadata")), sources, targets, item.at)


def _config_map(item: JsonObject) -> ConfigMap:
    metadata = _part(item, "metadata")
    return ConfigMap(_namespace(metadata), metadata.need("name"), _words(item, "data"), item.at)


_KINDS: Mapping[str, Callable[[JsonObject], HttpObject]] = {
    "Ingress": _ingress, "IngressClass": _ingress_class, "GatewayClass": _gateway_class, "Gateway": _gateway,
    "HTTPRoute": _http_route, "ReferenceGrant": _grant, "ConfigMap": _config_map,
}  # fmt: skip
_GROUPS = {
    "Ingress": ("networking.k8s.io", "extensions"), "IngressClass": ("networking.k8s.io",),
    "GatewayClass": (GATEWAY,), "Gateway": (GATEWAY,), "HTTPRoute": (GATEWAY,), "ReferenceGrant": (GATEWAY,),
}  # fmt: skip
