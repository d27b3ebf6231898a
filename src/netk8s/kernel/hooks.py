"""Which tables a packet passes at each hook, in priority order, and what NAT and conntrack do between them.

Sources: Linux include/uapi/linux/netfilter_ipv4.h (priorities), net/netfilter/core.c, nf_nat_core.c
(nf_nat_inet_fn), nf_conntrack_core.c.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace

from netk8s.kernel import conntrack, iptables, ipvs, nftables, order, registered, targets
from netk8s.kernel.flight import Branch, Flight, Log
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.model import At, ConntrackEntry, Hook, NftChain, NftTable, Question, Step, Table

ORDER: Mapping[str, tuple[tuple[int, str], ...]] = {
    "prerouting": ((-300, "raw"), (-150, "mangle"), (-100, "nat")),
    "input": ((-150, "mangle"), (0, "filter"), (50, "security"), (99, "ipvs"), (100, "nat")),
    "forward": ((-150, "mangle"), (0, "filter"), (50, "security"), (100, "ipvs")),
    "output": ((-300, "raw"), (-150, "mangle"), (-100, "nat"), (-98, "ipvs"), (0, "filter"), (50, "security")),
    "postrouting": ((-150, "mangle"), (100, "nat")),
}
"""(priority, table) of the iptables tables at each hook; conntrack looks at the packet at -200.

