"""Services (core/v1): their shape, read in two ways, and the ports that they mean.

A large cluster has thousands: :func:`spelled` has msgspec read them into the shape at once. What does not fit the shape
is read again by :func:`read`, which says where and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from netk8s.decode import _policies
from netk8s.decode._json import JsonObject, address, clean, shaped
from netk8s.model import Addr, At, ExternalName, ServicePort

Text = str | None


class Port(msgspec.Struct):
    """One port of a Service."""

    port: int
    name: Text = None
    protocol: Text = None
    targetPort: int | str | None = None  # noqa: N815
    nodePort: int | None = None  # noqa: N815


class ClientIP(msgspec.Struct):
    """For how long a client is remembered."""

    timeoutSeconds: int | None = None  # noqa: N815


class AffinityConfig(msgspec.Struct):
    """Of sessionAffinityConfig its only member."""

    clientIP: ClientIP | None = None  # noqa: N815


class Ingress(msgspec.Struct):
    """An address of a load balancer."""

    ip: Text = None
    ipMode: Text = None  # noqa: N815


class Balancer(msgspec.Struct):
    """status.loadBalancer."""

    ingress: list[Ingress] | None = None


class Status(msgspec.Struct):
    """Of a Service's status what kube-proxy reads."""

    loadBalancer: Balancer | None = None  # noqa: N815


class Metadata(msgspec.Struct):
    """Of a Service's metadata what says which it is and whose."""

    name: Text = None
    namespace: Text = None
    labels: dict[str, Text] | None = None


class Spec(msgspec.Struct):
    """Of a Service's spec what rules are made of."""

    type: Text = None
    ports: list[Port] | None = None
    clusterIP: Text = None  # noqa: N815
    clusterIPs: list[str] | None = None  # noqa: N815
    externalIPs: list[str] | None = None  # noqa: N815
    loadBalancerSourceRanges: list[str] | None = None  # noqa: N815
    externalTrafficPolicy: Text = None  # noqa: N815
    internalTrafficPolicy: Text = None  # noqa: N815
    sessionAffinity: Text = None  # noqa: N815
    sessionAffinityConfig: AffinityConfig | None = None  # noqa: N815
    healthCheckNodePort: int | None = None  # noqa: N815
    externalName: Text = None  # noqa: N815


class Service(msgspec.Struct):
    """A Service."""

    metadata: Metadata
    spec: Spec | None = None
    status: Status | None = None


_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"
"""kube-proxy leaves a Service with this label to the proxy that it names (pkg/proxy/apis/well_known_labels.go)."""
_BEGINS = re.compile(rb'\{\s*"apiVersion":\s*"v1",\s*"kind":\s*"Service"')
_DECODER = msgspec.json.Decoder(Service)


def spelled(text: msgspec.Raw, at: At) -> list[ServicePort | ExternalName] | None:
    """The ports of a Service as kubectl spells it; None for anything else."""
    return shaped(text, _BEGINS, _DECODER, lambda found: ports(found, at))


def read(item: JsonObject, metadata: JsonObject) -> Service:
    """A Service in its shape. Raises DecodeError."""
    spec = item.child("spec") or item.empty("spec")
    mine = Spec(type=spec.text("type"))
    found = Service(Metadata(namespace=metadata.text("namespace")), mine)
    if mine.type == "ExternalName":
        mine.externalName = spec.text("externalName")
        if mine.externalName:
            mine.ports = [_port(port) for port in spec.children("ports")]
            found.metadata.name = metadata.need("name")
        return found
    status = item.child("status") or item.empty("status")
    balancer = status.child("loadBalancer") or status.empty("loadBalancer")
    addresses = []
    for ingress in balancer.children("ingress"):
        ingress.addr("ip")
        addresses.append(Ingress(ingress.text("ip"), ingress.text("ipMode")))
    found.status = Status(Balancer(addresses))
    config = spec.child("sessionAffinityConfig")
    client = config.child("clientIP") if config else None
    mine.sessionAffinityConfig = AffinityConfig(ClientIP(client.number("timeoutSeconds") if client else None))
    key = "clusterIPs" if spec.texts("clusterIPs") else "clusterIP"
    mine.clusterIPs, mine.clusterIP = list(spec.texts("clusterIPs")), spec.text("clusterIP")
    try:
        _cluster_ips(mine)
    except ValueError:
        raise spec.wrong(key, 'IP addresses or "None"') from None
    mine.ports = [_port(port) for port in spec.children("ports")]
    if not mine.ports:
        return found
    found.metadata.name = metadata.need("name")
    spec.addrs("externalIPs")
    mine.externalIPs = list(spec.texts("externalIPs"))
    mine.loadBalancerSourceRanges = list(spec.texts("loadBalancerSourceRanges"))
    mine.externalTrafficPolicy = spec.text("externalTrafficPolicy")
    mine.internalTrafficPolicy = spec.text("internalTrafficPolicy")
    mine.sessionAffinity = spec.text("sessionAffinity")
    mine.healthCheckNodePort = spec.number("healthCheckNodePort", 0, 65535)
    labels = metadata.child("labels")
    if labels is not None:
        found.metadata.labels = {clean(name): labels.text(name) for name in labels.members}
    return found


