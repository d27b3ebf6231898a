"""A packet in flight on one node: its headers and what the kernel keeps beside them (skb, conntrack entry)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s.model import Addr, Choice, ConntrackEntry, NextHop, Packet, Question, Rewrite, Step


class Tuple(Struct, frozen=True):
    """One direction of a connection as conntrack keys it (nf_conntrack_tuple.h)."""

    protocol: int
    src: Addr
    sport: int | None
    dst: Addr
    dport: int | None

    def reversed(self) -> Tuple:
        return Tuple(self.protocol, self.dst, self.dport, self.src, self.sport)


def tuple_of(packet: Packet) -> Tuple:
    """The tuple a packet would be looked up by."""
    return Tuple(packet.protocol, packet.src, packet.sport, packet.dst, packet.dport)


class IpvsConn(Struct, frozen=True):
    """The IPVS connection of a packet (ip_vs_conn): the ends of the virtual and of the real server.

    ``method`` is how packets get to the real one: masq, route, tunnel or local.
    """

    vaddr: Addr
    vport: int
    daddr: Addr
    dport: int
    method: str = "masq"


class Conn(Struct, frozen=True):
    """The conntrack entry a packet belongs to (nf_conntrack.h).

    ``original`` is fixed; ``reply`` is the inverse of the packet as NAT leaves it. ``dst_bound`` and ``src_bound``:
    the translation of that side is decided, also when it is none (a null binding). ``ipvs``: IPVS has the flow too.
    ``entry``: a dump lists it, so it is that of an earlier packet. ``masq``: the device whose address MASQUERADE took.
    """

    state: str
    direction: str
    original: Tuple
    reply: Tuple
    mark: int = 0
    dst_bound: bool = False
    src_bound: bool = False
    ipvs: IpvsConn | None = None
    entry: ConntrackEntry | None = None
    masq: str | None = None

    @property
    def status(self) -> frozenset[str]:
        """Of the status bits "confirmed", "seen_reply" and "assured" those that are known to be set."""
        have = {"confirmed", "seen_reply"} if self.state == "ESTABLISHED" else set[str]()
        if self.entry is not None:
            have |= {"confirmed", *({"assured"} & {flag.lower() for flag in self.entry.flags})}
        return frozenset(have)

    @property
    def dnat(self) -> bool:
        """IPS_DST_NAT: NAT really changed the destination or its port.

        IPVS alters the reply tuple and sets no status bit (ip_vs_update_conntrack), so its own change does not count.
        """
        if self.ipvs is not None:
            return (self.ipvs.vaddr, self.ipvs.vport) != (self.original.dst, self.original.dport)
        return (self.reply.src, self.reply.sport) != (self.original.dst, self.original.dport)

    @property
    def snat(self) -> bool:
        """IPS_SRC_NAT: the source or its port was really changed."""
        return (self.reply.dst, self.reply.dport) != (self.original.src, self.original.sport)


class Flight(Struct, frozen=True):
    """A packet at some hook of one node.

    ``iif`` and ``oif`` are None where a hook has no such device; ``iif_known`` and ``oif_known`` are False where it
    has one and no dump tells which. ``physin`` and ``physout`` are bridge ports, known to br_netfilter only.
    ``from_pod``: the pod whose bridge port the frame came in by. ``local``: sent by a process of
    this node. ``ipvs_property``: IPVS has translated the packet and its hooks leave it alone from here on.
    ``src_known`` is False after MASQUERADE to an address no dump tells. ``told``: answers that the packet's own way has
    given to questions of what the node remembers, by the question's key; the last one counts.
    """

    packet: Packet
    conn: Conn
    iif: str | None = None
    oif: str | None = None
    iif_known: bool = True
    oif_known: bool = True
    physin: str | None = None
    physout: str | None = None
    has_physin: bool = False
    bridged: bool = False
    from_pod: Addr | None = None
    local: bool = False
    looped: bool = False
    ipvs_property: bool = False
    nexthop: Addr | None = None
    route_mtu: int | None = None
    rerouted: NextHop | None = None
    src_known: bool = True
    rewrites: tuple[Rewrite, ...] = ()
    told: tuple[tuple[str, bool], ...] = ()

    def with_(self, **changes: object) -> Flight:
        return replace(self, **changes)


class Log:
    """Steps so far, newest first; branches share their past."""

    __slots__ = ("parent", "step")

    def __init__(self, parent: Log | None, step: Step) -> None:
        self.parent, self.step = parent, step


def steps_of(log: Log | None) -> tuple[Step, ...]:
    """The steps in order."""
    out: list[Step] = []
    while log is not None:
        out.append(log.step)
        log = log.parent
    return tuple(reversed(out))


class Branch(Struct, frozen=True):
    """One of the ways a packet may have gone so far: odds by dice, choices by ignorance."""

    flight: Flight
    odds: Fraction = Fraction(1)
    choices: tuple[Choice, ...] = ()
    log: Log | None = None
    assumptions: tuple[str, ...] = ()

    def step(self, step: Step) -> Branch:
        return Branch(self.flight, self.odds, self.choices, Log(self.log, step), self.assumptions)

    def fly(self, flight: Flight) -> Branch:
        return Branch(flight, self.odds, self.choices, self.log, self.assumptions)

    def dice(self, odds: Fraction) -> Branch:
        if odds == 1:
            return self
        return Branch(self.flight, self.odds * odds, self.choices, self.log, self.assumptions)

    def assume(self, text: str) -> Branch:
        if text in self.assumptions:
            return self
        return Branch(self.flight, self.odds, self.choices, self.log, (*self.assumptions, text))

    def answered(self, question: Question) -> bool | None:
        for choice in self.choices:
            if choice.question.key == question.key:
                return choice.answer
        return None

    def choose(self, question: Question, answer: bool) -> Branch:
        if self.answered(question) is not None:
            return self
        return Branch(self.flight, self.odds, (*self.choices, Choice(question, answer)), self.log, self.assumptions)

    @property
    def doubts(self) -> int:
        """How many questions are open on this branch, those of session affinity and others with a default aside."""
        return sum(1 for c in self.choices if c.question.default is None)

    @property
    def off_default(self) -> bool:
        """Whether some choice already goes against what is assumed."""
        return any(choice.off_default for choice in self.choices)

    def ask(self, question: Question) -> Iterator[tuple[bool, Branch]]:
        """The branches of a question: one if it was answered before, else both.

        A branch that already left the defaults once follows them from there on: an alternative is the answer
        with *one* assumption false, and trying all combinations would double with each.
        """
        known = self.answered(question)
        if known is not None:
            yield known, self
        elif question.default is None:
            yield True, self.choose(question, True)
            yield False, self.choose(question, False)
        else:
            yield question.default, self.choose(question, question.default)
            if not self.off_default:
                yield not question.default, self.choose(question, not question.default)
