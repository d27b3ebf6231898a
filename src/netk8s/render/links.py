"""What ``netk8s links`` prints: the devices of each node as a tree, as a document, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import asdict

from netk8s import model
from netk8s.render import as_dot, as_mermaid
from netk8s.render._graph import Cluster, Edge, Graph, Vertex
from netk8s.render._links_tree import addresses, as_text, walk, words
from netk8s.render.document import FileLine, Missing, missing, utf8

SCHEMA: Literal["netk8s.dev/links/v1"] = "netk8s.dev/links/v1"

Setting = str | int | bool | list[str]
Mtu = Annotated[int, Meta(ge=0)]


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """How large a packet a tunnel device carries whole: the MTU of the device below, less what is put around it."""

    mtu: Mtu
    overhead: Annotated[int, Meta(description="Bytes put around an IP packet")]
    family: Annotated[int, Meta(description="4 or 6: the outer header's")]
    underlay: str
    underlay_mtu: Mtu


class Vlan(msgspec.Struct, frozen=True, kw_only=True):
    """A VLAN that a bridge or its port carries."""

    vlan: int
    pvid: Annotated[bool, Meta(description="Untagged frames that come in are in it")]
    untagged: Annotated[bool, Meta(description="Its frames leave without their tag")]


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A network device. Null: the dump does not say."""

    name: str
    index: int
    kind: Annotated[str, Meta(description="As iproute2 names it; empty for a physical device")]
    mode: Annotated[str, Meta(description="Of macvlan, ipvlan, bond; tun or tap")] | None
    settings: Annotated[dict[str, Setting], Meta(description="What a device of its kind is set to")]
    mac: str | None
    mtu: Mtu | None
    up: bool
    state: Annotated[str, Meta(description="The kernel's operational state")]
    master: str | None
    parent: str | None
    peer_index: Annotated[int, Meta(description="Of the other end, or of the parent in another namespace")] | None
    peer_namespace: Annotated[str, Meta(description="Number or name of the other end's network namespace")] | None
    hairpin: bool | None
    isolated: bool | None
    port_state: str | None
    addresses: list[str]
    at: FileLine


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """How a pod hangs on its node."""

    pod: Annotated[str, Meta(description="NAMESPACE/NAME")]
    ips: list[str]
    on: Annotated[str, Meta(description="The node's device: the other end, the bridge's port, the parent")] | None
    kind: Annotated[str, Meta(description="bridge, routed, macvlan, ipvlan, vlan, device; empty: not known")]
    told_by: Annotated[str, Meta(description="dump, name, neighbour, route or conclusion; empty: nothing tells")]
    because: str
    link: Annotated[Link, Meta(description="Its own device, of a dump of its own network")] | None
    means: Annotated[str, Meta(description="What that means for Services")]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device of a node, what is on it, and what it means."""

    link: Link
    on: Annotated[str, Meta(description="The device it is shown on: its master, else its parent")] | None
    vlans: list[Vlan]
    fit: Fit | None
    means: Annotated[str, Meta(description="What it means for Services")]


class NodeLinks(msgspec.Struct, frozen=True, kw_only=True):
    """The devices of a node, each behind the one it is on, and the node's pods."""

    node: str
    kinds_known: Annotated[bool, Meta(description="False: no dump tells kinds, an empty one means nothing")]
    devices: list[Device]
    pods: list[Pod]


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """The devices of the dumps' nodes."""

    schema: Literal["netk8s.dev/links/v1"] = SCHEMA
    nodes: list[NodeLinks]
    missing: list[Missing]


# ---------------------------------------------------------------- the document


def links(found: Sequence[model.NodeDevices], gaps: Sequence[model.Missing] = ()) -> Links:
    """The document of ``netk8s links -o json``."""
    nodes = []
    for node in found:
        all_of_them = list(walk(node.devices))
        hung = [pod for device, _ in all_of_them for pod in device.pods]
        nodes.append(
            NodeLinks(
                node=utf8(node.node),
                kinds_known=node.known,
                devices=[_device(device, on) for device, on in all_of_them],
                pods=[_pod(pod) for pod in (*hung, *node.loose)],
            )
        )
    return Links(nodes=nodes, missing=missing(gaps))


