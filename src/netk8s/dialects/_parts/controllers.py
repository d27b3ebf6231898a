"""Software that serves Ingresses and Gateways: how its pods are known, and what it dials for a request.

From each project's own manifests and documentation: names of controllers (spec.controller, spec.controllerName), pod
labels, and whether its proxy dials endpoints or the Service's ClusterIP.
"""

from __future__ import annotations

from msgspec import Struct

from netk8s.model import Pod, World

Labels = tuple[tuple[str, str], ...]
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"


class Controller(Struct, frozen=True):
    """``names``: as classes name it. ``old``: class names that are taken for it without a class object.

    ``labels``: one of these sets is on its proxy's pods. ``dials``: endpoints, cluster (the ClusterIP), outside (its
    proxy is no pod) or "" when not known. ``cluster_by``: the annotation of an Ingress that makes it dial the ClusterIP.
    ``trusts``: the setting of its ConfigMap by which it takes X-Forwarded-For as it comes; ``proxy``: that by which it
    expects PROXY protocol.
    """

    title: str
    names: tuple[str, ...]
    labels: tuple[Labels, ...] = ()
    dials: str = "endpoints"
    old: tuple[str, ...] = ()
    cluster_by: str = ""
    trusts: str = ""
    proxy: str = ""


KNOWN = (
    Controller(
        "ingress-nginx", ("k8s.io/ingress-nginx",),
        (((COMPONENT, "controller"), (NAME, "ingress-nginx")), ((NAME, "ingress-nginx"),), (("name", "nginx-ingress-microk8s"),)),
        old=("nginx", "public"), cluster_by="nginx.ingress.kubernetes.io/service-upstream", trusts="use-forwarded-headers",
        proxy="use-proxy-protocol",
    ),
    Controller(
        "Traefik", ("traefik.io/ingress-controller", "traefik.io/gateway-controller"), (((NAME, "traefik"),),),
        old=("traefik",),
    ),
    Controller(
        "HAProxy Kubernetes Ingress Controller", ("haproxy.org/ingress-controller", "haproxy.org/ingress-controller/haproxy"),
        (((NAME, "kubernetes-ingress"),), (("run", "haproxy-ingress"),)), old=("haproxy",), proxy="proxy-protocol",
    ),
    Controller(
        "HAProxy Ingress", ("haproxy-ingress.github.io/controller",), (((NAME, "haproxy-ingress"),),),
        cluster_by="haproxy-ingress.github.io/service-upstream", proxy="use-proxy-protocol",
    ),
    Controller(
        "Contour", ("projectcontour.io/ingress-controller", "projectcontour.io/gateway-controller"),
        (((COMPONENT, "envoy"), (NAME, "contour")), (("app", "envoy"),)), old=("contour",),
    ),
    Controller(
        "Istio", ("istio.io/ingress-controller", "istio.io/gateway-controller"), ((("istio", "ingressgateway"),),),
        old=("istio",),
    ),
    Controller(
        "NGINX Ingress Controller", ("nginx.org/ingress-controller",), (((NAME, "nginx-ingress"),), (("app", "nginx-ingress"),)),
        cluster_by="nginx.org/use-cluster-ip", proxy="proxy-protocol",
    ),
    Controller(
        "Kong", ("ingress-controllers.konghq.com/kong", "konghq.com/kic-gateway-controller"), (((NAME, "kong"),),),
        old=("kong",),
    ),
    Controller("Envoy Gateway", ("gateway.envoyproxy.io/gatewayclass-controller",)),
    Controller("NGINX Gateway Fabric", ("gateway.nginx.org/nginx-gateway-controller",)),
    Controller("Cilium", ("cilium.io/ingress-controller", "io.cilium/gateway-controller"), dials="outside", old=("cilium",)),
    Controller("AWS Load Balancer Controller", ("ingress.k8s.aws/alb", "gateway.k8s.aws/alb"), dials="outside", old=("alb",)),
    Controller("GKE", ("networking.gke.io/gateway", "k8s.io/ingress-gce"), dials="outside", old=("gce", "gce-internal")),
    Controller("Azure Application Gateway", ("azure/application-gateway",), dials="outside", old=("azure-application-gateway",)),
)  # fmt: skip

# Labels that tie a proxy's pods to one Gateway: GEP-1762, Envoy Gateway's own, Istio's before that.
OF_GATEWAY = (
    "gateway.networking.k8s.io/gateway-name",
    "gateway.envoyproxy.io/owning-gateway-name",
    "istio.io/gateway-name",
)


def controller_of(world: World, kind: str, class_name: str) -> tuple[Controller, str]:
    """(the controller, the class's name) of an Ingress or Gateway with this class name, "" for the default class.

    An unknown controller is one of its own name that nothing is known of.
    """
    classes = [c for c in world.cluster.classes if c.kind == kind]
    found = next((c for c in classes if (c.name == class_name if class_name else c.default)), None)
    if found is not None:
        for known in KNOWN:
            if found.controller in known.names:
                return known, found.name
        return Controller(found.controller or found.name, (found.controller,), dials=""), found.name
    for known in KNOWN:
        if class_name in known.old:
            return known, class_name
    return Controller(class_name or "the controller", (), dials=""), class_name


def proxies(world: World, controller: Controller, gateway: str = "") -> tuple[Pod, ...]:
    """The running pods of a controller's proxy; those of one Gateway where labels tell them."""
    running = [p for p in world.cluster.pods if p.phase not in ("Succeeded", "Failed")]
    if gateway:
        own = tuple(p for p in running if any((label, gateway) in p.labels for label in OF_GATEWAY))
        if own:
            return own
    for wanted in controller.labels:
        found = tuple(p for p in running if all(label in p.labels for label in wanted))
        if found:
            return found
    return ()