def _port(port: JsonObject) -> Port:
    number, protocol = port.number("port", 1, 65535), port.text("protocol")
    if number is None:
        raise port.wrong("port", "the port of the Service")
    if (protocol or "TCP") not in _policies.PROTOCOLS:
        raise port.wrong("protocol", "TCP, UDP or SCTP")
    return Port(number, port.text("name"), protocol, port.word("targetPort"), port.number("nodePort", 0, 65535))


def ports(of: Service, at: At) -> Iterator[ServicePort | ExternalName]:
    """A ServicePort for each port; of type ExternalName the name that it stands for.

    Raises ValueError for an address, a protocol, a port or a name that is none: a Service that :func:`read` gave has
    none of these.
    """
    spec, metadata = of.spec or _NOTHING, of.metadata
    namespace = metadata.namespace or "default"
    checked = [(port, _protocol(port)) for port in spec.ports or ()]
    if spec.type == "ExternalName":
        if spec.externalName:
            listed = tuple((port.name or "", protocol, port.port) for port, protocol in checked)
            yield ExternalName(namespace, _name(metadata), spec.externalName, listed, at)
        return
    vips: list[Addr] = []
    proxied: list[Addr] = []
    balancer = of.status.loadBalancer if of.status else None
    for ingress in (balancer.ingress if balancer else None) or ():
        # An ingress by hostname alone gives kube-proxy nothing to write a rule for.
        if ingress.ip:
            (proxied if ingress.ipMode == "Proxy" else vips).append(address(ingress.ip))
    client = spec.sessionAffinityConfig.clientIP if spec.sessionAffinityConfig else None
    seconds = client.timeoutSeconds if client else None
    if not 0 <= (seconds or 0) <= 0xFFFFFFFF or not 0 <= (spec.healthCheckNodePort or 0) <= 65535:
        raise ValueError
    cluster_ips = _cluster_ips(spec)
    external_ips = tuple(map(address, spec.externalIPs or ()))
    ranges = tuple(text.strip() for text in spec.loadBalancerSourceRanges or ())
    labels = metadata.labels
    for port, protocol in checked:
        yield ServicePort(
            namespace=namespace,
            service=_name(metadata),
            name=port.name or "",
            protocol=protocol,
            port=port.port,
            target_port=str(port.port if port.targetPort in (None, "") else port.targetPort),
            node_port=port.nodePort or None,
            type=spec.type or "ClusterIP",
            cluster_ips=cluster_ips,
            external_ips=external_ips,
            lb_ips=tuple(vips),
            lb_ips_proxy=tuple(proxied),
            lb_source_ranges=ranges,
            external_policy=spec.externalTrafficPolicy or "Cluster",
            internal_policy=spec.internalTrafficPolicy or "Cluster",
            affinity=spec.sessionAffinity or "None",
            affinity_seconds=seconds,
            health_check_node_port=spec.healthCheckNodePort or None,
            at=at,
            proxy=(labels.get(_OTHER_PROXY) or "") if labels else "",
        )


_NOTHING = Spec()


def _name(metadata: Metadata) -> str:
    if not metadata.name:
        raise ValueError
    return metadata.name


def _protocol(port: Port) -> int:
    protocol = _policies.PROTOCOLS.get(port.protocol or "TCP")
    if protocol is None or not 0 < port.port <= 65535 or not 0 <= (port.nodePort or 0) <= 65535:
        raise ValueError
    return protocol


def _cluster_ips(spec: Spec) -> tuple[Addr, ...]:
    """The cluster IPs, () for a headless Service; before dual stack (1.20) there was ``clusterIP`` alone."""
    words = spec.clusterIPs or ([] if spec.clusterIP is None else [spec.clusterIP])
    return tuple(address(word) for word in words if word not in ("None", ""))
