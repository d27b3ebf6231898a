"""The cluster's objects as ``kubectl get -o json`` lists them, paged, and only what a question needs.

What no decoder reads is left out, so that environment variables and annotations, which may hold secrets, never get into
a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from zlib import crc32

from msgspec import Raw, Struct
from msgspec.structs import replace

from netk8s import snapshot
from netk8s.errors import CollectError
from netk8s.live.api import Api, Refused
from netk8s.model import Ask, Dump, Missing, Snapshot

PAGE = 500
MOST = 5000
"""Objects of a kind that are read for a question although only some namespaces concern it."""

_NAMED = {"name": True, "namespace": True, "labels": True}
_ENDPOINT = {
    "addresses": True, "conditions": True, "nodeName": True, "zone": True, "hints": True, "deprecatedTopology": True,
    "targetRef": {"kind": True, "name": True, "namespace": True},
}  # fmt: skip
_CONTAINERS = [{"name": True, "ports": True, "restartPolicy": True}]


class Kind(Struct, frozen=True):
    """A kind of object. ``keep`` is the shape of what is kept of one: True for all of a value."""

    name: str
    path: str
    plural: str
    version: str
    needed_for: str
    keep: Mapping[str, Any]
    namespaced: bool = True


SERVICES = Kind(
    "Service", "/api/v1", "services", "v1", "which Service an address or a name is",
    {"metadata": _NAMED, "spec": True, "status": True},
)  # fmt: skip
SLICES = Kind(
    "EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices", "discovery.k8s.io/v1",
    "whether the rules have the endpoints that the API has",
    {"metadata": _NAMED, "addressType": True, "endpoints": [_ENDPOINT], "ports": True},
)  # fmt: skip
PODS = Kind(
    "Pod", "/api/v1", "pods", "v1", "which pod an address is, and where it runs",
    {
        "metadata": _NAMED,
        "spec": {
            "nodeName": True, "hostNetwork": True, "containers": _CONTAINERS, "initContainers": _CONTAINERS,
            "dnsPolicy": True, "dnsConfig": True,
        },
        "status": {"phase": True, "podIP": True, "podIPs": True, "hostIP": True},
    },
)  # fmt: skip
NODES = Kind(
    "Node", "/api/v1", "nodes", "v1", "which node an address is",
    {
        "metadata": _NAMED,
        "spec": {"podCIDR": True, "podCIDRs": True, "taints": True},
        "status": {"addresses": True, "nodeInfo": {"kubeProxyVersion": True, "kubeletVersion": True}},
    },
    namespaced=False,
)  # fmt: skip
POLICIES = Kind(
    "NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies", "networking.k8s.io/v1",
    "which NetworkPolicy a rule stands for", {"metadata": _NAMED, "spec": True},
)  # fmt: skip
NAMESPACES = Kind(
    "Namespace", "/api/v1", "namespaces", "v1", "which namespaces a NetworkPolicy selects",
    {"metadata": _NAMED}, namespaced=False,
)  # fmt: skip
ROUTING = ("kubernetes.io/ingress.class", "ingressclass.kubernetes.io/is-default-class",
            "nginx.ingress.kubernetes.io/use-regex", "nginx.ingress.kubernetes.io/canary",
            "nginx.ingress.kubernetes.io/service-upstream", "haproxy-ingress.github.io/service-upstream",
            "nginx.org/use-cluster-ip")  # fmt: skip
_ANNOTATED = {**_NAMED, "annotations": dict.fromkeys(ROUTING, True)}
_CREATED = {**_NAMED, "creationTimestamp": True}
_NETWORKING = "/apis/networking.k8s.io/v1"
_GATEWAY = "/apis/gateway.networking.k8s.io/v1"
INGRESSES = Kind(
    "Ingress", _NETWORKING, "ingresses", "networking.k8s.io/v1", "which Service a name leads to",
    {"metadata": _ANNOTATED, "spec": True, "status": True},
)  # fmt: skip
CLASSES = Kind(
    "IngressClass", _NETWORKING, "ingressclasses", "networking.k8s.io/v1", "which controller serves an Ingress",
    {"metadata": _ANNOTATED, "spec": True}, namespaced=False,
)  # fmt: skip
GATEWAYS = Kind(
    "Gateway", _GATEWAY, "gateways", "gateway.networking.k8s.io/v1", "where requests of HTTPRoutes come in",
    {"metadata": _NAMED, "spec": True, "status": {"addresses": True}},
)  # fmt: skip
GATEWAY_CLASSES = Kind(
    "GatewayClass", _GATEWAY, "gatewayclasses", "gateway.networking.k8s.io/v1", "which controller serves a Gateway",
    {"metadata": _NAMED, "spec": True}, namespaced=False,
)  # fmt: skip
HTTP_ROUTES = Kind(
    "HTTPRoute", _GATEWAY, "httproutes", "gateway.networking.k8s.io/v1", "which Service a request leads to",
    {"metadata": _CREATED, "spec": True},
)  # fmt: skip
GRANTS = Kind(
    "ReferenceGrant", "/apis/gateway.networking.k8s.io/v1beta1", "referencegrants", "gateway.networking.k8s.io/v1beta1",
    "which Services of other namespaces a route may use", {"metadata": _NAMED, "spec": True},
)  # fmt: skip

OF_GATEWAYS = (GATEWAYS, GATEWAY_CLASSES, HTTP_ROUTES, GRANTS)
FOR_CHECK = (SERVICES, SLICES, PODS, NODES, POLICIES, NAMESPACES)
ALL = (SERVICES, SLICES, PODS, NODES, POLICIES, NAMESPACES, INGRESSES, CLASSES, *OF_GATEWAYS)


_FOR_ALL = frozenset(f"cluster/{kind.plural}.json" for kind in (SERVICES, SLICES, NODES, POLICIES))


class _TooMany(Exception):
    """A list that goes on for longer than the question is worth."""


def everything(api: Api, kinds: Iterable[Kind] = ALL) -> Snapshot:
    """All objects that netk8s knows, or those of some kinds, of the whole cluster."""
    return _together(_whole(api, kind, None) for kind in kinds)


def count(api: Api, kind: Kind) -> int:
    """How many objects of a kind there are. Raises CollectError."""
    import msgspec

    page = msgspec.json.decode(api.get(f"{kind.path}/{kind.plural}", {"limit": 1}))
    return len(page.get("items") or ()) + int((page.get("metadata") or {}).get("remainingItemCount") or 0)


_SPLIT_FROM = 4 << 20
_PIECES = 16
"""Into so many pieces a list goes that has more bytes: what is sent again for one object that changed is one of them."""


class Sent(Struct, frozen=True):
    """What agents are sent: ``shared`` in pieces by digest (sha256), and behind them what ``own`` gives for a node."""

    shared: Mapping[str, bytes]
    own: Callable[[str], bytes]

    def bundle(self, name: str) -> bytes:
        """All of a node, as ``snapshot.read`` knows it."""
        return b"".join(self.shared.values()) + self.own(name)


class _Metadata(Struct):
    name: str = ""
    namespace: str = ""


class _Named(Struct):
    metadata: _Metadata


class _Spelled(Struct):
    items: list[Raw]


def for_nodes(taken: Snapshot, elsewhere: Iterable[bytes], policies: bool) -> Sent:
    """Of the cluster's objects what a check of one node needs: what all nodes need, packed, and what one needs beside it.

    Every node needs what its kube-proxy reads, and its own pods. Of those of other nodes it is the EndpointSlices that say
    what is dialled, and ``elsewhere`` (:mod:`netk8s.elsewhere`), of which there may be several. ``policies``: whether
    there are any, for which Namespaces are needed.
    """
    import msgspec

    wanted = {*_FOR_ALL, *((f"cluster/{NAMESPACES.plural}.json",) if policies else ())}
    dumps = [part for dump in taken.dumps if dump.origin in wanted for part in _parted(dump)]
    dumps += (Dump(f"cluster/elsewhere-{number}.json", text) for number, text in enumerate(elsewhere))
    pieces = [snapshot.beginning([dump]) for dump in dumps]
    lines: dict[str, list[dict[str, Any]]] = {}
    for dump in taken.dumps:
        if dump.origin == f"cluster/{PODS.plural}.json":
            for item in msgspec.json.decode(dump.data)["items"]:
                lines.setdefault((item.get("spec") or {}).get("nodeName") or "", []).append(item)

    def of_node(name: str) -> bytes:
        pods = lines.get(name, [])
        # Without the time: what is the same is to be the same bytes.
        return snapshot.packed(Snapshot((replace(_dump(PODS, pods, whole=False), taken=""),) if pods else ()))

    return Sent({sha256(piece).hexdigest(): piece for piece in pieces}, of_node)


def _parted(dump: Dump) -> Iterator[Dump]:
    """A large list in pieces: objects of one namespace and name stay in theirs, whatever else changes."""
    import msgspec

    if len(dump.data) < _SPLIT_FROM:
        yield dump
        return
    kind = next(kind for kind in ALL if dump.origin == f"cluster/{kind.plural}.json")
    parts: list[list[bytes]] = [[] for _ in range(_PIECES)]
    for raw in msgspec.json.decode(dump.data, type=_Spelled).items:
        metadata = msgspec.json.decode(raw, type=_Named).metadata
        parts[crc32(f"{metadata.namespace}/{metadata.name}".encode()) % _PIECES].append(bytes(raw))
    for number, lines in enumerate(parts):
        yield Dump(dump.origin.replace(".json", f"-{number}.json"), b"".join(_listed_text(kind, lines)))


def for_question(api: Api, ask: Ask) -> Snapshot:
    """The objects that a question needs. Raises CollectError when not even its Service or pod may be read."""
    spaces = namespaces_of(ask, api.namespace)
    kinds = [(SERVICES, None), (NODES, None), (SLICES, MOST), (PODS, MOST)]
    routed = ask.target.partition("/")[0]
    if routed in ("ingress", "ing"):
        kinds += [(INGRESSES, None), (CLASSES, None)]
    elif routed in ("gateway", "gtw", "httproute"):
        kinds += [(kind, None) for kind in OF_GATEWAYS]
    return _together(_of_question(api, kind, most, spaces) for kind, most in kinds)


def service_names(api: Api) -> list[tuple[str, str]]:
    """(namespace, name) of every Service. Raises CollectError."""
    found = (item.get("metadata") or {} for item in _listed(api, SERVICES, None, None))
    return [(str(one.get("namespace")), str(one.get("name"))) for one in found]


def namespaces_of(ask: Ask, default: str) -> tuple[str, ...]:
    """The namespaces that the words of a question name."""
    found = [ask.namespace or default]
    for words in (ask.target, ask.source or ""):
        kind, _, rest = words.partition("/")
        if kind not in ("node", "no", "nodes") and "/" in rest:
            found.append(rest.partition("/")[0])
    return tuple(dict.fromkeys(found))


_Part = tuple[Dump | None, tuple[Missing, ...]]


def _together(parts: Iterable[_Part]) -> Snapshot:
    found = list(parts)
    return Snapshot(tuple(d for d, _ in found if d is not None), tuple(gap for _, gaps in found for gap in gaps))


def _whole(api: Api, kind: Kind, most: int | None) -> _Part:
    """A kind in all namespaces, or the reason why not."""
    try:
        return _dump(kind, _listed(api, kind, None, most), whole=True), ()
    except Refused as error:
        return None, (Missing(f"cluster/{kind.plural}.json ({error})", kind.needed_for, error.status == 404),)


def _of_question(api: Api, kind: Kind, most: int | None, spaces: tuple[str, ...]) -> _Part:
    """A kind in all namespaces; where that is forbidden or too much, in those that the question names."""
    try:
        return _dump(kind, _listed(api, kind, None, most), whole=True), ()
    except _TooMany:
        why = f"more than {most} in the cluster"
    except Refused as error:
        if error.status == 401:
            raise
        why = str(error)
        if not kind.namespaced or error.status == 404:
            # 404: the cluster has no objects of this kind.
            return None, (Missing(f"cluster/{kind.plural}.json ({why})", kind.needed_for, error.status == 404),)
    items: list[dict[str, Any]] = []
    for space in spaces:
        try:
            items += _listed(api, kind, space, None)
        except Refused as error:
            if kind is SERVICES:
                raise
            return None, (Missing(f"cluster/{kind.plural}.json ({error})", kind.needed_for),)
    gap = Missing(f"{kind.plural} outside of {', '.join(spaces)} ({why})", kind.needed_for)
    # An incomplete list of pods must not pass for a complete one: nothing may be concluded of who is not in it.
    return _dump(kind, items, whole=kind is not PODS), (gap,)


def _listed(api: Api, kind: Kind, namespace: str | None, most: int | None) -> list[dict[str, Any]]:
    """The objects of a kind. Raises _TooMany as soon as it is certain, Refused and CollectError."""
    import msgspec

    where = f"/namespaces/{namespace}" if namespace is not None else ""
    path = f"{kind.path}{where}/{kind.plural}"
    items: list[dict[str, Any]] = []
    again = ""
    restarted = False
    while True:
        query: dict[str, str | int] = {"limit": PAGE, **({"continue": again} if again else {})}
        try:
            data = api.get(path, query)
        except Refused as error:
            # The list was taken too slowly and the page's revision is gone: once more from the start.
            if error.status != 410 or restarted:
                raise
            items, again, restarted = [], "", True
            continue
        try:
            page = msgspec.json.decode(data)
            metadata = page.get("metadata") or {}
            items += (kept(item, kind.keep) for item in page["items"] or ())
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            raise CollectError(
                f"{api.host}{path}: the answer is no list of {kind.plural}; is this an API server?"
            ) from None
        again = metadata.get("continue") or ""
        if most is not None and len(items) + (metadata.get("remainingItemCount") or 0) > most:
            raise _TooMany
        if not again:
            return items


def kept(value: Any, shape: Any) -> Any:
    """What of a value has the shape."""
    if shape is True:
        return value
    if isinstance(shape, list):
        return [kept(item, shape[0]) for item in value] if isinstance(value, list) else value
    if not isinstance(value, dict):
        return value
    return {key: kept(value[key], part) for key, part in shape.items() if key in value}


def _dump(kind: Kind, items: list[dict[str, Any]], whole: bool) -> Dump:
    return Dump(
        f"cluster/{kind.plural}.json",
        b"".join(_text(kind, items, whole)),
        source=f"GET {kind.path}/{kind.plural}",
        taken=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def _text(kind: Kind, items: list[dict[str, Any]], whole: bool) -> Iterator[bytes]:
    """A list as kubectl prints it, an object a line; objects one after another where they are not the whole list."""
    import msgspec

    lines = [msgspec.json.encode({"apiVersion": kind.version, "kind": kind.name, **item}) for item in items]
    if not whole:
        yield from (line + b"\n" for line in lines)
        return
    yield from _listed_text(kind, lines)


def _listed_text(kind: Kind, lines: Iterable[bytes]) -> Iterator[bytes]:
    yield f'{{"apiVersion":"v1","kind":"{kind.name}List","items":[\n'.encode()
    yield b",\n".join(lines)
    yield b"\n]}\n"
