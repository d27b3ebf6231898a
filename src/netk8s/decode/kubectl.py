"""``kubectl get … -o json`` or ``-o yaml``: Services, EndpointSlices (or Endpoints), Pods, Nodes, policies, Namespaces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Raw

from netk8s.decode import _endpoint_slices, _endpoints, _http_objects, _policies
from netk8s.decode._json import JsonObject, address, clean, head, kind, member, outer_keys, spelled, values
from netk8s.decode._text import first_lines
from netk8s.decode._yaml import YamlObject, documents
from netk8s.errors import DecodeError
from netk8s.model import (
    Addr,
    At,
    ClusterNode,
    Coverage,
    DnsConfig,
    Dump,
    ExternalName,
    Fact,
    Pod,
    ServicePort,
)

NAME = "kubectl"
COMMAND = "kubectl get services,endpointslices,pods,nodes,networkpolicies,namespaces -A -o json"

_COVERS = {
    "Service": "services",
    "EndpointSlice": "endpoints",
    "Endpoints": _endpoints.COVERS,
    "Pod": "pods",
    "Node": "nodes",
    "NetworkPolicy": "policies",
    "Namespace": "namespaces",
    **_http_objects.COVERS,
}
_YAML = re.compile(r"(?:apiVersion|kind|items|metadata):(?:\s|$)")
_JSON_START = re.compile(rb"\s*\{")


def sniff(dump: Dump) -> bool:
    """An outer JSON object with ``apiVersion``, or YAML that begins as an API object does."""
    keys = outer_keys(dump, "{")
    if keys:
        return "apiVersion" in keys
    found = [line for line in first_lines(dump) if line != "---" and not line.startswith("#")]
    return bool(found) and _YAML.match(found[0]) is not None


def decode(dump: Dump) -> Iterator[Fact]:
    """Facts of the API's objects, and a Coverage for each kind that a list has or is for.

    Coverage kinds are services, endpoints (old_endpoints for Endpoints), pods, nodes, policies and namespaces. An object by
    itself covers nothing, nor does an empty list that does not say of what. Objects of other kinds are passed over; so
    are EndpointSlices of type FQDN, which no rule is made of. Raises DecodeError.
    """
    written = _JSON_START.match(head(dump)) is not None
    quick = spelled(dump, "items") if written else None
    if quick is not None:
        yield from _large(*quick)
        return
    found = values(dump, COMMAND) if written else documents(dump)
    covered: set[str] = set()
    for at, value in found:
        if not isinstance(value, dict):
            raise DecodeError(at.origin, at.line, f"expected an API object, found {kind(value)}; use `{COMMAND}`")
        outer = JsonObject(value, at)
        name = outer.text("kind") or ""
        if "items" not in value and not name.endswith("List"):
            yield from _object(outer, name)
            continue
        listed = name.removesuffix("List")
        for item in outer.children("items"):
            item = _with_line(item)
            own = item.text("kind") or listed
            yield from _cover(own, item, covered, at)
            yield from _object(item, own)
        yield from _cover(listed, outer, covered, at)


def _large(at: At, members: dict[str, object], items: list[Raw]) -> Iterator[Fact]:
    """The same of a large list, whose items are read one by one."""
    outer = JsonObject(members, at)
    listed = (outer.text("kind") or "").removesuffix("List")
    covered: set[str] = set()
    for i, text in enumerate(items):
        endpoints = _endpoint_slices.spelled(text, at)
        if endpoints is not None:
            yield from _cover("EndpointSlice", outer, covered, at)
            yield from endpoints
            continue
        item = outer.item("items", i, member(text))
        own = item.text("kind") or listed
        yield from _cover(own, item, covered, at)
        yield from _object(item, own)
    yield from _cover(listed, outer, covered, at)


def _with_line(item: JsonObject) -> JsonObject:
    if isinstance(item.members, YamlObject):
        return item.moved(At(item.at.origin, item.members.line))
    return item


def _cover(name: str, of: JsonObject, covered: set[str], at: At) -> Iterator[Fact]:
    what = _COVERS.get(name) if name != "NetworkPolicy" or _policies.ours(of) else None
    if what is not None and what not in covered:
        covered.add(what)
        yield Coverage(what, At(at.origin))


def _object(item: JsonObject, name: str) -> Iterator[Fact]:
    if name == "Service":
        yield from _service(item)
    elif name == "EndpointSlice":
        yield from _endpoint_slices.endpoints(_endpoint_slices.read(item, _metadata(item)), item.at)
    elif name == "Endpoints":
        yield from _endpoints.endpoints(item, _metadata(item))
    elif name == "Pod":
        yield _pod(item)
    elif name == "Node":
        yield _node(item)
    elif name == "NetworkPolicy" or name in _policies.OTHERS:
        yield _policies.policy(item, _metadata(item), name)
    elif name == "Namespace":
        yield _policies.namespace(item, _metadata(item))
    else:
        found = _http_objects.decoded(item, name)
        if found is not None:
            yield found


_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"
"""kube-proxy leaves a Service with this label to the proxy that it names (pkg/proxy/apis/well_known_labels.go)."""


def _metadata(item: JsonObject) -> JsonObject:
    found = item.child("metadata")
    if found is None:
        raise item.wrong("metadata", "the object's metadata")
    return found


def _part(item: JsonObject, key: str) -> JsonObject:
    """spec or status: an object that has none is as one whose is empty."""
    return item.child(key) or item.empty(key)


def _labels(metadata: JsonObject) -> dict[str, str]:
    labels = metadata.child("labels")
    return {clean(name): labels.text(name) or "" for name in labels.members} if labels else {}


def _protocol(port: JsonObject) -> int:
    found = _policies.PROTOCOLS.get(port.text("protocol") or "TCP")
    if found is None:
        raise port.wrong("protocol", "TCP, UDP or SCTP")
    return found


def _service(item: JsonObject) -> Iterator[ServicePort | ExternalName]:
    metadata, spec = _metadata(item), _part(item, "spec")
    sort = spec.text("type") or "ClusterIP"
    if sort == "ExternalName":
        yield from _external_name(item, metadata, spec)
        return
    balancer = _part(_part(item, "status"), "loadBalancer")
    vips: list[Addr] = []
    proxied: list[Addr] = []
    for ingress in balancer.children("ingress"):
        # An ingress by hostname alone gives kube-proxy nothing to write a rule for.
        ip = ingress.addr("ip")
        if ip is not None:
            (proxied if ingress.text("ipMode") == "Proxy" else vips).append(ip)
    config = spec.child("sessionAffinityConfig")
    client = config.child("clientIP") if config else None
    cluster_ips = _cluster_ips(spec)
    for port in spec.children("ports"):
        number = port.number("port", 1, 65535)
        if number is None:
            raise port.wrong("port", "the port of the Service")
        yield ServicePort(
            namespace=metadata.text("namespace") or "default",
            service=metadata.need("name"),
            name=port.text("name") or "",
            protocol=_protocol(port),
            port=number,
            target_port=port.word("targetPort") or str(number),
            node_port=port.number("nodePort", 0, 65535) or None,
            type=sort,
            cluster_ips=cluster_ips,
            external_ips=spec.addrs("externalIPs"),
            lb_ips=tuple(vips),
            lb_ips_proxy=tuple(proxied),
            lb_source_ranges=tuple(text.strip() for text in spec.texts("loadBalancerSourceRanges")),
            external_policy=spec.text("externalTrafficPolicy") or "Cluster",
            internal_policy=spec.text("internalTrafficPolicy") or "Cluster",
            affinity=spec.text("sessionAffinity") or "None",
            affinity_seconds=client.number("timeoutSeconds") if client else None,
            health_check_node_port=spec.number("healthCheckNodePort", 0, 65535) or None,
            at=item.at,
            proxy=_labels(metadata).get(_OTHER_PROXY, ""),
        )


def _external_name(item: JsonObject, metadata: JsonObject, spec: JsonObject) -> Iterator[ExternalName]:
    host = spec.text("externalName")
    if not host:
        return
    ports = []
    for port in spec.children("ports"):
        number = port.number("port", 1, 65535)
        if number is None:
            raise port.wrong("port", "the port of the Service")
        ports.append((port.text("name") or "", _protocol(port), number))
    yield ExternalName(metadata.text("namespace") or "default", metadata.need("name"), host, tuple(ports), item.at)


def _cluster_ips(spec: JsonObject) -> tuple[Addr, ...]:
    """The cluster IPs, () for a headless Service; before dual stack (1.20) there was ``clusterIP`` alone."""
    words = spec.texts("clusterIPs") or tuple(word for word in (spec.text("clusterIP"),) if word is not None)
    try:
        return tuple(address(word) for word in words if word not in ("None", ""))
    except ValueError:
        key = "clusterIPs" if spec.texts("clusterIPs") else "clusterIP"
        raise spec.wrong(key, 'IP addresses or "None"') from None


def _pod(item: JsonObject) -> Pod:
    metadata, spec, status = _metadata(item), _part(item, "spec"), _part(item, "status")
    ips = [
        ip for ip in (status.addr("podIP"), *(each.addr("ip") for each in status.children("podIPs"))) if ip is not None
    ]
    ports: list[tuple[str, int, int, int | None, str]] = []
    # An init container that is restarted always is a sidecar and has ports as any other (1.28).
    sidecars = (each for each in spec.children("initContainers") if each.text("restartPolicy") == "Always")
    for container in (*spec.children("containers"), *sidecars):
        for port in container.children("ports"):
            number = port.number("containerPort", 1, 65535)
            if number is None:
                raise port.wrong("containerPort", "the port of the container")
            host = port.number("hostPort", 0, 65535) or None
            ports.append((port.text("name") or "", number, _protocol(port), host, port.text("hostIP") or ""))
    return Pod(
        namespace=metadata.text("namespace") or "default",
        name=metadata.need("name"),
        node=spec.text("nodeName") or None,
        # podIP is the first of podIPs.
        ips=tuple(dict.fromkeys(ips)),
        host_network=spec.flag("hostNetwork") is True,
        phase=status.text("phase") or "Unknown",
        ports=tuple(ports),
        labels=tuple(sorted(_labels(metadata).items())),
        at=item.at,
        dns_policy=spec.text("dnsPolicy") or "ClusterFirst",
        dns=_dns(_part(spec, "dnsConfig")),
    )


def _dns(item: JsonObject) -> DnsConfig:
    options = tuple((each.need("name"), each.word("value") or "") for each in item.children("options"))
    return DnsConfig(item.texts("nameservers"), item.texts("searches"), options)


def _node(item: JsonObject) -> ClusterNode:
    metadata, spec, status = _metadata(item), _part(item, "spec"), _part(item, "status")
    labels = _labels(metadata)
    cidr = spec.text("podCIDR")
    single = JsonObject({"podCIDR": [cidr]}, spec.at, spec).nets("podCIDR") if cidr else ()
    return ClusterNode(
        name=metadata.need("name"),
        addresses=tuple((each.need("type"), each.need("address")) for each in status.children("addresses")),
        pod_cidrs=spec.nets("podCIDRs") or single,
        zone=labels.get("topology.kubernetes.io/zone") or labels.get("failure-domain.beta.kubernetes.io/zone"),
        kube_proxy_version=_part(status, "nodeInfo").text("kubeProxyVersion") or None,
        at=item.at,
    )
