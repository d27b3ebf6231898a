"""``kubectl get … -o json`` or ``-o yaml``: Services, EndpointSlices (or Endpoints), Pods, Nodes, policies, Namespaces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from msgspec import Raw

from netk8s.decode import _endpoint_slices, _endpoints, _http_objects, _policies, _services
from netk8s.decode._json import JsonObject, clean, head, kind, member, outer_keys, spelled, values
from netk8s.decode._text import first_lines
from netk8s.decode._yaml import YamlObject, documents
from netk8s.errors import DecodeError
from netk8s.model import (
    At,
    ClusterNode,
    Coverage,
    DnsConfig,
    Dump,
    Fact,
    Pod,
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
        for name, reader in _READERS:
            found = reader(text, at)
            if found is not None:
                yield from _cover(name, outer, covered, at)
                yield from found
                break
        else:
            item = outer.item("items", i, member(text))
            own = item.text("kind") or listed
            yield from _cover(own, item, covered, at)
            yield from _object(item, own)
    yield from _cover(listed, outer, covered, at)


_READERS: tuple[tuple[str, Callable[[Raw, At], Sequence[Fact] | None]], ...] = (
    ("EndpointSlice", _endpoint_slices.spelled),
    ("Service", _services.spelled),
)
"""Of kinds that a large cluster has many of."""


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
        yield from _services.ports(_services.read(item, _metadata(item)), item.at)
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
