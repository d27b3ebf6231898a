"""What the parts of a walk hand to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s.kernel import conntrack, mtu
from netk8s.kernel.flight import Branch, Conn, Flight, Tuple, steps_of, tuple_of
from netk8s.kernel.netns import Netns
from netk8s.model import ICMP, ICMPV6, Addr, At, Cluster, Flow, Hop, Missing, MtuFit, Packet, Pod, Reached, Step
from netk8s.surroundings import Surroundings

DELIVERED, REFUSED, DROPPED, UNREACHABLE, UNKNOWN = "delivered", "refused", "dropped", "unreachable", "unknown"


class Scene(Struct, frozen=True, eq=False):
    """What stays the same during a walk. ``back``: the walk is that of an answer."""

    flow: Flow
    cluster: Cluster
    around: Surroundings
    back: bool = False

    @property
    def netns(self) -> Mapping[str, Netns]:
        return self.around.netns

    @property
    def pod_by_ip(self) -> Mapping[Addr, Pod]:
        return self.around.pod_by_ip


class Past(Struct, frozen=True):
    """What a packet left behind on earlier nodes: finished hops and the conntrack entries that undo its changes.

    ``flow`` is the question as it was really asked: with the source address that the sender's kernel chose.
    """

    flow: Flow
    hops: tuple[Hop, ...] = ()
    entries: tuple[tuple[str, Conn], ...] = ()
    missing: tuple[Missing, ...] = ()
    visits: tuple[tuple[tuple[str, Packet], Fraction], ...] = ()
    """Nodes that the packet came to, with the odds it had until then: the same again is a circle."""
    heard: tuple[tuple[str, Tuple], ...] = ()
    """Of an answer: the nodes with the entries that it belonged to there, by their original direction."""

    @property
    def untouched(self) -> bool:
        """Whether nothing has happened yet."""
        return not (self.hops or self.entries or self.missing or self.visits)

    def lacks(self, missing: Missing) -> Past:
        return self if missing in self.missing else replace(self, missing=(*self.missing, missing))


class Told(Struct, frozen=True):
    """The node that tells a sender that its packet is not passed on, its own processes like others.

    ``code``: that of ICMP's or ICMPv6's "destination unreachable", None for a TCP reset.
    """

    node: str
    code: int | None


class End(Struct, frozen=True):
    """How a walk in one direction ended. ``place`` is "pod", "node", "outside" or "" when it did not arrive.

    ``told``: what the sender is told, None where nobody tells it or its own call fails.
    """

    branch: Branch
    past: Past
    verdict: str
    reason: str
    place: str = ""
    reached: Reached | None = None
    node: str | None = None
    check_reply: bool = False
    told: Told | None = None


class Arriving(Struct, frozen=True):
    """A packet that comes in by a device of a node. ``direct``: a frame between two ports of a bridge (br_netfilter)."""

    branch: Branch
    netns: Netns
    past: Past
    direct: bool = False


class Looping(Struct, frozen=True):
    """A packet that a node sends to itself by lo."""

    branch: Branch
    netns: Netns
    past: Past


class OnLink(Struct, frozen=True):
    """A packet that left a node by ``dev`` (None: no dump tells which) for ``target``, the next hop or destination."""

    branch: Branch
    netns: Netns
    past: Past
    dev: str | None
    target: Addr
    foreign: bool = False
    """Sent by a pod's own device or from outside: what the node knows of its neighbours says nothing of it."""


Event = End | Arriving | Looping | OnLink
Walk = Iterator[Event]


def decision(hook: str, action: str, at: At | None = None) -> Step:
    """A step that is no rule's."""
    return Step(hook, "", "", None, at if at is not None and at.origin else None, action)


def hop_done(branch: Branch, netns: Netns, past: Past) -> Past:
    """The past with this node's hop and the entry that its conntrack keeps of the flow."""
    flight = branch.flight
    wraps, route_mtu = _wrapping(netns, flight.oif), flight.route_mtu if flight.oif is not None else None
    hop = Hop(netns.name, flight.iif, flight.oif, steps_of(branch.log), wraps, route_mtu=route_mtu)
    entries, heard, conn = past.entries, past.heard, flight.conn
    if conn.state != "UNTRACKED" or conn.ipvs is not None:
        if conn.direction == "REPLY":
            heard = (*heard, (netns.name, conn.original))
        else:
            entries = (*entries, (netns.name, conn))
    return replace(past, hops=(*past.hops, hop), entries=entries, heard=heard)