IPVS is no table. It registers two functions one after the other: for answers (98, 100, -99) and for requests (99, -98).
"""

_NFT_SECURITY = 150
"""iptables-nft registers its security table here, behind nat (iptables/nft.c, xtables_ipv4)."""

DESTINATION, SOURCE = "destination", "source"
SIDE = {"prerouting": DESTINATION, "output": DESTINATION, "input": SOURCE, "postrouting": SOURCE}
"""Which side of the packet NAT may change at a hook (HOOK2MANIP)."""

After = Callable[[str, Flight, Branch], Iterator[Verdict]]


def run(hook: str, branch: Branch, netns: Netns, after: After | None = None) -> Iterator[Verdict]:
    """What becomes of a packet at a hook; accept verdicts carry the packet on.

    ``after`` is called behind each table with its name, the packet before it and the branch after it; it yields what
    becomes of that (re-routing behind OUTPUT's mangle and nat tables).
    """
    family = branch.flight.packet.family
    for note in _notes_of(hook, branch.flight, netns):
        branch = branch.assume(note)
    yield from _stages(hook, stages(hook, family, netns), branch, netns, after)


# ---------------------------------------------------------------- the order of a hook


class Entry(Struct, frozen=True):
    """One base chain of a hook: a table of iptables, a chain of nftables (``chain``), IPVS, conntrack, or the kernel's nat
    function.

    The nat function has the nat chains in ``nat``, in the order of their own priorities (nf_nat_register_fn). Where the
    node's list of hooks has it, ``listed`` says where, and ``certain`` that its place among its like is known.
    """

    priority: int
    name: str
    table: Table | NftTable | None = None
    chain: NftChain | None = None
    nat: tuple[Entry, ...] = ()
    listed: At | None = None
    certain: bool = False

    def __str__(self) -> str:
        if self.chain is not None and isinstance(self.table, NftTable):
            return f"nftables chain {self.table.family} {self.table.name} {self.chain.name}"
        backend = self.table.backend if isinstance(self.table, Table) else ""
        return f"the {backend} {self.name} table of iptables".replace("the unknown", "the")

    def is_called(self, hook: Hook) -> bool:
        """Whether this is an entry of the node's list of hooks."""
        if self.name == "nat" and self.table is None:
            # A kernel lists the function, or what it calls in its place.
            return hook.function.startswith("nf_nat_") or any(chain.is_called(hook) for chain in self.nat)
        if self.chain is not None and isinstance(self.table, NftTable):
            return hook.chain == (self.table.family, self.table.name, self.chain.name)
        return isinstance(self.table, Table) and hook.calls(self.name, self.table.backend)


Stage = tuple[Entry, ...]
"""What runs at one priority."""


def stages(hook: str, family: int, netns: Netns) -> tuple[Stage, ...]:
    """The stages of a hook in the kernel's order, each in the likelier order of its entries."""
    memo = ("stages", hook, family)
    if memo not in netns.memo:
        likelier = _stages_of(hook, family, netns)
        shown = _shown_order(family, netns)
        if shown is not None and not shown[0]:
            likelier = tuple(tuple(replace(e, nat=_other_order(e.nat) or e.nat) for e in s) for s in likelier)
        netns.memo[memo] = (netns.node, likelier)
    found = netns.memo[memo][1]
    assert isinstance(found, tuple)  # noqa: S101 - what this function put there
    return found


def _stages_of(hook: str, family: int, netns: Netns) -> tuple[Stage, ...]:
    places: dict[tuple[int, bool], list[Entry]] = {}
    nat: list[Entry] = []
    nat_priority = None
    mixed = _mixed(family, netns)
    for priority, name in ORDER[hook]:
        if name == "ipvs":
            places[priority, True] = [Entry(priority, name)]
            continue
        if name == "nat":
            nat_priority = priority
        for table in netns.tables(family, name):
            if hook.upper() in table.chains and (table.backend == "legacy" or name not in mixed):
                own = _NFT_SECURITY if (name, table.backend) == ("security", "nft") else priority
                (nat if name == "nat" else places.setdefault((own, False), [])).append(Entry(own, name, table))
    if hook in ("prerouting", "output") and netns.node.conntrack:
        places[conntrack.PRIORITY, True] = [Entry(conntrack.PRIORITY, "conntrack")]
    for nft, owned in _native(family, netns):
        for chain in nft.chains.values():
            if chain.hook == hook and not (owned and chain.name in _IPTABLES_CHAINS):
                # A chain of type route is to OUTPUT what the mangle table of iptables is.
                name = {"nat": "nat", "route": "mangle"}.get(chain.type, "nft")
                at = nat if name == "nat" else places.setdefault((chain.priority, False), [])
                at.append(Entry(chain.priority, name, nft, chain))
    if nat_priority is not None:
        inner = tuple(sorted(nat, key=lambda e: _later_first(e, family, netns)))
        inner = _as_listed(inner, hook, family, netns, nat_priority)
        places.setdefault((nat_priority, False), []).append(Entry(nat_priority, "nat", nat=inner))
    likelier = (
        tuple(sorted(found, key=lambda e: _later_first(e, family, netns))) for _, found in sorted(places.items())
    )
    return tuple(_as_listed(found, hook, family, netns) for found in likelier)


def _as_listed(stage: Stage, hook: str, family: int, netns: Netns, priority: int | None = None) -> Stage:
    """The entries of one priority in the order that the node's list of hooks has them in, where it has them.

    ``priority``: the one that they are listed at, where that is not their own.
    """
    out: list[Entry] = []
    for own, group in groupby(stage, key=lambda e: e.priority):
        entries = list(group)
        at = own if priority is None else priority
        found = registered.places(netns, family, hook, at, [e.is_called for e in entries]) if len(entries) > 1 else None
        if found is not None:
            ranked = sorted(zip(found, entries, strict=True), key=lambda pair: pair[0][0])
            entries = [replace(e, listed=where, certain=certain) for (_, certain, where), e in ranked]
        out.extend(entries)
    return tuple(out)


def _native(family: int, netns: Netns) -> Iterator[tuple[NftTable, bool]]:
    """The nftables tables of a family, and whether iptables-nft owns one and a dump of iptables-save has its rules too."""
    mixed = _mixed(family, netns)
    read = {t.name for t in netns.node.tables if t.family == family and t.backend != "legacy"}
    for table in netns.node.nft:
        if not table.dormant and table.family in (_NFT_FAMILY[family], "inet"):
            yield table, table.family != "inet" and table.name in read and table.name not in mixed


def _mixed(family: int, netns: Netns) -> frozenset[str]:
    """Tables of iptables-nft that are taken as nft lists them."""
    memo = ("mixed", family)
    if memo not in netns.memo:
        read = {t.name for t in netns.node.tables if t.family == family and t.backend != "legacy"}
        found = frozenset(
            t.name for t in netns.node.nft if t.family == _NFT_FAMILY[family] and t.name in read and t.told_by_nft
        )
        netns.memo[memo] = (netns.node, found)
    known = netns.memo[memo][1]
    assert isinstance(known, frozenset)  # noqa: S101 - what this function put there
    return known


def _later_first(entry: Entry, family: int, netns: Netns) -> tuple[int, int, int, int]:
    """The likelier order of equal priorities: the chain registered last runs first (nf_hook_entries_grow, Linux 4.14).

    nft lists tables, and the chains of a table, in the order they were made. A node moves from legacy to nft, seldom
    back, so legacy tables are taken to be the oldest. The nat function is there since the first nat chain of any hook.
    """
    if entry.name == "nat" and entry.table is None:
        since = max((_later_first(e, family, netns)[1:] for e in entry.nat), default=(3, 0, 0))
        return (entry.priority, *since)
    if entry.chain is not None and isinstance(entry.table, NftTable):
        place = list(entry.table.chains).index(entry.chain.name)
        return (entry.priority, 0, -entry.table.index, -place)
    if not isinstance(entry.table, Table):
        return (entry.priority, 0, 0, 0)
    nft_family = "ip" if family == 4 else "ip6"
    index = next((t.index for t in netns.node.nft if (t.family, t.name) == (nft_family, entry.name)), -1)
    rank = {"nft": 0, "unknown": 1, "legacy": 2}[entry.table.backend]
    return (entry.priority, 0 if rank < 2 and index >= 0 else rank, -index, 0)


def _stages(hook: str, rest: tuple[Stage, ...], branch: Branch, netns: Netns, after: After | None) -> Iterator[Verdict]:
    if not rest:
        yield Verdict(branch, targets.ACCEPT)
        return
    for verdict in _stage(hook, rest[0], branch, netns, after):
        if verdict.kind != targets.ACCEPT:
            yield verdict
        else:
            yield from _stages(hook, rest[1:], verdict.branch, netns, after)


def _stage(hook: str, stage: Stage, branch: Branch, netns: Netns, after: After | None) -> Iterator[Verdict]:
    """What becomes of a packet at one stage, in either order of its entries where that makes a difference."""
    run = partial(_each, hook, netns=netns, after=after)
    other = _other_order(stage)
    if other is None:
        yield from run(stage, branch)
        return
    likely = list(run(stage, branch))
    if _same(likely, list(run(other, branch))):
        yield from likely
        return
    for answer, there in branch.ask(_order_question(hook, stage, netns, branch.flight.packet.family)):
        for verdict in run(stage if answer else other, there):
            yield replace(verdict, branch=_assumed(verdict.branch, there.log))


def _other_order(stage: Stage) -> Stage | None:
    """The entries of equal priority the other way round, None when their order is known."""
    out: list[Entry] = []
    for _, group in groupby(stage, key=lambda e: e.priority):
        entries = [replace(e, nat=_other_order(e.nat) or e.nat) if e.nat else e for e in group]
        loose = [e for e in entries if not e.certain]
        every = _chains(loose)
        # Within one nftables table the listing's order is the order the chains were registered in.
        known = len(loose) < 2 or all(e.chain is not None and e.table is every[0].table for e in every)
        turned = iter(loose if known else reversed(loose))
        out.extend(e if e.certain else next(turned) for e in entries)
    return tuple(out) if out != list(stage) else None


def _shown_order(family: int, netns: Netns) -> tuple[bool, ConntrackEntry] | None:
    """What the node's connections show of the order of its nat chains: the likelier one, or the other."""
    memo = ("order", family)
    if memo not in netns.memo:
        found: list[tuple[bool, ConntrackEntry]] = []
        for hook in ("prerouting", "output") if netns.node.conntrack else ():
            stage = next(
                e.nat for s in _stages_of(hook, family, netns) for e in s if e.name == "nat" and e.table is None
            )
            other = _other_order(stage)
            if other is not None:
                runs = (partial(_nat_chains, hook, DESTINATION, one, netns=netns) for one in (stage, other))
                shown = order.shown(netns, hook, family, *runs)
                found += [shown] if shown is not None else []
        agreed = len({likely for likely, _ in found}) == 1
        netns.memo[memo] = (netns.node, found[0] if agreed else None)
    known = netns.memo[memo][1]
    return known if isinstance(known, tuple) else None


def _chains(entries: Iterable[Entry]) -> Stage:
    """The entries with the nat function's chains in its place."""
    return tuple(chain for entry in entries for chain in (entry.nat or (entry,)))


def _order_question(hook: str, stage: Stage, netns: Netns, family: int) -> Question:
    stage = tuple(e for e in _chains(stage) if not e.certain)
    first, last = stage[0], stage[-1]
    shown = _shown_order(family, netns) if first.name == "nat" else None
    because = f": a connection was translated as only they would ({shown[1].at})" if shown is not None else ""
    if first.listed is not None:
        because = f": nft up to 1.1.6 lists more than two of one priority the wrong way round ({first.listed})"
    backends = {e.table.backend for e in stage if isinstance(e.table, Table)}
    if all(isinstance(e.table, Table) for e in stage) and len(backends) > 1:
        one, two = (e.table.backend for e in (first, last) if isinstance(e.table, Table))
        return Question(
            f"{netns.name}:order:{first.name}",
            f"{netns.name} has {first.name} tables of both iptables backends; the {one} ones are taken to be "
            f"registered last and so to be asked first{because or _likelier(one)}",
            f"the {two} {first.name} chains of {netns.name} were registered last",
            default=True,
        )
    because = because.replace("only they", "only this order")
    return Question(
        f"{netns.name}:order:{hook}:{first.priority}",
        f"{first} was registered after {last} on {netns.name}, and so is asked first{because}",
        f"{last} was registered after {first} on {netns.name}",
        default=True,
    )


def _likelier(backend: str) -> str:
    return ", for a node moves from legacy to nft and seldom back" if backend == "nft" else ""


def _same(some: list[Verdict], others: list[Verdict]) -> bool:
    """Whether two runs let go of the packet alike."""

    def shape(verdicts: list[Verdict]) -> Counter[object]:
        out: Counter[object] = Counter()
        for v in verdicts:
            accepted = v.kind == targets.ACCEPT
            out[v.kind, v.branch.flight if accepted else v.detail, v.branch.odds, v.branch.choices] += 1
        return out

    return shape(some) == shape(others)


def _assumed(branch: Branch, since: Log | None) -> Branch:
    """A branch whose steps since some place are marked as resting on an assumption."""
    steps: list[Step] = []
    log = branch.log
    while log is not None and log is not since:
        steps.append(log.step)
        log = log.parent
    for step in reversed(steps):
        log = Log(log, replace(step, assumed=True))
    return replace(branch, log=log)


def _notes_of(hook: str, flight: Flight, netns: Netns) -> tuple[str, ...]:
    """The notes of a hook, gathered once for each kind of packet: a node's chains are many."""
    memo = ("notes", hook, flight.packet.family, flight.has_physin)
    if memo not in netns.memo:
        netns.memo[memo] = (netns.node, tuple(_notes(hook, flight, netns)))
    found = netns.memo[memo][1]
    assert isinstance(found, tuple)  # noqa: S101 - what this function put there
    return found


def _notes(hook: str, flight: Flight, netns: Netns) -> Iterator[str]:
    """What is taken for granted because no dump or no code here tells it."""
    if hook not in ("prerouting", "output"):
        return
    if f"rules{flight.packet.family}" not in netns.node.covered:
        words = "iptables" if flight.packet.family == 4 else "ip6tables"
        yield f"no {words}-save of {netns.name}: it is taken to have no legacy {words} rules"
    for table in netns.node.nft:
        if table.family in ("netdev", "bridge") or any(c.hook in ("ingress", "egress") for c in table.chains.values()):
            if table.family == "bridge" and not flight.has_physin:
                continue
            if any(c.rules for c in table.chains.values()) and not table.dormant and table.family != "arp":
                yield (
                    f"table {table.family} {table.name} of {netns.name} sees packets before IP does and is not "
                    "followed: it is taken to let them pass"
                )


# ---------------------------------------------------------------- stages


def _each(hook: str, stage: Stage, branch: Branch, netns: Netns, after: After | None) -> Iterator[Verdict]:
    """One entry after the other: each may drop, and acceptance by one is not the other's."""
    if not stage:
        yield Verdict(branch, targets.ACCEPT)
        return
    entry, before = stage[0], branch.flight
    nat = entry.name == "nat" and entry.table is None
    for verdict in _translated(hook, entry.nat, branch, netns) if nat else _entry(hook, entry, branch, netns):
        if verdict.kind != targets.ACCEPT:
            yield verdict
            continue
        for onward in after(entry.name, before, verdict.branch) if after is not None else (verdict,):
            if onward.kind != targets.ACCEPT:
                yield onward
            else:
                yield from _each(hook, stage[1:], onward.branch, netns, after)


def _entry(hook: str, entry: Entry, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    if entry.chain is not None and isinstance(entry.table, NftTable):
        return nftables.traverse(entry.table, entry.chain, hook, branch, netns)
    if isinstance(entry.table, Table):
        return iptables.traverse(entry.table, hook, branch, netns)
    return conntrack.run(hook, branch, netns) if entry.name == "conntrack" else ipvs.run(hook, branch, netns)


def _translated(hook: str, stage: Stage, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """The nat function: its chains are asked for the first packet of a flow only, until one of them decides this side."""
    flight = branch.flight
    conn = flight.conn
    if conn.state in ("UNTRACKED", "INVALID"):
        yield Verdict(branch, targets.ACCEPT)
        return
    side = SIDE[hook]
    if conn.direction == "REPLY":
        yield Verdict(branch.fly(undo(flight, side)), targets.ACCEPT)
        return
    if conn.state == "RELATED":
        # An ICMP error about an answer (nf_nat_icmp_reply_translation).
        yield Verdict(branch.fly(_as_translated(flight, side)), targets.ACCEPT)
        return
    if conn.entry is not None:
        there = conntrack.translate(hook, branch, netns, destination=side == DESTINATION)
        yield Verdict(there, targets.ACCEPT)
        return
    if conn.state == "ESTABLISHED":
        if hook == "postrouting" and conn.masq not in (None, flight.oif):
            # nf_nat_oif_changed
            why = f"MASQUERADE ends a connection that leaves by {flight.oif} and no longer by {conn.masq}"
            yield Verdict(branch, targets.DROP, why)
        else:
            yield Verdict(branch.fly(_as_translated(flight, side, ports=True)), targets.ACCEPT)
        return
    if conn.state != "NEW" or (conn.dst_bound if side == DESTINATION else conn.src_bound):
        yield Verdict(branch, targets.ACCEPT)
        return
    yield from _nat_chains(hook, side, stage, branch, netns)


def _nat_chains(hook: str, side: str, rest: Stage, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    if not rest:
        # No rule decided: a null binding, so rules of later hooks on this side are not asked again.
        conn = branch.flight.conn
        bound = replace(conn, dst_bound=True) if side == DESTINATION else replace(conn, src_bound=True)
        yield Verdict(branch.fly(branch.flight.with_(conn=bound)), targets.ACCEPT)
        return
    for verdict in _entry(hook, rest[0], branch, netns):
        if verdict.kind == targets.ACCEPT and not verdict.bound:
            yield from _nat_chains(hook, side, rest[1:], verdict.branch, netns)
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


def _as_translated(flight: Flight, side: str, *, ports: bool = False) -> Flight:
    packet, conn = flight.packet, flight.conn
    if side == DESTINATION and conn.dnat:
        packet = packet.replace(dst=conn.reply.src, dport=conn.reply.sport if ports else packet.dport)
    elif side == SOURCE and conn.snat:
        packet = packet.replace(src=conn.reply.dst, sport=conn.reply.dport if ports else packet.sport)
    return flight.with_(packet=packet)


_NFT_FAMILY = {4: "ip", 6: "ip6"}
_IPTABLES_CHAINS = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
