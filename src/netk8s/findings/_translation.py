"""Where a way was translated to an endpoint by kube-proxy, in any of its modes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from netk8s import objects
from netk8s.findings._modes import IPTABLES, IPVS, NFTABLES, nft_table
from netk8s.findings._reading import Stop, option, short, steps, tables, target
from netk8s.findings._verdicts import NFT_TABLE
from netk8s.model import PROTOCOL_NAMES, Packet, Rule, Step, Trace, Way, World


class Translated(Struct, frozen=True):
    """The first translation of a way. ``everyone``: what chose the endpoint has all of the Service's, not the local ones, nor
    the one that affinity has kept.

    IPVS does not tell: a virtual server of policy Local has the local real servers only, so there it is None.
    ``choice``: the step that chose, which in iptables mode is not the one that translates.
    """

    node: str
    mode: str
    step: Step
    choice: Step
    everyone: bool | None


def translation(way: Way) -> Translated | None:
    """The first translation by kube-proxy, None when there was none."""
    everyone = False
    choice: Step | None = None
    for hop, step in steps(way):
        changed = any(name == "dst" for name, _ in step.changes)
        if step.nft is not None and step.table == NFT_TABLE:
            if step.chain.startswith("service-"):
                everyone = "@affinity-" not in (step.rule or "")
            choice = step if "numgen" in (step.rule or "") else choice
            if changed:
                return Translated(hop.node, NFTABLES, step, choice or step, everyone)
        elif step.rule is None and step.action.startswith("IPVS ") and changed:
            return Translated(hop.node, IPVS, step, step, None)
        elif step.detail is not None:
            name = target(step.detail)
            everyone = everyone or name.startswith("KUBE-SVC-")
            choice = step if name.startswith("KUBE-SEP-") else choice
            if step.detail.chain.startswith("KUBE-SEP-") and name == "DNAT":
                return Translated(hop.node, IPTABLES, step, choice or step, everyone)
    return None


def untracked(way: Way, node: str) -> Step | None:
    """The rule by which a node does not track the packet: no nat rule is asked for it then."""
    for hop, step in steps(way):
        if hop.node == node and step.rule is not None and _NOTRACK.search(step.rule):
            return step
    return None


_NOTRACK = re.compile(r"(?<![\w-])(?:--)?notrack\b|-j NOTRACK\b")


def not_tracked(step: Step, node: str) -> tuple[str, str]:
    """(why the packet is not translated, what to do), where :func:`untracked` has found a rule."""
    return (
        f": {short(step.rule or '')} keeps {node} from tracking it, and without that no nat rule is asked",
        f"Remove that rule, or have it leave out what goes to Services. kube-proxy's rules on {node} are not the reason.",
    )


def met(way: Way, chain: str) -> bool:
    """Whether a rule of this chain matched on the way."""
    return any(step.chain == chain for _, step in steps(way))


def leading(world: World, node: str, family: int) -> Iterator[list[Rule]]:
    """Of each table the rules that lead to the NodePorts, for any address or for those of --nodeport-addresses."""
    for table in tables(world.nodes.get(node), family, "nat"):
        chain = table.chains.get("KUBE-SERVICES")
        if chain is not None and (rules := list(chain.rules.mentioning("-j KUBE-NODEPORTS"))):
            yield rules


def unserved(world: World, trace: Trace, stop: Stop) -> bool:
    """Whether a rule stopped a NodePort's packet on its way to a process of the node, where NodePorts are only taken at
    other addresses: nobody would have answered without that rule either."""
    packet, here = trace.flow.packet, stop.way.packet
    return (
        not stop.back
        and stop.step is not None
        and stop.step.hook == "input"
        and (here.dst, here.dport) == (packet.dst, packet.dport)
        and any(port.protocol == packet.protocol for port in objects.of(world.cluster).with_node_port(packet.dport))
        and _elsewhere(world, stop.node, packet)
    )


def _elsewhere(world: World, node: str, packet: Packet) -> bool:
    """Whether a node takes NodePorts at other addresses than this one (--nodeport-addresses, or nftables mode's default)."""
    for rules in leading(world, node, packet.family):
        if rules and not any("--dst-type LOCAL" in each.raw or f"-d {packet.dst}/" in each.raw for each in rules):
            return True
    table = nft_table(world.nodes.get(node), packet.family)
    addresses = table.sets.get("nodeport-ips") if table is not None else None
    served = [str(element.key) for element in addresses.elements] if addresses is not None else []
    return bool(served) and str(packet.dst) not in served


def written(world: World, node: str, packet: Packet, chain: str) -> Rule | None:
    """The rule of KUBE-SERVICES or KUBE-NODEPORTS that is for what the packet dials, whatever it leads to."""
    at = f"{packet.dst}/{packet.dst.max_prefixlen}" if chain == "KUBE-SERVICES" else ""
    wanted = (PROTOCOL_NAMES.get(packet.protocol, ""), at, str(packet.dport))
    for table in tables(world.nodes.get(node), packet.family, "nat"):
        here = table.chains.get(chain)
        near = here.rules.relevant(str(packet.dst), wanted[0], packet.dport) if here is not None else ()
        for rule in near:
            found = option(rule, "-p"), option(rule, "-d"), option(rule, "--dport")
            if tuple(" ".join(each.values) if each is not None else "" for each in found) == wanted:
                return rule
    return None


def leads_nowhere(rule: Rule, node: str) -> tuple[str, str]:
    """(why the packet is not translated, what to do), where :func:`written` has found a rule."""
    return (
        f", though {node} has a rule for it ({target(rule)})",
        f"The way above shows how far the packet comes: a chain of kube-proxy on {node} is empty, lacks a rule, or is "
        "not reached. A restart of kube-proxy writes all its chains anew; then find what changed them.",
    )
