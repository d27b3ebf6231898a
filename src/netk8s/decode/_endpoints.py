"""Endpoints objects (core/v1): what clusters before EndpointSlices have, and reports of older tools.

kube-proxy takes an endpoint from ``addresses`` and none from ``notReadyAddresses`` (1.18, pkg/proxy/endpoints.go). Since
1.22 an object holds 1,000 addresses at most and says so in an annotation
(pkg/controller/endpoint/endpoints_controller.go).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netk8s.decode import _policies
from netk8s.decode._json import JsonObject
from netk8s.model import Coverage, Endpoint, Fact, OldEndpoint

COVERS = "old_endpoints"
"""The kind of the Coverage of a list of Endpoints objects."""

OVER = "endpoints.kubernetes.io/over-capacity"
"""The annotation that says that an object holds too many."""


def endpoints(item: JsonObject, metadata: JsonObject) -> Iterator[OldEndpoint]:
    """One for each address and port of each subset. Raises DecodeError."""
    namespace, service = metadata.text("namespace") or "default", metadata.need("name")
    notes = metadata.child("annotations")
    truncated = notes is not None and notes.text(OVER) == "truncated"
    for subset in item.children("subsets"):
        ports: list[tuple[str, int, int]] = []
        for port in subset.children("ports"):
            protocol, number = _policies.PROTOCOLS.get(port.text("protocol") or "TCP"), port.number("port", 1, 65535)
            if protocol is None:
                raise port.wrong("protocol", "TCP, UDP or SCTP")
            if number is None:
                raise port.wrong("port", "the port of the endpoint")
            ports.append((port.text("name") or "", protocol, number))
        for key in ("addresses", "notReadyAddresses"):
            for address in subset.children(key):
                ip, target = address.addr("ip"), address.child("targetRef")
                if ip is None:
                    raise address.wrong("ip", "an IP address")
                pod = None
                if target is not None and target.text("kind") == "Pod":
                    pod = f"{target.text('namespace') or namespace}/{target.need('name')}"
                ready = key == "addresses"
                for name, protocol, number in ports:
                    found = Endpoint(
                        namespace, service, name, protocol, ip, number, address.text("nodeName"), pod, ready, ready,
                        at=item.at,
                    )  # fmt: skip
                    yield OldEndpoint(found, truncated)


def chosen(facts: Sequence[Fact], notes: list[str]) -> list[Fact]:
    """The cluster's facts, with those endpoints of Endpoints objects that count: of Services that no EndpointSlice is of.

    A whole list of EndpointSlices tells of every Service. What is taken from Endpoints objects is said in ``notes``.
    """
    old = [fact for fact in facts if isinstance(fact, OldEndpoint)]
    coverages = [fact for fact in facts if isinstance(fact, Coverage)]
    lists = [fact for fact in coverages if fact.kind == COVERS]
    rest: list[Fact] = [fact for fact in facts if not isinstance(fact, OldEndpoint) and fact not in lists]
    if any(fact.kind == "endpoints" for fact in coverages):
        return rest
    told = {(fact.namespace, fact.service) for fact in rest if isinstance(fact, Endpoint)}
    taken = [each for each in old if (each.endpoint.namespace, each.endpoint.service) not in told]
    # Of a Service with more endpoints than its object holds the others are not known.
    if lists and not any(each.truncated for each in taken):
        rest.append(Coverage("endpoints", lists[0].at))
    if taken:
        notes.append(
            "the endpoints of Services that no EndpointSlice is of are those of Endpoints objects, which kube-proxy follows "
            "up to 1.18"
        )
    return [*rest, *(each.endpoint for each in taken)]
