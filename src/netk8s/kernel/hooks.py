"""Which tables a packet passes at each hook, in priority order, and what NAT and conntrack do between them.

Sources: Linux include/uapi/linux/netfilter_ipv4.h (priorities), net/netfilter/core.c, nf_nat_core.c
(nf_nat_inet_fn), nf_conntrack_core.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from netk8s.kernel import iptables, targets
from netk8s.kernel.flight import Branch, Conn, Flight
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.model import At, BaseChain, Step

ORDER: Mapping[str, tuple[tuple[int, str], ...]] = {
    "prerouting": ((-300, "raw"), (-150, "mangle"), (-100, "nat")),
    "input": ((-150, "mangle"), (0, "filter"), (50, "security"), (100, "nat")),
    "forward": ((-150, "mangle"), (0, "filter"), (50, "security")),
    "output": ((-300, "raw"), (-150, "mangle"), (-100, "nat"), (0, "filter"), (50, "security")),
    "postrouting": ((-150, "mangle"), (100, "nat")),
}
"""(priority, table) of the iptables tables at each hook; conntrack looks at the packet at -200."""

DESTINATION, SOURCE = "destination", "source"
SIDE = {"prerouting": DESTINATION, "output": DESTINATION, "input": SOURCE, "postrouting": SOURCE}
"""Which side of the packet NAT may change at a hook (HOOK2MANIP)."""

After = Callable[[str, Flight, Branch], Iterator[Verdict]]


def run(hook: str, branch: Branch, netns: Netns, after: After | None = None) -> Iterator[Verdict]:
    """What becomes of a packet at a hook; accept verdicts carry the packet on.

    ``after`` is called behind each table with its name, the packet before it and the branch after it; it yields what
    becomes of that (re-routing behind OUTPUT's mangle and nat tables).
    """
    unread = _unread_chain(hook, branch.flight.packet.family, netns)
    if unread is not None:
        where = f"{unread.family} {unread.table} {unread.chain}"
        why = f"nftables chain “{where}” of {netns.name} handles the packet here; this version does not read nftables rules"
        yield Verdict(branch.step(_unread_step(hook, unread, unread.at)), targets.UNKNOWN, why)
        return
    yield from _tables(hook, ORDER[hook], branch, netns, after)


def _tables(
    hook: str, rest: tuple[tuple[int, str], ...], branch: Branch, netns: Netns, after: After | None
) -> Iterator[Verdict]:
    if not rest:
        yield Verdict(branch, targets.ACCEPT)
        return
    name = rest[0][1]
    before = branch.flight
    step = _nat(hook, branch, netns) if name == "nat" else _one(hook, name, 0, branch, netns)
    for verdict in step:
        if verdict.kind != targets.ACCEPT:
            yield verdict
        elif after is None:
            yield from _tables(hook, rest[1:], verdict.branch, netns, after)
        else:
            for onward in after(name, before, verdict.branch):
                if onward.kind != targets.ACCEPT:
                    yield onward
                else:
                    yield from _tables(hook, rest[1:], onward.branch, netns, after)


def _one(hook: str, name: str, i: int, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """All tables of one name, one backend after the other: each may drop, and acceptance by one is not the other's."""
    tables = netns.tables(branch.flight.packet.family, name)
    if i >= len(tables):
        yield Verdict(branch, targets.ACCEPT)
        return
    for verdict in iptables.traverse(tables[i], hook, branch, netns):
        if verdict.kind == targets.ACCEPT:
            yield from _one(hook, name, i + 1, verdict.branch, netns)
        else:
            yield verdict


def _nat(hook: str, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """The nat tables: asked for the first packet of a flow only, until one of them decides this side."""
    flight = branch.flight
    conn = flight.conn
    if conn.state in ("UNTRACKED", "INVALID"):
        yield Verdict(branch, targets.ACCEPT)
        return
    side = SIDE[hook]
    if conn.direction == "REPLY":
        yield Verdict(branch.fly(undo(flight, side)), targets.ACCEPT)
        return
    if conn.state != "NEW" or (conn.dst_bound if side == DESTINATION else conn.src_bound):
        yield Verdict(branch, targets.ACCEPT)
        return
    yield from _nat_tables(hook, side, 0, branch, netns)


def _nat_tables(hook: str, side: str, i: int, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    tables = netns.tables(branch.flight.packet.family, "nat")
    if i >= len(tables):
        # No rule decided: a null binding, so rules of later hooks on this side are not asked again.
        conn = branch.flight.conn
        bound = replace(conn, dst_bound=True) if side == DESTINATION else replace(conn, src_bound=True)
        yield Verdict(branch.fly(branch.flight.with_(conn=bound)), targets.ACCEPT)
        return
    if len(tables) > 1 and i == 0:
        branch = branch.assume(
            f"{netns.name} has nat tables of both iptables backends; the {tables[0].backend} ones are taken to be "
            "registered last and so to be asked first"
        )
    for verdict in iptables.traverse(tables[i], hook, branch, netns):
        if verdict.kind == targets.ACCEPT and not verdict.bound:
            yield from _nat_tables(hook, side, i + 1, verdict.branch, netns)
        else:
            yield verdict


def undo(flight: Flight, side: str) -> Flight:
    """A reply with one side translated back by its conntrack entry (nf_nat_packet)."""
    packet, conn = flight.packet, flight.conn
    if side == DESTINATION and conn.snat:
        packet = packet.replace(dst=conn.original.src, dport=conn.original.sport)
    elif side == SOURCE and conn.dnat:
        packet = packet.replace(src=conn.original.dst, sport=conn.original.dport)
    return flight.with_(packet=packet)


def new_connection(flight_packet_conn: Conn) -> Conn:
    """A fresh entry keeps nothing of another node's: each namespace tracks for itself."""
    return replace(flight_packet_conn, mark=0, dst_bound=False, src_bound=False)


_IPTABLES_CHAINS = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})


def _unread_chain(hook: str, family: int, netns: Netns) -> BaseChain | None:
    """A native nftables chain at this hook that would handle the packet, None when there is none."""
    nft_family = "ip" if family == 4 else "ip6"
    read = {t.name for t in netns.node.tables if t.family == family and t.backend != "legacy"}
    for chain in netns.node.base_chains:
        if chain.hook != hook or chain.family not in (nft_family, "inet"):
            continue
        owned = chain.family == nft_family and chain.chain in _IPTABLES_CHAINS and chain.table in read
        if not owned:
            return chain
    return None


def _unread_step(hook: str, chain: BaseChain, at: At) -> Step:
    return Step(hook, chain.table, chain.chain, None, at, "not read", unknown="nftables rules are not read")
