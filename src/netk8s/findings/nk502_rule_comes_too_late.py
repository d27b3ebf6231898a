"""A filter rule names the port that was dialled and cannot act: the packet is translated by then.

What it sees
------------
A rule in the filter table's INPUT, FORWARD or (for the node's own packets) OUTPUT that names
the dialled port with --dport, or the dialled address with -d, while this packet was translated
to another one before: nat PREROUTING and nat OUTPUT run before filter. The same of a filter
chain of nftables at these hooks that asks for dport or daddr. It is a warning if the rule would
drop or reject, and information if it would accept.

Why it matters
--------------
`iptables -A INPUT -p tcp --dport 30000 -j DROP` does not close NodePort 30000, though it looks
as if it did. The same with an ACCEPT: it opens nothing, the packet goes to FORWARD with the
endpoint's address and port.

Example
-------
  NK502 warning  -A INPUT -p tcp -m tcp --dport 30000 -j DROP on worker-1 cannot stop packets
                 to 10.0.0.11:30000: they go to 10.244.1.5:80 by then
     worker-1.iptables-save:19

What to do
----------
To filter by the port that was dialled, do it before translation (raw or mangle PREROUTING; raw
cannot know connections) or match what conntrack remembers: `-m conntrack --ctorigdstport 30000
--ctdir ORIGINAL` in FORWARD (and INPUT, for hostNetwork endpoints). A NetworkPolicy filters at
the endpoint, by the endpoint's port, and by the source that is left by then. Not opening the
NodePort at all is better: type ClusterIP, or allocateLoadBalancerNodePorts: false.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.findings._reading import address, dialled, live, option, places, proven, short, tables, target
from netk8s.findings._verdicts import NFT_TABLE
from netk8s.model import (
    PROTOCOL_NAMES,
    Addr,
    Finding,
    NftElement,
    NftExpr,
    NftRule,
    NftTable,
    NftVerdict,
    Node,
    Packet,
    Rule,
    Table,
    Trace,
    Way,
    World,
)

CODE = "NK502"
SEVERITY = "warning"
SUMMARY = "A filter rule for the dialled port or address comes after the translation."

MOST_CHAINS, MOST_RULES = 64, 1000
"""User chains that are looked into, from INPUT, FORWARD and OUTPUT on; rules of one, of an nftables table all of its rules,
that are read one by one."""

NAT_PRIORITY = -100
_JUMP = re.compile(r"\b(?:jump|goto) ([\w./-]+)")
_EARLIER = {
    False: "raw or mangle PREROUTING), or match -m conntrack --ctorigdstport {port} --ctdir ORIGINAL in FORWARD",
    True: "a chain at prerouting with a priority below -100), or match ct original proto-dst {port} at forward",
}


def check(world: World, trace: Trace) -> Iterator[Finding]:
    packet = trace.flow.packet
    translated = [way for way in live(trace) if _translated(trace, way)]
    if not translated or packet.dport is None:
        return
    ends = {(way.packet.dst, way.packet.dport) for way in translated}
    if any((way.packet.dst, way.packet.dport) == (packet.dst, packet.dport) for way in live(trace)):
        return
    node = translated[0].hops[0].node
    hooks = ("OUTPUT",) if trace.flow.origin == "node" else ("INPUT", "FORWARD")
    found: list[tuple[Rule | NftRule, bool]] = []
    for table in tables(world.nodes.get(node), packet.family, "filter"):
        named = _candidates(table, hooks, (f"port {packet.dport} ", f"-d {packet.dst}"))
        found += [(rule, target(rule) in ("DROP", "REJECT")) for rule in named if _names(trace, rule, ends)]
    for native in _native(world.nodes.get(node), packet.family):
        for nft in _nft_candidates(native, hooks):
            word = _nft_names(nft, packet, ends)
            found += [(nft, word != "accept")] if word else []
    for rule, stops in found:
        where = address(*sorted(ends, key=str)[0]) + (" and others" if len(ends) > 1 else "")
        yield Finding(
            CODE,
            SEVERITY if stops else "info",
            f"{short(rule.raw)} on {node} cannot {'stop' if stops else 'act on'} packets to {dialled(trace)}: "
            f"they go to {where} by then",
            places(rule.at),
            f"Filter before translation ({_EARLIER[isinstance(rule, NftRule)].format(port=packet.dport)}, or use a "
            "NetworkPolicy, which sees the endpoint's port and the source that is left by then.",
            proven(translated),
        )


def _translated(trace: Trace, way: Way) -> bool:
    """Whether the first node translated the destination before its filter table."""
    hops = way.hops[:1]
    by_rule = (s for h in hops for s in h.steps if s.table == "nat" or s.nft is not None)
    return any(name == "dst" for s in by_rule for name, _ in s.changes) and (
        way.packet.dst,
        way.packet.dport,
    ) != (trace.flow.packet.dst, trace.flow.packet.dport)


def _candidates(table: Table, hooks: tuple[str, ...], texts: tuple[str, ...]) -> Iterator[Rule]:
    """Rules with one of these texts in the hooks' chains and in what those jump to, kube-proxy's own left out."""
    waiting, seen = list(hooks), set(hooks)
    while waiting and len(seen) < MOST_CHAINS:
        chain = table.chains.get(waiting.pop(0))
        if chain is None or chain.name.startswith("KUBE-"):
            continue
        found: dict[object, Rule] = {}
        for text in texts:
            found.update({rule.at: rule for rule in chain.rules.mentioning(text)})
        yield from found.values()
        for rule in chain.rules if len(chain.rules) < MOST_RULES else ():
            name = target(rule)
            if name in table.chains and name not in seen:
                seen.add(name)
                waiting.append(name)


def _names(trace: Trace, rule: Rule, ends: set[tuple[Addr, int | None]]) -> bool:
    """Whether a rule is for what was dialled and can match nothing that it became."""
    packet = trace.flow.packet
    protocol = option(rule, "-p")
    if protocol is not None and protocol.values[0] not in (
        PROTOCOL_NAMES.get(packet.protocol),
        str(packet.protocol),
        "all",
    ):
        return False
    if target(rule) not in ("DROP", "REJECT", "ACCEPT"):
        return False
    port, where = option(rule, "--dport", "--dports"), option(rule, "-d")
    if any(o is not None and o.negated for o in (port, where)):
        return False
    if port is not None and str(packet.dport) in port.values[0].split(","):
        return all(str(p) not in port.values[0].split(",") for _, p in ends)
    if port is None and where is not None and where.values[0].split("/")[0] == str(packet.dst):
        return all(str(ip) != where.values[0].split("/")[0] for ip, _ in ends)
    return False


# ---------------------------------------------------------------- nftables


def _native(node: Node | None, family: int) -> Iterator[NftTable]:
    """Tables of nftables that are neither kube-proxy's nor in a dump of iptables-save."""
    if node is None:
        return
    read = {t.name for t in node.tables if t.family == family and t.backend != "legacy"}
    for table in node.nft:
        own = table.family == ("ip" if family == 4 else "ip6")
        if not table.dormant and (table.family == "inet" or (own and table.name not in (NFT_TABLE, *read))):
            yield table