def _device(device: model.Device, on: str | None) -> Device:
    return Device(
        link=_link(device.link, device.addresses),
        on=None if on is None else utf8(on),
        vlans=[Vlan(vlan=v.vlan, pvid=v.pvid, untagged=v.untagged) for v in device.vlans],
        fit=None if device.fit is None else Fit(**{f: getattr(device.fit, f) for f in Fit.__struct_fields__}),
        means=utf8(device.means),
    )


def _pod(pod: model.Hanging) -> Pod:
    return Pod(
        pod=utf8(pod.pod),
        ips=[str(ip) for ip in pod.ips],
        on=_or_none(pod.dev),
        kind=pod.kind,
        told_by=pod.told,
        because=utf8(pod.because),
        link=None if pod.link is None else _link(pod.link, pod.addresses),
        means=utf8(pod.means),
    )


def _link(link: model.Link, addresses: Sequence[model.Address]) -> Link:
    where = link.peer_netns_name or (None if link.peer_netns is None else str(link.peer_netns))
    return Link(
        name=utf8(link.name),
        index=link.index,
        kind=utf8(link.kind),
        mode=_or_none(link.mode),
        settings=_settings(link.detail),
        mac=_or_none(link.mac),
        mtu=link.mtu,
        up=link.up,
        state=utf8(link.state),
        master=_or_none(link.master),
        parent=_or_none(link.parent),
        peer_index=link.peer_index,
        peer_namespace=_or_none(where),
        hairpin=link.hairpin,
        isolated=link.isolated,
        port_state=_or_none(link.port_state),
        addresses=[f"{a.ip}/{a.prefixlen}" for a in addresses],
        at=utf8(str(link.at)),
    )


def _settings(detail: model.LinkDetail | None) -> dict[str, Setting]:
    """The fields of what a kind is set to, those the dump does not tell left out."""
    told: dict[str, Any] = {} if detail is None else asdict(detail)
    out: dict[str, Setting] = {}
    for name, value in told.items():
        if isinstance(value, tuple):
            out[name] = [utf8(item) for item in value]
        elif value is not None:
            out[name] = value if isinstance(value, bool | int) else utf8(str(value))
    return out


def _or_none(text: str | None) -> str | None:
    return None if text is None else utf8(text)


# ---------------------------------------------------------------- the picture


def picture(found: Sequence[model.NodeDevices]) -> Graph:
    """The devices as boxes, an edge from each to what is on it."""
    drawn = Graph("devices", [], [], [])
    for number, node in enumerate(found):
        cluster = Cluster(str(number), node.node)
        names: dict[str, str] = {}
        for device, on in walk(node.devices):
            name = names[device.link.name] = f"n{number}_{len(cluster.vertices)}"
            lines = [device.link.name, ", ".join(words(device.link, device.vlans, node.known))]
            if held := addresses(device):
                lines.append(held)
            cluster.vertices.append(Vertex(name, "chain", tuple(lines)))
            if on is not None:
                drawn.edges.append(Edge(names[on], name, ()))
            for pod in device.pods:
                end = f"n{number}_{len(cluster.vertices)}"
                cluster.vertices.append(Vertex(end, "source", (f"pod {pod.pod}", *map(str, pod.ips))))
                drawn.edges.append(Edge(name, end, (pod.kind,)))
        for pod in node.loose:
            end = f"n{number}_{len(cluster.vertices)}"
            cluster.vertices.append(
                Vertex(end, "source", (f"pod {pod.pod}", *map(str, pod.ips), pod.because or "not seen"))
            )
        drawn.clusters.append(cluster)
    return drawn


FORMATS = ("text", "json", "yaml", "dot", "mermaid")


def render(
    found: Sequence[model.NodeDevices],
    name: str,
    gaps: Sequence[model.Missing] = (),
    *,
    color: bool = False,
    width: int = 100,
    ascii: bool = False,
) -> str:
    """The devices in the format called ``name``, one of FORMATS."""
    if name == "text":
        return as_text(found, gaps, color=color, width=width, ascii=ascii)
    if name == "dot":
        return as_dot.draw(picture(found), ascii=ascii)
    if name == "mermaid":
        return as_mermaid.draw(picture(found), ascii=ascii)
    document = links(found, gaps)
    if name == "json":
        return msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"
    import yaml  # 40 ms that only this format has to pay

    return str(yaml.safe_dump(msgspec.to_builtins(document), sort_keys=False, allow_unicode=True, width=width))