def forwards(hop: Hop) -> bool:
    """Whether a node sent the packet on by FORWARD: what ipvlan's and IPVS' hooks send goes by OUTPUT."""
    return any(step.hook == "routing" and step.action.startswith("forward") for step in hop.steps)


def _wrapping(netns: Netns, dev: str | None) -> MtuFit | None:
    """How large a packet goes into a tunnel whole; looked up once for a device."""
    link = netns.links.get(dev or "")
    if link is None:
        return None
    key = ("wraps", link.name)
    if key not in netns.memo:
        netns.memo[key] = (netns.node, mtu.fit(netns, link))
    found = netns.memo[key][1]
    return found if isinstance(found, MtuFit) else None


def same_port(a: int | None, b: int | None) -> bool:
    return a is None or b is None or a == b


def same_tuple(a: Tuple, b: Tuple) -> bool:
    """Whether two tuples are of one flow; a port that no dump tells may be any."""
    return (
        (a.protocol, a.src, a.dst) == (b.protocol, b.src, b.dst)
        and same_port(a.sport, b.sport)
        and same_port(a.dport, b.dport)
    )


def new_conn(packet: Packet) -> Conn:
    """The entry a first packet gets, or no entry for one that conntrack calls invalid (tcp_new)."""
    there = tuple_of(packet)
    return Conn(conntrack.first_state(packet), "ORIGINAL", there, there.reversed())


def tracked(scene: Scene, flight: Flight, netns: Netns, past: Past) -> Flight:
    """The packet with the conntrack entry of this node: found, or new (nf_conntrack_in at priority -200).

    Of two entries that an answer fits the later one is its own: conntrack gave it another source port to keep the two
    apart (nf_nat_used_tuple), and that is the port the endpoint answers to.
    """
    there = tuple_of(flight.packet)
    for name, entry in reversed(past.entries):
        if name == netns.name and scene.back and same_tuple(there, entry.reply):
            return flight.with_(conn=answering(entry, flight.packet))
        if name == netns.name and scene.back and _is_error(flight.packet, entry):
            return flight.with_(conn=replace(answering(entry, flight.packet), state="RELATED"))
        if name == netns.name and not scene.back and there == entry.original:
            return flight.with_(conn=entry)
        if name == netns.name and not scene.back and _is_error_about_answer(flight.packet, entry):
            return flight.with_(conn=replace(entry, state="RELATED"))
    return flight.with_(conn=new_conn(flight.packet))


def _is_error(packet: Packet, entry: Conn) -> bool:
    """Whether a packet is an ICMP error about a flow: it goes where the flow's answers go, and anybody sends it."""
    if packet.protocol not in (ICMP, ICMPV6) or entry.original.protocol == packet.protocol:
        return False
    return packet.dst == entry.reply.dst and same_port(packet.dport, entry.reply.dport)


def _is_error_about_answer(packet: Packet, entry: Conn) -> bool:
    error = packet.protocol in (ICMP, ICMPV6) and entry.original.protocol != packet.protocol
    return error and entry.direction == "ORIGINAL" and packet.dst == entry.original.dst


def passed_by(netns: Netns, past: Past, iif: str | None, oif: str | None, action: str) -> Past:
    """The past with a hop on a node whose hooks did not see the packet."""
    return replace(past, hops=(*past.hops, Hop(netns.name, iif, oif, (decision("device", action),))))


def answering(entry: Conn, answer: Packet) -> Conn:
    """The entry of an answer's flow as its first packet sees it."""
    if entry.state == "UNTRACKED":
        # IPVS knows the flow and conntrack does not (net.ipv4.vs.conntrack = 0).
        return replace(entry, state=new_conn(answer).state, direction="REPLY")
    return replace(entry, state="ESTABLISHED", direction="REPLY")


def fresh(packet: Packet) -> Flight:
    """A packet that no node has seen yet."""
    return Flight(packet, new_conn(packet))


def on_wire(branch: Branch, iif: str | None) -> Branch:
    """The packet as the next node sees it: no mark, no entry, no steps yet."""
    flight = branch.flight
    packet = flight.packet.replace(mark=0)
    there = Flight(
        packet,
        new_conn(packet),
        iif=iif,
        iif_known=iif is not None,
        src_known=flight.src_known,
        rewrites=flight.rewrites,
    )
    return Branch(there, branch.odds, branch.choices, None, branch.assumptions)
