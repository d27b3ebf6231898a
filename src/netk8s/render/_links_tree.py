"""Devices as a tree of text, and the few words that say what a device is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netk8s import model
from netk8s.render._page import Page
from netk8s.render._words import listed

_MOST = 6
_TOLD = {
    "dump": "",
    "name": "by the device's name",
    "neighbour": "by its neighbour entry",
    "route": "by its route",
    "conclusion": "a conclusion",
}


def walk(devices: Sequence[model.Device], on: str | None = None) -> Iterator[tuple[model.Device, str | None]]:
    """(device, the device it is on) of trees, each behind the one it is on."""
    for device in devices:
        yield device, on
        yield from walk(device.above, device.link.name)


def as_text(
    found: Sequence[model.NodeDevices],
    gaps: Sequence[model.Missing] = (),
    *,
    color: bool = False,
    width: int = 100,
    ascii: bool = False,
) -> str:
    """A tree per node: what is on a device stands below it; behind it what it means for Services."""
    page = Page(width, color=color, ascii=ascii)
    for node in found:
        page.blank()
        count = sum(1 for _ in walk(node.devices))
        page.put(f"{node.node}: {count} device{'' if count == 1 else 's'}", style="bold")
        if not node.known:
            page.put("no dump tells what kind they are; take one with `ip -d link`", first="  ", style="yellow")
        for device in node.devices:
            _put(page, device, "", "", node.known)
        if node.loose:
            page.put("pods that hang on none of them, as far as the dumps tell:")
            for pod in node.loose:
                said = "; ".join(part for part in (_own(pod), pod.because or "not seen", pod.means) if part)
                page.put(f"{pod.pod}{_ips(pod)}: {said}", first="  ", rest="    ")
    if gaps:
        page.title("Missing")
        page.bullets(f"{gap.what}: needed for {gap.needed_for}" for gap in gaps)
    return page.text()


def _put(page: Page, device: model.Device, first: str, rest: str, known: bool) -> None:
    """A device, then what is on it. ``first`` stands before its line, ``rest`` before those below."""
    link = device.link
    page.put(f"{link.name}  {', '.join(words(link, device.vlans, known))}", first=first, rest=f"{rest}    ")
    members: list[model.Hanging | model.Device] = [*device.pods, *device.above]
    bar = f"{rest}│   " if members else f"{rest}    "
    if held := addresses(device):
        page.put(held, first=bar, rest=bar)
    for text in (_fit(link, device.fit), device.means):
        if text:
            page.put(text, first=bar, rest=bar, style="dim")
    for number, member in enumerate(members):
        last = number == len(members) - 1
        before, after = f"{rest}{'└─ ' if last else '├─ '}", f"{rest}{'   ' if last else '│  '}"
        if isinstance(member, model.Device):
            _put(page, member, before, after, known)
            continue
        told = _TOLD.get(member.told, "")
        page.put(
            f"pod {member.pod}{_ips(member)}{f' ({told})' if told else ''}{_own(member, ': ')}",
            first=before,
            rest=after,
        )
        if member.means:
            page.put(member.means, first=f"{after}    ", rest=f"{after}    ", style="dim")


def addresses(device: model.Device) -> str:
    """The first of its addresses; those that every IPv6 device has are left out."""
    shown = [f"{a.ip}/{a.prefixlen}" for a in device.addresses if a.ip.version == 4 or not a.ip.is_link_local]
    return listed(shown, _MOST)


def _ips(pod: model.Hanging) -> str:
    return "".join(f" {ip}" for ip in pod.ips)


def _own(pod: model.Hanging, before: str = "") -> str:
    """The pod's own device, where a dump was taken inside it."""
    if pod.link is None:
        return ""
    return f"{before}{pod.link.name} {', '.join(words(pod.link, (), True, inside=True))}"


def words(link: model.Link, vlans: Sequence[model.PortVlan], known: bool, *, inside: bool = False) -> list[str]:
    """What a device is, in few words. ``inside``: it is a pod's own, whose other end is told elsewhere."""
    out = [_kind(link, known), *_setting_words(link.detail)]
    if link.kind == "veth" and not inside:
        namespace = link.peer_netns_name or link.peer_netns
        if namespace is not None:
            out.append(f"other end is device {link.peer_index} of namespace {namespace}")
        elif link.peer_index is not None:
            out.append(f"other end is device {link.peer_index}")
    if link.master is not None and link.parent is not None:
        out.append(f"made on {link.parent}")
    if link.hairpin is not None:
        out.append("hairpin" if link.hairpin else "no hairpin")
    if link.isolated:
        out.append("isolated")
    if link.port_state not in (None, "forwarding"):
        out.append(f"port {link.port_state}".lower())
    if vlans:
        marks = [
            f"{v.vlan}{' pvid' if v.pvid else ''}{' untagged' if v.untagged and not v.pvid else ''}" for v in vlans
        ]
        out.append(f"vlans {listed(marks, _MOST)}")
    if link.mtu is not None:
        out.append(f"mtu {link.mtu}")
    if not link.up:
        out.append("down")
    elif link.state not in ("UP", "UNKNOWN", ""):
        out.append(f"up, but {link.state.lower()}")
    return out


def _kind(link: model.Link, known: bool) -> str:
    if not link.kind:
        return "loopback" if link.name == "lo" else "physical" if known else "kind not known"
    return f"{link.kind} {link.mode}" if link.mode else link.kind


def _setting_words(detail: model.LinkDetail | None) -> Iterator[str]:
    if isinstance(detail, model.Tunnel):
        yield from _tunnel_words(detail)
    elif isinstance(detail, model.Bridge):
        if detail.vlan_filtering:
            yield "vlan filtering"
    elif isinstance(detail, model.Vlan):
        yield f"tag {detail.id}" + ("" if detail.protocol == "802.1Q" else f" ({detail.protocol})")
    elif isinstance(detail, model.Macvlan):
        if detail.sources:
            yield f"from {listed(detail.sources, _MOST)}"
    elif isinstance(detail, model.Ipvlan):
        if detail.private or detail.vepa:
            yield "private" if detail.private else "vepa"
    elif isinstance(detail, model.Bond):
        if detail.active:
            yield f"active {detail.active}"
    elif isinstance(detail, model.Vrf):
        yield f"table {detail.table}"


def _tunnel_words(tunnel: model.Tunnel) -> Iterator[str]:
    if tunnel.external:
        yield "external"
    elif tunnel.id is not None:
        yield f"id {tunnel.id}"
    if tunnel.port is not None:
        yield f"port {tunnel.port}"
    if tunnel.local is not None:
        yield f"local {tunnel.local}"
    if tunnel.remote is not None:
        yield f"{'group' if tunnel.remote.is_multicast else 'remote'} {tunnel.remote}"
    if tunnel.learning is False:
        yield "no learning"
    if tunnel.encap:
        yield f"in {tunnel.encap}"


def _fit(link: model.Link, fit: model.MtuFit | None) -> str:
    if fit is None:
        return ""
    adds = f"adds {fit.overhead} bytes (IPv{fit.family}) on {fit.underlay} of mtu {fit.underlay_mtu}"
    if link.mtu is not None and link.mtu > fit.mtu:
        return f"{adds}: its mtu {link.mtu} is too large, {fit.mtu} fits; larger packets are fragmented or lost"
    return f"{adds}: {fit.mtu} fits"