def _nft_candidates(table: NftTable, hooks: tuple[str, ...]) -> Iterator[NftRule]:
    """Rules that say the port or the address, in filter chains after the translation and in what those jump to."""
    waiting = [
        c.name for c in table.chains.values()
        if c.type == "filter" and c.hook.upper() in hooks and (c.hook != "output" or c.priority > NAT_PRIORITY)
    ]  # fmt: skip
    seen, left = set(waiting), MOST_RULES
    while waiting and len(seen) < MOST_CHAINS:
        chain = table.chains.get(waiting.pop(0))
        if chain is None or chain.name.startswith("KUBE-") or len(chain.rules) >= left:
            continue
        left -= len(chain.rules)
        for rule in chain.rules:
            if "dport" in rule.raw or "daddr" in rule.raw:
                yield rule
            for name in _JUMP.findall(rule.raw):
                if name in table.chains and name not in seen:
                    seen.add(name)
                    waiting.append(name)


def _nft_names(rule: NftRule, packet: Packet, ends: set[tuple[Addr, int | None]]) -> str:
    """The verdict of a rule for what was dialled that can match nothing that it became, "" for any other rule."""
    verdict, named = "", False
    for s in rule.statements:
        left = s.args[0] if s.args else None
        if s.kind == "match" and isinstance(left, NftExpr) and left.op == "payload":
            protocol, field = left.words
            if protocol in ("tcp", "udp", "sctp") and protocol != PROTOCOL_NAMES.get(packet.protocol):
                return ""
            if field in ("dport", "daddr"):
                before, *after = (
                    port if field == "dport" else str(ip) for ip, port in ((packet.dst, packet.dport), *ends)
                )
                values = _values(s.args[1])
                if s.words != ("==",) or before not in values or any(value in values for value in after):
                    return ""
                named = True
        elif s.kind == "reject":
            verdict = "reject"
        elif s.kind == "verdict" and isinstance(left, NftVerdict) and left.kind in ("drop", "accept"):
            verdict = left.kind
    return verdict if named else ""


def _values(right: object) -> list[object]:
    """What a match compares with: one value, or those of a set that is written out."""
    if isinstance(right, NftExpr) and right.op == "set":
        return [each.key if isinstance(each, NftElement) else each for each in right.args]
    return [right]
