"""EndpointSlices (discovery.k8s.io/v1 and v1beta1): their shape, read in two ways, and the endpoints that they mean.

A large cluster has tens of thousands of endpoints: :func:`spelled` has msgspec read them into the shape at once. What
does not fit the shape is read again by :func:`read`, which says where and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from netk8s.decode import _policies
from netk8s.decode._json import JsonObject, address, clean, shaped
from netk8s.model import At, Endpoint

Text = str | None
Flag = bool | None


class Port(msgspec.Struct):
    """One of a slice's ports; without a number it means all ports."""

    name: Text = None
    protocol: Text = None
    port: int | None = None


class Conditions(msgspec.Struct):
    """discovery/v1, EndpointConditions."""

    ready: Flag = None
    serving: Flag = None
    terminating: Flag = None


class Target(msgspec.Struct):
    """What an endpoint is, usually a Pod."""

    kind: Text = None
    namespace: Text = None
    name: Text = None


class Named(msgspec.Struct):
    """A zone or node of a hint."""

    name: str


class Hints(msgspec.Struct):
    """Whom an endpoint is meant for; forNodes since 1.33."""

    forZones: list[Named] | None = None  # noqa: N815
    forNodes: list[Named] | None = None  # noqa: N815


class Item(msgspec.Struct):
    """One endpoint; v1beta1 has ``topology`` where v1 has nodeName, zone and ``deprecatedTopology``."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    targetRef: Target | None = None  # noqa: N815
    nodeName: Text = None  # noqa: N815
    zone: Text = None
    hints: Hints | None = None
    deprecatedTopology: dict[str, Text] | None = None  # noqa: N815
    topology: dict[str, Text] | None = None


class Metadata(msgspec.Struct):
    """Of a slice's metadata what says whose it is."""

    namespace: Text = None
    labels: dict[str, Text] | None = None


class Slice(msgspec.Struct):
    """An EndpointSlice."""

    metadata: Metadata
    addressType: Text = None  # noqa: N815
    ports: list[Port] | None = None
    endpoints: list[Item] | None = None


_SERVICE = "kubernetes.io/service-name"
_BEGINS = re.compile(rb'\{\s*"apiVersion":\s*"discovery\.k8s\.io/[^"\\]*",\s*"kind":\s*"EndpointSlice"')
_DECODER = msgspec.json.Decoder(Slice)


def spelled(text: msgspec.Raw, at: At) -> list[Endpoint] | None:
    """The endpoints of an EndpointSlice as kubectl spells it; None for anything else."""
    return shaped(text, _BEGINS, _DECODER, lambda found: endpoints(found, at))


def read(item: JsonObject, metadata: JsonObject) -> Slice:
    """A slice in its shape. Raises DecodeError."""
    labels = metadata.child("labels")
    service = labels.text(_SERVICE) if labels else None
    mine = Slice(Metadata(metadata.text("namespace"), {_SERVICE: service}), item.text("addressType"))
    if not service or mine.addressType == "FQDN":
        return mine
    mine.ports = []
    for port in item.children("ports"):
        protocol, number = port.text("protocol"), port.number("port", 0, 65535)
        if number and (protocol or "TCP") not in _policies.PROTOCOLS:
            raise port.wrong("protocol", "TCP, UDP or SCTP")
        mine.ports.append(Port(port.text("name"), protocol, number))
    mine.endpoints = [_item(endpoint) for endpoint in item.children("endpoints")]
    return mine


def _item(endpoint: JsonObject) -> Item:
    if not endpoint.addrs("addresses"):
        return Item()
    conditions, target, hints = (endpoint.child(key) for key in ("conditions", "targetRef", "hints"))
    found = Item(
        list(endpoint.texts("addresses")),
        nodeName=endpoint.text("nodeName"),
        zone=endpoint.text("zone"),
    )
    if conditions:
        found.conditions = Conditions(*(conditions.flag(key) for key in ("ready", "serving", "terminating")))
    if target is not None and target.text("kind") == "Pod":
        found.targetRef = Target("Pod", target.text("namespace"), target.need("name"))
    if hints is not None:
        found.hints = Hints(
            [Named(zone.need("name")) for zone in hints.children("forZones")],
            [Named(node.need("name")) for node in hints.children("forNodes")],
        )
    old = endpoint.child("deprecatedTopology") or endpoint.child("topology")
    if old is not None:
        found.topology = {clean(key): old.text(key) for key in (_HOST, _ZONE) if key in old.members}
    return found


_HOST, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def endpoints(of: Slice, at: At) -> Iterator[Endpoint]:
    """An Endpoint for each address and port; none of a slice without a Service or of type FQDN.

    Raises ValueError for an address, a protocol, a port or a name that is none: a slice that :func:`read` gave has none
    of these.
    """
    service = (of.metadata.labels or {}).get(_SERVICE)
    if not service or of.addressType == "FQDN":
        return
    namespace = of.metadata.namespace or "default"
    ports: list[tuple[str, int, int]] = []
    for port in of.ports or ():
        # kube-proxy has no use for a port that is not set ("all ports") and leaves it out
        # (pkg/proxy/endpointslicecache.go).
        if port.port:
            protocol = _policies.PROTOCOLS.get(port.protocol or "TCP")
            if protocol is None or not 0 < port.port <= 65535:
                raise ValueError
            ports.append((port.name or "", protocol, port.port))
    for item in of.endpoints or ():
        if not item.addresses:
            continue
        # The addresses of one endpoint are fungible, and kube-proxy takes the first.
        ip, *_ = map(address, item.addresses)
        conditions = item.conditions or _NONE
        # Not set means: ready as far as anybody knows, and serving as long as ready (discovery/v1, EndpointConditions).
        ready = conditions.ready is not False
        node, zone = item.nodeName, item.zone
        if node is None or zone is None:
            old = item.deprecatedTopology or item.topology or {}
            node, zone = node or old.get(_HOST), zone or old.get(_ZONE)
        pod = _pod(item.targetRef, namespace)
        hints = _hints(item.hints) if item.hints else ()
        for name, protocol, number in ports:
            yield Endpoint(
                namespace=namespace,
                service=service,
                port_name=name,
                protocol=protocol,
                ip=ip,
                port=number,
                node=node,
                pod=pod,
                ready=ready,
                serving=ready if conditions.serving is None else conditions.serving,
                terminating=conditions.terminating is True,
                zone=zone,
                hints=hints,
                at=at,
            )


_NONE = Conditions()


def _pod(target: Target | None, namespace: str) -> str | None:
    if target is None or target.kind != "Pod":
        return None
    if not target.name:
        raise ValueError
    return f"{target.namespace or namespace}/{target.name}"


def _hints(hints: Hints) -> tuple[str, ...]:
    """Zones by name, nodes as ``node/NAME``: a zone is a label's value and has no slash."""
    if not all(each.name for each in (*(hints.forZones or ()), *(hints.forNodes or ()))):
        raise ValueError
    zones = (zone.name for zone in hints.forZones or ())
    return (*zones, *(f"node/{node.name}" for node in hints.forNodes or ()))
