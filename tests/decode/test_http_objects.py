"""Objects that route HTTP, in the shapes that the API servers of several versions print."""

from __future__ import annotations

import json

import pytest

from netk8s.decode import decode
from netk8s.errors import DecodeError
from netk8s.model import Cluster, ConfigMap, ControllerClass, DnsConfig, Dump, HttpMatch, ObjectRef, Snapshot

META = {"name": "x", "namespace": "team"}


def cluster(*items: dict[str, object]) -> Cluster:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})
    return decode(Snapshot((Dump("cluster/objects.json", text.encode()),))).cluster


def test_an_ingress_with_its_defaults() -> None:
    http = {"paths": [{"backend": {"service": {"name": "a", "port": {"name": "http"}}}}]}
    (found,) = cluster(
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {**META, "annotations": {"kubernetes.io/ingress.class": "old", "kubectl/last-applied-configuration": "{}"}},
            "spec": {
                "rules": [{"host": "Shop.Example", "http": http}],
                "defaultBackend": {"resource": {"apiGroup": "k.io", "kind": "Bucket", "name": "b"}},
                "tls": [{"hosts": ["Shop.Example"]}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"hostname": "lb.example"}]}},
        }
    ).ingresses  # fmt: skip
    assert (found.namespace, found.name, found.class_name) == ("team", "x", "old")
    (rule,) = found.rules
    (path,) = rule.paths
    assert (rule.host, path.path, path.kind) == ("shop.example", "/", "ImplementationSpecific")
    assert path.backend == ObjectRef("Service", "a", port="http")
    assert found.default == ObjectRef("Bucket", "b", group="k.io")
    assert (found.tls_hosts, found.addresses) == (("shop.example",), ("192.0.2.7", "lb.example"))
    assert found.annotations == (("kubernetes.io/ingress.class", "old"),)


def test_an_ingress_of_v1beta1() -> None:
    http = {"paths": [{"path": "/a", "backend": {"serviceName": "a", "servicePort": 8080}}]}
    item = {
        "apiVersion": "extensions/v1beta1",
        "kind": "Ingress",
        "metadata": META,
        "spec": {"rules": [{"http": http}]},
    }
    (found,) = cluster(item).ingresses
    assert found.rules[0].host == ""
    assert found.rules[0].paths[0].backend == ObjectRef("Service", "a", port="8080")


def test_classes_of_both_apis() -> None:
    annotated = {"name": "n", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}
    one, two = cluster(
        {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": annotated, "spec": {"controller": "c/i"}},
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "g"},
            "spec": {"controllerName": "c/g"},
        },
    ).classes  # fmt: skip
    assert (one.kind, one.name, one.controller, one.default) == ("IngressClass", "n", "c/i", True)
    assert (two.kind, two.name, two.controller, two.default) == ("GatewayClass", "g", "c/g", False)
    assert isinstance(one, ControllerClass)


def test_a_gateway_a_route_and_a_grant() -> None:
    listener = {"name": "l", "port": 443, "protocol": "HTTPS", "hostname": "*.A.example"}
    admits = {"namespaces": {"from": "All"}, "kinds": [{"kind": "HTTPRoute"}]}
    version = "gateway.networking.k8s.io/v1"
    found = cluster(
        {
            "apiVersion": version, "kind": "Gateway", "metadata": META,
            "spec": {"gatewayClassName": "g", "listeners": [listener, {**listener, "name": "m", "allowedRoutes": admits}]},
            "status": {"addresses": [{"value": "192.0.2.9"}]},
        },
        {
            "apiVersion": version, "kind": "HTTPRoute", "metadata": {**META, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "parentRefs": [{"name": "gw", "sectionName": "l"}, {"group": "", "kind": "Service", "name": "s", "port": 80}],
                "hostnames": ["A.example"],
                "rules": [
                    {
                        "matches": [{"method": "POST", "headers": [{"name": "h", "value": "v"}]}],
                        "backendRefs": [{"name": "a", "port": 80}, {"name": "b", "namespace": "o", "port": 81, "weight": 0}],
                        "filters": [{"type": "URLRewrite"}],
                    }
                ],
            },
        },
        {"apiVersion": version, "kind": "HTTPRoute", "metadata": {**META, "name": "bare"}, "spec": {}},
        {
            "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": META,
            "spec": {"from": [{"group": "g", "kind": "HTTPRoute", "namespace": "n"}], "to": [{"group": "", "kind": "Service"}]},
        },
    )  # fmt: skip
    (gateway,) = found.gateways
    assert [
        (one.name, one.port, one.protocol, one.hostname, one.routes_from, one.kinds) for one in gateway.listeners
    ] == [
        ("l", 443, "HTTPS", "*.a.example", "Same", ()),
        ("m", 443, "HTTPS", "*.a.example", "All", ("HTTPRoute",)),
    ]
    assert (gateway.class_name, gateway.addresses) == ("g", ("192.0.2.9",))
    route, bare = found.http_routes
    group = "gateway.networking.k8s.io"
    assert route.parents == (
        (ObjectRef("Gateway", "gw", "team", group), "l"),
        (ObjectRef("Service", "s", "team", "", "80"), ""),
    )
    (rule,) = route.rules
    assert rule.matches == (HttpMatch("/", "PathPrefix", "POST", (("Exact", "h", "v"),)),)
    assert rule.backends == (
        (ObjectRef("Service", "a", "team", "", "80"), 1),
        (ObjectRef("Service", "b", "o", "", "81"), 0),
    )
    assert (rule.filters, route.hostnames, route.created) == (("URLRewrite",), ("a.example",), "2026-01-01T00:00:00Z")
    assert bare.rules[0].matches == (HttpMatch(),)
    (grant,) = found.grants
    assert (grant.sources, grant.targets) == ((("g", "HTTPRoute", "n"),), (("", "Service", ""),))


def test_a_config_map_and_a_pod_s_dns() -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": META,
        "spec": {
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["10.0.0.9"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "e"}]},
        },
    }  # fmt: skip
    plain = {"apiVersion": "v1", "kind": "Pod", "metadata": {**META, "name": "y"}, "spec": {}}
    found = cluster({"apiVersion": "v1", "kind": "ConfigMap", "metadata": META, "data": {"k": "v"}}, pod, plain)
    (config,) = found.config_maps
    assert isinstance(config, ConfigMap)
    assert config.data == (("k", "v"),)
    one, two = found.pods
    assert (one.dns_policy, one.dns) == ("None", DnsConfig(("10.0.0.9",), ("a.b",), (("ndots", "2"), ("e", ""))))
    assert (two.dns_policy, two.dns) == ("ClusterFirst", DnsConfig())


def test_objects_of_other_apis_by_the_same_names_are_passed_over() -> None:
    istio = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": META, "spec": {"servers": []}}
    assert cluster(istio).gateways == ()


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {}, "spec": {}}, "name"),
        (
            {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": META, "spec": {"listeners": [{"name": "l"}]}},
            "port",
        ),
        (
            {
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": META,
                "spec": {"rules": [{"backendRefs": [{"name": "a", "weight": -1}]}]},
            },
            "weight",
        ),
    ],
)  # fmt: skip
def test_a_broken_object_is_told(item: dict[str, object], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        cluster(item)
