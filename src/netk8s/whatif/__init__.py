"""A snapshot with something changed in it, as the node's kernel and kube-proxy would have it then.

Objects and settings are changed as facts, rules of iptables in the text of iptables-save, those of nftables as they are
decoded. What a Service's change does to a node is only known where what its kube-proxy writes for the present state is
what the dump holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from netk8s import decode
from netk8s.errors import NotFound, NotKnown, UsageError
from netk8s.model import At, Node, Snapshot, Sysctl, World
from netk8s.whatif import _nft_commands, _objects, _reprogram
from netk8s.whatif._save import apply
from netk8s.whatif._saves import Saves
from netk8s.whatif._wanted import Wanted, near


class Changed(Struct, frozen=True):
    """The snapshot as it is and as it would be, both still to be completed. ``notes``: what was taken for granted."""

    before: World
    after: World
    notes: tuple[str, ...]


def whatif(snapshot: Snapshot, wanted: Wanted, *, unwrap: bool = False) -> Changed:
    """Decodes a snapshot and changes it.

    Raises UsageError for words that cannot be understood, NotFound for what is not there, NotKnown where it is not known
    which rules there would be, DecodeError.
    """
    before = decode.decode(snapshot, unwrap=unwrap)
    notes: list[str] = []
    cluster = _objects.changed(before, wanted, notes)
    saves = Saves(snapshot, before)
    staged = dict(before.nodes)
    for words in wanted.rules:
        _rule(saves, staged, words)
    staged = _reprogram.reprogrammed(saves, staged, before.cluster, cluster, notes)
    changed = saves.snapshot()
    after = before if changed is snapshot else decode.decode(changed, unwrap=unwrap)
    nodes = {
        name: replace(node, nft=there.nft, virtual_servers=there.virtual_servers, sets=there.sets)
        for name, node in after.nodes.items()
        for there in [staged[name]]
    }
    for words in wanted.sysctls:
        _sysctl(nodes, words)
    return Changed(before, replace(after, nodes=nodes, cluster=cluster), tuple(dict.fromkeys(notes)))


# ---------------------------------------------------------------- rules


def _rule(saves: Saves, nodes: dict[str, Node], words: str) -> None:
    name, _, rest = words.partition(":")
    if name.strip() not in nodes:
        name, rest = next(iter(nodes)), words
        if len(nodes) > 1:
            raise UsageError(f"rule {words!r}: say on which node, as NODE: -A …", tuple(nodes))
    node, rest = nodes[name.strip()], rest.strip()
    if _nft_commands.is_command(rest):
        nodes[node.name] = _nft_commands.run(node, saves, rest)
        return
    family = 6 if rest.split()[:1] == ["ip6tables"] else 4
    found = saves.of(node.name, family)
    if len(found) != 1:
        what = "both backends' rules" if found else "no output of iptables-save"
        raise NotKnown(f"{node.name} has {what} for IPv{family}: it is not known where the rule would be")
    table = apply(found[0], rest)
    if any(t.family == ("ip" if family == 4 else "ip6") and t.name == table and t.told_by_nft for t in node.nft):
        raise NotKnown(
            f"table {table} of {node.name} has sets of nft, so it is taken from nft's listing: give the rule in nft's words "
            f"(add rule ip {table} …)"
        )


# ---------------------------------------------------------------- settings


def _sysctl(nodes: dict[str, Node], words: str) -> None:
    setting, equals, value = words.partition("=")
    node, colon, name = setting.partition(":")
    if not colon:
        node, name = "", setting
    if not equals:
        raise UsageError(f"sysctl {words}: expected [NODE:]NAME=VALUE")
    if node and node not in nodes:
        raise NotFound(f"node {node}", near(node, nodes))
    name = name.strip().replace("/", ".")
    known = {each for found in nodes.values() for each in found.sysctls}
    for each in (node,) if node else tuple(nodes):
        have = nodes[each].sysctls
        if name not in have and (node or name not in known):
            raise NotFound(f"sysctl {name}" + (f" of {node}" if node else ""), near(name, known))
        if name in have:
            nodes[each] = replace(nodes[each], sysctls=_with(have, name, value.strip()))


def _with(have: Mapping[str, Sysctl], name: str, value: str) -> dict[str, Sysctl]:
    """The settings after one is written: forwarding of all is written to each device (inet_forward_change, addrconf)."""
    names = {name}
    for all_, each in (("net.ipv4.conf.all.forwarding", r"net\.ipv4\.(?:ip_forward|conf\..+\.forwarding)"),
                       ("net.ipv6.conf.all.forwarding", r"net\.ipv6\.conf\..+\.forwarding")):  # fmt: skip
        if name == all_ or (name == "net.ipv4.ip_forward" and "ipv4" in all_):
            names |= {other for other in have if re.fullmatch(each, other)}
    return {**have, **{each: Sysctl(each, value, At(f"{have[each].at.origin} (changed)")) for each in names}}


__all__ = ["Changed", "Wanted", "whatif"]
