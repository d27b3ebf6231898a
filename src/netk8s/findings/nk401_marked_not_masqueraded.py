"""The packet was marked for masquerade and left the node without it.

What it sees
------------
A packet that a rule sent to KUBE-MARK-MASQ, that went out through POSTROUTING, and that no rule
there masqueraded: KUBE-POSTROUTING is empty, is not jumped to, or another rule ended the walk
before it. Or KUBE-MARK-MASQ itself sets no mark. In nftables mode the same of the mark that
kube-proxy's table sets, and of its chain masquerading. It is a warning where the packet is
answered all the same, as by an endpoint of the same node.

Why it matters
--------------
The endpoint answers the client directly, past the node that translated the packet. The client
gets an answer from an address that it never asked and throws it away: the connection times out.
A pod that dials itself drops a packet from its own address.

Example
-------
  NK401 error  worker-1 marks the packet to 10.244.2.5:80 for masquerade and sends it out with
               its source 203.0.113.7: KUBE-POSTROUTING has no rules
     worker-1.iptables-save:84, :97

What to do
----------
Restart kube-proxy on the node: it writes KUBE-POSTROUTING anew. Then find what flushed it: a
firewall that reloads its own rule set (`iptables -F`, `iptables-restore` without --noflush, nft
flush ruleset) takes kube-proxy's rules with it. kube-proxy repairs that by itself within its
sync period, but connections of that time are lost.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _marks, _modes
from netk8s.findings._reading import (
    BALANCER,
    DEAD,
    HAIRPIN,
    OTHER,
    ROUTE,
    RULE,
    SILENCE,
    UNKNOWN,
    Stop,
    arrived,
    ends,
    graded,
    live,
    places,
    proven,
    service_port,
    stops,
    tables,
    target,
)
from netk8s.model import At, Finding, Hop, Step, Trace, Way, World

CODE = "NK401"
SEVERITY = "error"
SUMMARY = "A packet was marked for masquerade and left without it."

NFT_CHAIN, NFT_MARKING = "masquerading", "mark-for-masquerade"
_SOURCE_TARGETS = frozenset({"MASQUERADE", "SNAT", "NETMAP"})


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    stopped = {id(stop.way): stop for stop in stops(trace)}
    found: dict[tuple[str, str, bool], list[tuple[Way, Step, At | None]]] = {}
    for way in live(trace):
        for i, hop in enumerate(way.hops):
            mark = _marks.marked(trace, port, hop) or _marks.marked(trace, port, hop, NFT_CHAIN)
            if mark is None or not _left(way, i, stopped.get(id(way))) or _translated(hop):
                continue
            why, at = (_why if mark.step.nft is None else _why_in_nftables)(world, trace, hop, mark)
            found.setdefault((hop.node, why, arrived(way)), []).append((way, mark.step, at))
    for (node, why, fine), group in found.items():
        yield Finding(
            CODE,
            "warning" if fine else graded(SEVERITY, (way for way, _, _ in group)),
            f"{node} marks the packet to {ends(way for way, _, _ in group)} for masquerade and sends it out "
            f"without: {why}",
            places(*(place for _, step, at in group for place in (step, at))),
            f"Restart kube-proxy on {node}, which writes its chains anew; then find what flushed them: a firewall that "
            "reloads its rules (iptables -F, iptables-restore without --noflush, nft flush ruleset) takes kube-proxy's "
            "along.",
            proven(way for way, _, _ in group),
        )


def _left(way: Way, i: int, stop: Stop | None) -> bool:
    """Whether the packet passed POSTROUTING of its i-th hop."""
    hop = way.hops[i]
    if hop.oif is None and not any(s.hook == "postrouting" for s in hop.steps):
        return False
    if i + 1 < len(way.hops):
        return True
    if stop is None or stop.back:
        return True
    if stop.kind in (SILENCE, DEAD):
        # What br_netfilter sends back into the same bridge asks for the neighbour before any further hook.
        return any(s.hook in ("routing", "postrouting") for s in hop.steps)
    return stop.kind not in (RULE, BALANCER, ROUTE, HAIRPIN, OTHER, UNKNOWN)


def _translated(hop: Hop) -> bool:
    """Whether a rule gave it a source, if only the same one."""
    return any(
        s.hook == "postrouting"
        and (
            target(s.detail) in _SOURCE_TARGETS
            or (s.nft is not None and any(each.kind in ("masquerade", "snat") for each in s.nft.statements))
        )
        for s in hop.steps
    )


def _why(world: World, trace: Trace, hop: Hop, mark: _marks.Marked) -> tuple[str, At | None]:
    """(why nothing masqueraded it, the place that shows it)."""
    there = world.nodes.get(hop.node)
    tracks = there.sysctls.get("net.ipv4.vs.conntrack") if there is not None else None
    if (
        tracks is not None
        and tracks.value == "0"
        and any(not s.chain and s.action.startswith("IPVS ") for s in hop.steps)
    ):
        return "net.ipv4.vs.conntrack is 0, so what IPVS sends passes no rule of nat", tracks.at
    marking = target(mark.step.detail)
    chain = "KUBE-POSTROUTING" if marking == "KUBE-MARK-MASQ" else "CNI-HOSTPORT-MASQ"
    for table in tables(world.nodes.get(hop.node), trace.flow.packet.family, "nat"):
        if marking not in table.chains:
            continue  # of another backend
        if not mark.done:
            return f"{marking} sets no mark", table.chains[marking].at
        if chain not in table.chains:
            return f"there is no chain {chain}", table.at
        if not len(table.chains[chain].rules):
            return f"{chain} has no rules", table.chains[chain].at
        post = table.chains.get("POSTROUTING")
        if post is not None and not any(True for _ in post.rules.mentioning(f"-j {chain}")):
            return f"POSTROUTING does not jump to {chain}", post.at
    return _by_no_rule(hop, chain)


def _why_in_nftables(world: World, trace: Trace, hop: Hop, mark: _marks.Marked) -> tuple[str, At | None]:
    table = _modes.nft_table(world.nodes.get(hop.node), trace.flow.packet.family)
    chains = table.chains if table is not None else {}
    if mark.step.action == f"jump {NFT_MARKING}" and NFT_MARKING in chains and not len(chains[NFT_MARKING].rules):
        return f"{NFT_MARKING} sets no mark", chains[NFT_MARKING].at
    if NFT_CHAIN in chains and not len(chains[NFT_CHAIN].rules):
        return f"{NFT_CHAIN} has no rules", chains[NFT_CHAIN].at
    jumps = (rule for chain in chains.values() if chain.hook == "postrouting" for rule in chain.rules)
    if table is not None and not any(rule.raw.endswith(NFT_CHAIN) for rule in jumps):
        return f"nothing at postrouting jumps to {NFT_CHAIN}", table.at
    return _by_no_rule(hop, NFT_CHAIN)


def _by_no_rule(hop: Hop, chain: str) -> tuple[str, At | None]:
    last = next((s for s in reversed(hop.steps) if s.hook == "postrouting"), None)
    return f"no rule of {chain} masquerades it", last.at if last is not None else None
