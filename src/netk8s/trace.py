"""Walks a flow through the hooks, node after node, and its reply back.

The walk is a work list in the shape of generators: each function takes a branch and yields finished ways. The kernel
modules say what happens at a hook; this module says which hook comes next and who is at the other end of a link.
Sources: Linux net/ipv4/ip_input.c, ip_forward.c, ip_output.c, route.c, net/netfilter/core.c, br_netfilter_hooks.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from netk8s import outcomes
from netk8s.kernel import conntrack, hooks, ipvs, links, martians, targets
from netk8s.kernel.flight import Branch, Conn, Flight, Tuple, steps_of, tuple_of
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.kernel.routing import Lookup, select_address, select_address6
from netk8s.model import (
    ICMP,
    ICMPV6,
    PROTOCOL_NAMES,
    Addr,
    At,
    Flow,
    Hop,
    Missing,
    NextHop,
    Packet,
    Pod,
    Question,
    Reached,
    Step,
    Trace,
    Way,
    World,
)
from netk8s.surroundings import Surroundings

MOST_HOPS = 16
"""A packet that passes more nodes goes in a circle until its TTL is used up."""

DELIVERED, REFUSED, DROPPED, UNREACHABLE, UNKNOWN = "delivered", "refused", "dropped", "unreachable", "unknown"


def trace(world: World, flow: Flow) -> Trace:
    """The ways of a flow, folded into outcomes.

    Raises DecodeError for a rule that cannot be decoded on the packet's way.
    """
    walk = _Walk(world, flow)
    ways = tuple(walk.ways())
    return outcomes.fold(walk.flow, ways, world)


@dataclass(frozen=True, slots=True)
class _Past:
    """What a packet left behind on earlier nodes: finished hops and the conntrack entries that undo its changes."""

    hops: tuple[Hop, ...] = ()
    entries: tuple[tuple[str, Conn], ...] = ()
    missing: tuple[Missing, ...] = ()
    visits: tuple[tuple[tuple[str, Packet], Fraction], ...] = ()
    """Nodes that the packet came to, with the odds it had until then: the same again is a circle."""


@dataclass(frozen=True, slots=True)
class _End:
    """How a walk in one direction ended. ``place`` is "pod", "node", "outside" or "" when it did not arrive."""

    branch: Branch
    past: _Past
    verdict: str
    reason: str
    place: str = ""
    reached: Reached | None = None
    node: str | None = None
    check_reply: bool = False


class _Walk:
    def __init__(self, world: World, flow: Flow, around: Surroundings | None = None, *, back: bool = False) -> None:
        self.world, self.flow, self.back = world, flow, back
        self.cluster = world.cluster
        self.around = around or Surroundings(world, flow)
        self.netns, self.pod_by_ip = self.around.netns, self.around.pod_by_ip
        self.family = flow.packet.family

    # ------------------------------------------------------------ the question

    def ways(self) -> Iterator[Way]:
        """Every way there, each with what becomes of its answer."""
        for end in self._start():
            yield self._finish(end)

    def _start(self) -> Iterator[_End]:
        flow = self.flow
        packet = flow.packet
        past = _Past()
        start = self.netns.get(flow.node)
        if start is None:
            branch = Branch(_flight(packet))
            missing = Missing(f"every dump of {flow.node}", "where the packet starts")
            yield _End(
                branch, replace(past, missing=(missing,)), UNKNOWN, f"no dump of {flow.node}, where the packet starts"
            )
            return
        if flow.origin == "node":
            yield from self._send(packet, start, past)
        elif flow.origin == "pod":
            yield from self._leave_pod(packet, start, past, Branch(_flight(packet)))
        else:
            yield from self._arrive_from_outside(packet, start, past)

    def _arrive_from_outside(self, packet: Packet, netns: Netns, past: _Past) -> Iterator[_End]:
        branch = Branch(_flight(packet))
        if not self.flow.routed:
            question = Question(
                f"network:{packet.dst}",
                f"the network routes {packet.dst} to {netns.name}",
                f"the network outside the cluster has no route to {packet.dst} (give --via NODE if it has)",
                default=self.around.shares_network(netns, packet),
            )
            for answer, other in branch.ask(question):
                if answer:
                    yield from self._enter(other, netns, past)
                else:
                    yield _End(other, past, UNREACHABLE, question.if_false)
            return
        yield from self._enter(branch, netns, past)

    def _enter(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        packet = branch.flight.packet
        iif, known = self.flow.iif, self.flow.iif is not None
        if iif is None and netns.routes_known(packet.family):
            found = netns.fib(packet.family).lookup(packet.src, None, iif="lo")
            if found.kind == "unicast" and found.ways:
                iif, known = found.ways[0][1].dev, True
                if len(found.ways) > 1:
                    branch = branch.assume(f"the packet comes in by {iif}, one of several ways back to {packet.src}")
            else:
                branch = branch.assume(
                    f"{netns.name} has no route back to {packet.src}; the device it comes in by is not known"
                )
        yield from self._receive(branch.fly(branch.flight.with_(iif=iif, iif_known=known)), netns, past)

    def _leave_pod(self, packet: Packet, netns: Netns, past: _Past, branch: Branch) -> Iterator[_End]:
        """A packet on its way out of a pod that hangs on ``netns``."""
        flight = branch.flight
        hung = links.attachment(netns, packet.src)
        if hung.dev is None:
            if netns.routes_known(packet.family):
                yield _End(branch, past, UNKNOWN, hung.why)
                return
            branch = branch.assume(f"{hung.why}: the pod's packets are taken to come in like those of any pod")
            yield from self._receive(branch.fly(flight.with_(iif=None, iif_known=False)), netns, past)
            return
        if not hung.bridge:
            yield from self._receive(branch.fly(flight.with_(iif=hung.dev, iif_known=True)), netns, past)
            return
        nf = netns.bridge_netfilter(packet.family, hung.dev)
        if nf is None:
            branch = branch.assume(f"bridge-nf-call-iptables of {netns.name} is not in a dump and taken as 1")
            nf = True
        inward = flight.with_(
            iif=hung.dev, iif_known=True, physin=hung.port if nf else None, has_physin=nf, from_pod=packet.src
        )
        if not links.same_subnet(netns, hung.dev, packet.dst):
            yield from self._receive(branch.fly(inward), netns, past)
        elif nf:
            yield from self._receive(branch.fly(inward), netns, past, direct=True)
        else:
            step = _decision("bridge", f"frame crosses {hung.dev} and passes no hook of the node")
            there = branch.fly(flight.with_(iif=hung.dev, oif=hung.dev, bridged=True)).step(step)
            yield from self._on_link(there, netns, self._hop_done(there, netns, past), hung.dev, packet.dst)

    # ------------------------------------------------------------ PREROUTING to the routing decision

    def _receive(self, branch: Branch, netns: Netns, past: _Past, direct: bool = False) -> Iterator[_End]:
        """A packet that comes in by a device. ``direct``: a frame between two ports of a bridge (br_netfilter)."""
        visit = (netns.name, branch.flight.packet.replace(ttl=0, mark=0))
        before_now = [odds for place, odds in past.visits if place == visit]
        if branch.odds in before_now or len(before_now) > 1 or len(past.hops) >= MOST_HOPS:
            nodes = " → ".join(dict.fromkeys(h.node for h in past.hops[-4:]))
            if branch.odds in before_now or not before_now:
                yield _End(branch, past, DROPPED, f"the packet goes in a circle ({nodes}) until its TTL is used up")
            else:
                yield _End(branch, past, UNKNOWN, f"the packet goes in a circle ({nodes}) that only dice end")
            return
        past = replace(past, visits=(*past.visits, (visit, branch.odds)))
        refused = self._unread(netns, branch, past)
        if refused is not None:
            yield refused
            return
        before = branch.flight
        branch = branch.fly(self._tracked(branch.flight, netns, past))
        for verdict in hooks.run("prerouting", branch, netns):
            if verdict.kind != targets.ACCEPT:
                yield self._stopped(verdict, netns, past)
            elif direct and verdict.branch.flight.packet.dst == before.packet.dst:
                yield from self._bridge(verdict.branch, netns, past)
            else:
                yield from self._route_in(verdict.branch, netns, past)

    def _unread(self, netns: Netns, branch: Branch, past: _Past) -> _End | None:
        """The end of a walk on a node whose way of handling Services is not followed."""
        family = branch.flight.packet.family
        if not netns.rules_known(family):
            words = "iptables" if family == 4 else "ip6tables"
            missing = Missing(f"{words}-save of {netns.name}", "the rules the packet meets there")
            return _End(
                branch, replace(past, missing=(*past.missing, missing)), UNKNOWN, f"no {words} dump of {netns.name}"
            )
        return None

    def _tracked(self, flight: Flight, netns: Netns, past: _Past) -> Flight:
        """The packet with the conntrack entry of this node: found, or new (nf_conntrack_in at priority -200)."""
        packet = flight.packet
        for name, entry in past.entries if self.back else ():
            if name == netns.name and _same(tuple_of(packet), entry.reply):
                return flight.with_(conn=_answering(entry, packet))
        return flight.with_(conn=_new_conn(packet))

    def _bridge(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        """A frame that stays on its bridge: FORWARD and POSTROUTING by br_netfilter, no routing.

        br_forward.c should_deliver asks for hairpin mode before br_netfilter runs FORWARD.
        """
        flight = branch.flight
        bridge = flight.iif or ""
        onward = [branch]
        if flight.from_pod == flight.packet.dst:
            mode = links.hairpin(netns, bridge, flight.physin)
            answers = [(mode, branch)] if isinstance(mode, bool) else list(branch.ask(mode))
            onward = [other for answer, other in answers if answer]
            reason = (
                f"{bridge} of {netns.name} does not send a frame back by the port it came in by (hairpin mode is off)"
            )
            for answer, other in answers:
                if not answer:
                    done = other.step(_decision("bridge", reason))
                    yield _End(done, self._hop_done(done, netns, past), DROPPED, reason)
        for each in onward:
            there = each.fly(flight.with_(bridged=True))
            yield from self._forward(there, netns, past, NextHop(bridge), f"bridged on {bridge}", None)

    def _route_in(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        """ip_route_input: local, forwarded, or refused."""
        flight = branch.flight
        packet = flight.packet
        if not netns.routes_known(packet.family):
            yield from self._route_by_objects(branch, netns, past)
            return
        iif = flight.iif or ""
        found = netns.fib(packet.family).lookup(
            packet.dst, packet.src, iif=iif, mark=packet.mark, protocol=packet.protocol, sport=packet.sport,
            dport=packet.dport,
        )  # fmt: skip
        if found.kind == "local":
            martian = martians.martian(flight, netns)
            if martian:
                yield self._martian(branch, netns, past, martian)
            else:
                yield from self._input(branch.step(_decision("routing", "local delivery", found.at)), netns, past)
            return
        forwards = netns.forwards(packet.family, iif)
        bridge_dnat = flight.has_physin and packet.dst != flight.conn.original.dst
        if forwards is None:
            branch = branch.assume(f"{netns.name} is taken to forward packets (ip_forward is not in a dump)")
            forwards = True
        if found.kind == "unicast" and forwards:
            for odds, hop in found.ways:
                onward = branch.dice(odds)
                via = f" via {hop.gateway}" if hop.gateway else ""
                martian = martians.martian(flight, netns, hop.dev)
                if martian:
                    yield self._martian(onward, netns, past, martian)
                    continue
                if bridge_dnat and hop.dev == iif and hop.gateway is None:
                    # br_nf_pre_routing_finish: the new destination is on the same bridge, so the frame is bridged.
                    yield from self._bridge(onward, netns, past)
                else:
                    yield from self._forward(onward, netns, past, hop, f"forward by {hop.dev}{via}", found)
            return
        martian = martians.martian(flight, netns, None)
        if martian:
            yield self._martian(branch, netns, past, martian)
            return
        if not forwards:
            yield self._no_forwarding(branch, netns, past, iif)
            return
        yield self._no_route(branch, netns, past, found)

    def _martian(self, branch: Branch, netns: Netns, past: _Past, why: str) -> _End:
        done = branch.step(_decision("routing", f"dropped: {why}"))
        return _End(done, self._hop_done(done, netns, past), DROPPED, f"{netns.name}: {why}")

    def _no_forwarding(self, branch: Branch, netns: Netns, past: _Past, iif: str) -> _End:
        setting = "net.ipv6.conf.all.forwarding" if self.family == 6 else f"net.ipv4.conf.{iif}.forwarding"
        at = netns.node.sysctls[setting].at if setting in netns.node.sysctls else None
        done = branch.step(_decision("routing", f"dropped: forwarding is off ({setting} = 0)", at))
        return _End(
            done, self._hop_done(done, netns, past), DROPPED, f"{netns.name} does not forward packets ({setting} = 0)"
        )

    def _no_route(self, branch: Branch, netns: Netns, past: _Past, found: Lookup) -> _End:
        packet = branch.flight.packet
        words = {
            "none": (UNREACHABLE, f"{netns.name} has no route to {packet.dst}"),
            "unreachable": (UNREACHABLE, f"{netns.name} has an unreachable route for {packet.dst}"),
            "prohibit": (UNREACHABLE, f"{netns.name} has a prohibit route for {packet.dst}"),
            "blackhole": (DROPPED, f"{netns.name} has a blackhole route for {packet.dst}"),
            "unknown": (UNKNOWN, found.why),
        }
        verdict, reason = words.get(found.kind, (UNKNOWN, f"{packet.dst} is a {found.kind} address of {netns.name}"))
        if found.at is not None and found.at.origin:
            reason += f" ({found.at})"
        done = branch.step(_decision("routing", reason, found.at))
        return _End(done, self._hop_done(done, netns, past), verdict, reason)

    def _route_by_objects(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        """The routing decision where no dump has the routes: by what is known of addresses."""
        packet = branch.flight.packet
        missing = Missing(
            f"IPv{packet.family} routes and addresses of {netns.name}",
            "where the packet leaves, and which address MASQUERADE takes",
        )
        past = past if missing in past.missing else replace(past, missing=(*past.missing, missing))
        local = netns.is_local(packet.dst)
        if local is None:
            pod = self.pod_by_ip.get(packet.dst)
            local = False if pod is not None and not pod.host_network else None
        if local is None and branch.flight.conn.dnat:
            # A question for each endpoint would double the ways with each; hostNetwork endpoints are the exception.
            branch = branch.assume(
                f"endpoints are taken to be pods and not addresses of {netns.name}, which no dump lists"
            )
            local = False
        if local is None:
            for answer, other in branch.ask(netns.is_local_question(packet.dst)):
                if answer:
                    yield from self._input(other.step(_decision("routing", "local delivery")), netns, past)
                else:
                    yield from self._forward_blindly(other, netns, past)
        elif local:
            yield from self._input(branch.step(_decision("routing", "local delivery")), netns, past)
        else:
            yield from self._forward_blindly(branch, netns, past)

    def _forward_blindly(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        branch = branch.assume(
            f"no dump has the routes of {netns.name}: it is taken to forward the packet to where it is addressed"
        )
        yield from self._forward(branch, netns, past, NextHop(None), "forward (no dump has the routes)", None)

    # ------------------------------------------------------------ FORWARD, POSTROUTING, INPUT

    def _forward(
        self, branch: Branch, netns: Netns, past: _Past, hop: NextHop, text: str, found: Lookup | None
    ) -> Iterator[_End]:
        flight = branch.flight
        step = Step("routing", "", "", None, found.at if found else None, text, assumed=hop.dev is None)
        if not flight.bridged and flight.packet.ttl <= 1:
            reason = f"the packet's TTL is used up at {netns.name} (time exceeded)"
            done = branch.step(_decision("routing", reason, found.at if found else None))
            yield _End(done, self._hop_done(done, netns, past), DROPPED, reason)
            return
        # ip_forward takes one off before FORWARD; a bridge does not.
        packet = flight.packet if flight.bridged else flight.packet.replace(ttl=flight.packet.ttl - 1)
        leaving = flight.with_(packet=packet, oif=hop.dev, oif_known=hop.dev is not None, nexthop=hop.gateway)
        for verdict in hooks.run("forward", branch.step(step).fly(leaving), netns):
            if verdict.kind != targets.ACCEPT:
                yield self._stopped(verdict, netns, past)
            else:
                yield from self._postrouting(verdict.branch, netns, past)

    def _postrouting(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        flight = branch.flight
        iif, iif_known = flight.iif, flight.iif_known
        # ip_output hands the device a forwarded packet came in by to POSTROUTING (Linux 5.7); br_netfilter does not.
        inward = flight.with_(iif=None, iif_known=True) if flight.bridged else flight
        for verdict in hooks.run("postrouting", branch.fly(inward), netns):
            if verdict.kind != targets.ACCEPT:
                yield self._stopped(verdict, netns, past)
                continue
            there = verdict.branch.fly(verdict.branch.flight.with_(iif=iif, iif_known=iif_known))
            yield from self._emit(there, netns, past)

    def _input(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        flight = branch.flight
        for verdict in hooks.run("input", branch.fly(flight.with_(oif=None, oif_known=True)), netns):
            if verdict.kind == ipvs.STOLEN:
                yield from self._ipvs_sends(verdict.branch, netns, past)
            elif verdict.kind != targets.ACCEPT:
                yield self._stopped(verdict, netns, past)
            else:
                yield from self._deliver_locally(verdict.branch, netns, past)

    def _ipvs_sends(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        """IPVS has taken a packet out of INPUT or OUTPUT: a route of its own, then OUTPUT (ip_vs_nat_send_or_cont)."""
        flight = branch.flight
        packet = flight.packet
        leaving = flight.with_(iif=None, iif_known=True, physout=None, rerouted=None)
        came = (flight.iif, flight.iif_known)
        if not netns.routes_known(packet.family):
            blind = branch.fly(leaving.with_(oif=None, oif_known=False, nexthop=None))
            step = Step("routing", "", "", None, None, "IPVS sends it on (no dump has the routes)", assumed=True)
            yield from self._output(blind.step(step), netns, past, came)
            return
        # do_output_route4 and __ip_vs_route_output_v6 ask with the destination alone.
        found = netns.fib(packet.family).lookup(packet.dst, None, iif="lo")
        if found.kind not in ("unicast", "local"):
            yield self._no_route(branch, netns, past, found)
            return
        for odds, hop in found.ways:
            via = f" via {hop.gateway}" if hop.gateway else ""
            onward = branch.dice(odds)
            onward = onward.step(_decision("routing", f"IPVS sends it by {hop.dev}{via}", found.at))
            flown = leaving.with_(oif=hop.dev, oif_known=hop.dev is not None, nexthop=hop.gateway)
            yield from self._output(onward.fly(flown), netns, past, came)

    def _deliver_locally(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        """To the socket that takes the packet, or the refusal when there is none."""
        packet = branch.flight.packet
        past = self._hop_done(branch, netns, past)
        pod = self.around.host_pod(netns, packet)
        reached = Reached(packet.dst, packet.dport, pod, netns.name)
        if branch.flight.conn.direction == "REPLY" or packet.protocol in (ICMP, ICMPV6):
            yield _End(branch, past, DELIVERED, "", "node", reached, netns.name, check_reply=True)
            return
        if packet.dport is None:
            yield _End(
                branch,
                past,
                UNKNOWN,
                f"what takes {PROTOCOL_NAMES.get(packet.protocol, packet.protocol)} on {netns.name}",
            )
            return
        nobody = f"nobody listens on {targets.endpoint_text(packet.dst, packet.dport)} of {netns.name}"
        if netns.sockets_known:
            if netns.sockets_at(packet.protocol, packet.dst, packet.dport):
                yield _End(branch, past, DELIVERED, "", "node", reached, netns.name, check_reply=True)
            else:
                yield _End(branch, past, REFUSED, nobody, "node", reached, netns.name, check_reply=True)
            return
        listening = pod is not None or self.around.endpoint_at(packet) is not None
        conn = branch.flight.conn
        dnat = conn.dnat or conn.ipvs is not None
        question = Question(
            f"{netns.name}:listens:{packet.protocol}:{packet.dst}:{packet.dport}",
            f"a process listens on {targets.endpoint_text(packet.dst, packet.dport)} of {netns.name}",
            f"{nobody} (no dump lists its sockets)",
            default=listening or dnat,
        )
        for answer, other in branch.ask(question):
            verdict = DELIVERED if answer else REFUSED
            yield _End(other, past, verdict, "" if answer else question.if_false, "node", reached, netns.name, True)

    # ------------------------------------------------------------ sending from a node

    def _send(self, packet: Packet, netns: Netns, past: _Past, conn: Conn | None = None) -> Iterator[_End]:
        """A packet that a process of the node sends: source address, OUTPUT, re-routing, POSTROUTING."""
        branch = Branch(_flight(packet))
        refused = self._unread(netns, branch, past)
        if refused is not None:
            yield refused
            return
        chosen = not packet.src.is_unspecified
        if not netns.routes_known(packet.family):
            yield from self._send_blindly(packet, netns, past, conn)
            return
        for odds, found, hop, source, because in self._socket_ways(netns, packet):
            if hop is None:
                yield self._not_sent(Branch(_flight(packet), odds), netns, past, found)
                continue
            dev = "lo" if found.kind == "local" else hop.dev
            nexthop = hop.gateway
            if source is None or dev is None:
                reason = f"{netns.name} has no source address towards {packet.dst}: {because}"
                yield _End(branch, past, UNREACHABLE, reason)
                continue
            sent = packet.replace(src=source)
            if not chosen and past == _Past():
                self.flow = replace(self.flow, packet=sent)
            way = (
                "lo (the address is local)" if found.kind == "local" else f"{dev}{f' via {nexthop}' if nexthop else ''}"
            )
            note = "" if chosen else f", source {source}: {because}"
            step = _decision("routing", f"sends by {way}{note}", found.at)
            flight = _flight(sent).with_(
                oif=dev,
                nexthop=nexthop,
                local=True,
                conn=conn or _new_conn(sent),
            )
            onward = Branch(flight, odds).step(step)
            yield from self._output(onward, netns, past)

    def _not_sent(self, branch: Branch, netns: Netns, past: _Past, found: Lookup) -> _End:
        dst = branch.flight.packet.dst
        reason = {
            "none": f"{netns.name} has no route to {dst}: connect() fails before any rule",
            "blackhole": f"{netns.name} has a blackhole route for {dst}: connect() fails",
            "unreachable": f"{netns.name} has an unreachable route for {dst}: connect() fails",
            "prohibit": f"{netns.name} has a prohibit route for {dst}: connect() fails",
        }.get(found.kind, found.why or f"{dst} is a {found.kind} address")
        verdict = UNKNOWN if found.kind not in ("none", "blackhole", "unreachable", "prohibit") else UNREACHABLE
        done = branch.step(_decision("routing", reason, found.at))
        return _End(done, self._hop_done(done, netns, past), verdict, reason)

    def _socket_ways(
        self, netns: Netns, packet: Packet
    ) -> Iterator[tuple[Fraction, Lookup, NextHop | None, Addr | None, str]]:
        """(odds, route, next hop, source, why that source) of what a process sends; no next hop where it cannot.

        A socket that has no address gets one from a first look for a route. IPv4 looks again with it
        (ip_route_connect), so rules that ask for the source decide the way; IPv6 does only when there was no route
        (ip6_dst_lookup_tail).
        """

        def ask(src: Addr | None) -> Lookup:
            return netns.fib(packet.family).lookup(
                packet.dst, src, iif="lo", mark=packet.mark, protocol=packet.protocol, sport=packet.sport,
                dport=packet.dport,
            )  # fmt: skip

        if not packet.src.is_unspecified:
            found = ask(packet.src)
            for odds, hop in _next_hops(found):
                yield odds, found, hop, packet.src, "the socket has it"
            return
        first = ask(None)
        for odds, hop in _next_hops(first):
            if hop is not None:
                source, because = self._source(netns, first, hop, packet)
            elif packet.family == 6 and first.kind != "unknown":
                address, because = select_address6(netns.addresses, None, packet.dst)
                source = address.ip if address is not None else None
            else:
                source, because = None, ""
            if source is None or (packet.family == 6 and hop is not None):
                yield odds, first, hop, source, because
                continue
            again = ask(source)
            for more, there in _next_hops(again):
                yield odds * more, again, there, source, because

    def _source(self, netns: Netns, found: Lookup, hop: NextHop, packet: Packet) -> tuple[Addr | None, str]:
        """The source address of a socket that was not bound (fib_result_prefsrc, ip6_route_get_saddr)."""
        route = found.route
        if route is not None and route.prefsrc is not None:
            return route.prefsrc, "the route's src"
        if found.kind == "local":
            return packet.dst, "the local address itself"
        dev = hop.dev or ""
        if packet.family == 6:
            address, because = select_address6(netns.addresses, dev, packet.dst)
        else:
            # Without a gateway any address of the device will do (fib_info_update_nhc_saddr).
            localnet = bool(netns.dev_setting("route_localnet", dev))
            scope = route.scope if route is not None else "global"
            address, because = select_address(
                netns.addresses, netns.devices, dev, hop.gateway, scope=scope, route_localnet=localnet
            )
        return (address.ip if address is not None else None), because

    def _send_blindly(self, packet: Packet, netns: Netns, past: _Past, conn: Conn | None) -> Iterator[_End]:
        missing = Missing(
            f"IPv{packet.family} routes and addresses of {netns.name}", "the source address and the way out"
        )
        past = replace(past, missing=(*past.missing, missing))
        if packet.src.is_unspecified:
            yield _End(
                Branch(_flight(packet)), past, UNKNOWN, f"no dump tells which source address {netns.name} sends from"
            )
            return
        local = netns.is_local(packet.dst)
        flight = _flight(packet).with_(
            oif="lo" if local else None, oif_known=bool(local), local=True,
            conn=conn or _new_conn(packet),
        )  # fmt: skip
        branch = Branch(flight).assume(
            f"no dump has the routes of {netns.name}: a route to {packet.dst} is taken to be there"
        )
        yield from self._output(branch.step(_decision("routing", "sends (no dump has the routes)")), netns, past)

    def _output(
        self, branch: Branch, netns: Netns, past: _Past, came: tuple[str | None, bool] | None = None
    ) -> Iterator[_End]:
        """OUTPUT and what follows. ``came``: the device that a packet of IPVS came in by, and whether it is known."""

        def after(table: str, before: Flight, passed: Branch) -> Iterator[Verdict]:
            packet, old = passed.flight.packet, before.packet
            moved = packet.dst != old.dst or packet.src != old.src
            if not (moved or (table == "mangle" and packet.mark != old.mark)) or table not in ("mangle", "nat"):
                yield Verdict(passed, targets.ACCEPT)
                return
            yield from self._reroute(passed, netns)

        for verdict in hooks.run("output", branch, netns, after):
            if verdict.kind == ipvs.STOLEN:
                yield from self._ipvs_sends(verdict.branch, netns, past)
                continue
            if verdict.kind != targets.ACCEPT:
                yield self._stopped(verdict, netns, past)
                continue
            flight = verdict.branch.flight
            # OUTPUT's rules saw the device of the first routing decision; what follows leaves by the second one.
            if flight.rerouted is not None:
                hop = flight.rerouted
                flight = flight.with_(oif=hop.dev, oif_known=hop.dev is not None, nexthop=hop.gateway, rerouted=None)
            if came is not None:
                flight = flight.with_(iif=came[0], iif_known=came[1])
            yield from self._postrouting(verdict.branch.fly(flight), netns, past)

    def _reroute(self, branch: Branch, netns: Netns) -> Iterator[Verdict]:
        """ip_route_me_harder behind a change of address or mark in OUTPUT."""
        flight = branch.flight
        packet = flight.packet
        if not netns.routes_known(packet.family):
            local = netns.is_local(packet.dst)
            hop = NextHop("lo") if local else NextHop(None)
            yield Verdict(branch.fly(flight.with_(rerouted=hop)), targets.ACCEPT)
            return
        found = netns.fib(packet.family).lookup(
            packet.dst, packet.src, iif="lo", mark=packet.mark, protocol=packet.protocol, sport=packet.sport,
            dport=packet.dport,
        )  # fmt: skip
        if found.kind == "local":
            step = _decision("routing", "re-routed: the new destination is local", found.at)
            yield Verdict(branch.step(step).fly(flight.with_(rerouted=NextHop("lo"))), targets.ACCEPT)
        elif found.kind == "unicast":
            for odds, hop in found.ways:
                via = f" via {hop.gateway}" if hop.gateway else ""
                step = _decision("routing", f"re-routed: leaves by {hop.dev}{via}", found.at)
                onward = branch.dice(odds)
                yield Verdict(onward.step(step).fly(flight.with_(rerouted=hop)), targets.ACCEPT)
        elif found.kind == "unknown":
            yield Verdict(branch, targets.UNKNOWN, found.why)
        else:
            # NF_DROP_ERR: the sender gets the routing error.
            why = f"{netns.name} has no route to {packet.dst} after translation ({found.kind} route)"
            yield Verdict(branch.step(_decision("routing", why, found.at)), UNREACHABLE, why)

    # ------------------------------------------------------------ leaving a node

    def _emit(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        """The packet leaves by its device: back in by lo, onto a link, or into the dark."""
        flight = branch.flight
        if flight.oif == "lo":
            yield from self._loop(branch, netns, past)
            return
        past = self._hop_done(branch, netns, past)
        yield from self._on_link(branch, netns, past, flight.oif, flight.nexthop or flight.packet.dst)

    def _loop(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        """Over lo the packet enters again with its conntrack entry and route: PREROUTING without nat, then INPUT."""
        flight = branch.flight.with_(iif="lo", iif_known=True, oif=None, oif_known=True, looped=True, nexthop=None)
        for verdict in hooks.run("prerouting", branch.fly(flight), netns):
            if verdict.kind != targets.ACCEPT:
                yield self._stopped(verdict, netns, past)
            else:
                step = _decision("routing", "local delivery over lo")
                yield from self._input(verdict.branch.step(step), netns, past)

    def _on_link(self, branch: Branch, netns: Netns, past: _Past, dev: str | None, target: Addr) -> Iterator[_End]:
        """Who is at the other end of a device."""
        if dev is None:
            yield from self._no_device(branch, netns, past)
            return
        link = netns.links.get(dev)
        if link is not None and link.kind == "dummy":
            # drivers/net/dummy.c dummy_xmit: counted and freed.
            yield _End(branch, past, DROPPED, f"{dev} of {netns.name} is a dummy device: what is sent by it is gone")
            return
        pod = self.pod_by_ip.get(target)
        neighbour = netns.neighbour(target, dev)
        if pod is not None and not pod.host_network and pod.node == netns.name:
            hung = links.attachment(netns, target)
            if hung.dev is None:
                yield _End(branch, past, UNKNOWN, hung.why)
                return
            yield self._pod_end(branch, past, target, pod)
            return
        for other in self.netns.values():
            if other.name != netns.name and (entered := self._enters(other, target, dev)):
                iif = entered if entered != "?" else None
                onward = _on_wire(branch, iif)
                yield from self._receive(onward, other, past)
                return
        if neighbour is not None and neighbour.mac is None and {"FAILED", "INCOMPLETE"} & set(neighbour.states):
            state = f"neighbour {neighbour.states[0]}, {neighbour.at}"
            reason = f"nobody answers for {target} on {dev} of {netns.name} ({state})"
            yield _End(branch, past, UNREACHABLE, reason)
            return
        yield from self._beyond(branch, netns, past, dev, target, pod)

    def _enters(self, other: Netns, target: Addr, dev: str) -> str | None:
        """The device of another node that takes packets for ``target``, "?" when it is not known which, None if none.

        A bridge's own address is not on the wire, but a node answers for every address it has (arp_ignore 0).
        """
        for address in other.node.addresses:
            if address.ip == target:
                link = other.links.get(address.dev)
                here = self.netns[other.name].links.get(address.dev)
                if link is not None and link.kind == "bridge" and here is not None:
                    continue
                if link is not None and link.kind == "dummy":
                    # A virtual address: asked for on the wire unless arp_ignore keeps it to its own device (strictARP).
                    if other.dev_setting("arp_ignore", "all"):
                        continue
                    return "?"
                return address.dev
        if not other.addresses_known and target in other.own:
            return "?"
        return None

    def _beyond(
        self, branch: Branch, netns: Netns, past: _Past, dev: str, target: Addr, pod: Pod | None
    ) -> Iterator[_End]:
        """The next hop is none of the nodes and pods whose dumps are here."""
        packet = branch.flight.packet
        if branch.flight.conn.direction == "REPLY" or packet.dst == self.flow.packet.src:
            yield _End(branch, past, DELIVERED, "", "outside", Reached(packet.dst, packet.dport), None)
            return
        owner = self.around.owner_by_objects(target)
        if owner is not None:
            missing = Missing(f"every dump of {owner}", "what happens to the packet there")
            past = replace(past, missing=(*past.missing, missing))
            there = branch.assume(f"no dump of {owner}: it is taken to pass the packet on unchanged and to deliver it")
            endpoint = self.pod_by_ip.get(packet.dst)
            yield self._pod_end(there, past, packet.dst, endpoint, owner)
            return
        if pod is not None and not pod.host_network:
            there = branch.assume(f"pod {pod.namespace}/{pod.name} is reached directly on the link of {dev}")
            yield self._pod_end(there, past, target, pod)
            return
        link = netns.links.get(dev)
        on_bridge = link is not None and link.kind == "bridge"
        gateway = target != packet.dst
        if not gateway and (on_bridge or self.around.is_service_address(packet.dst)) and "pods" in self.cluster.covered:
            what = "no pod has" if on_bridge else "no node and no pod has"
            reason = f"{what} the address {target}, so nobody answers for it on {dev} of {netns.name}"
            yield _End(branch.assume("the lists of pods and nodes are complete"), past, UNREACHABLE, reason)
            return
        if self.around.only_inside(packet.dst):
            reason = (
                f"no rule of {netns.name} translates {packet.dst}, an address of the Service range, and the packet "
                f"leaves by {dev}{f' to gateway {target}' if gateway else ''}, where nobody has it"
            )
            there = branch.assume(f"the network outside the cluster has no route to {packet.dst}")
            yield _End(there, past, UNREACHABLE, reason)
            return
        if self.around.is_service_address(packet.dst):
            reason = (
                f"no rule of {netns.name} translates {packet.dst}, and the packet leaves by {dev} to gateway {target}: "
                "which node the network brings it to no dump tells; ask again with --via"
            )
            yield _End(branch, past, UNKNOWN, reason)
            return
        if gateway and packet.dst in self.pod_by_ip:
            yield from self._by_gateway(branch, netns, past, target)
            return
        local_pod = not gateway and (on_bridge or link is None or link.kind == "veth")
        there = branch.assume(
            f"{packet.dst} is taken to answer; what is behind {dev} of {netns.name} is in no dump"
            if not local_pod
            else f"{packet.dst} on {dev} of {netns.name} is taken to be there and to answer"
        )
        place, node = ("pod", netns.name) if local_pod else ("outside", None)
        yield _End(
            there,
            past,
            DELIVERED,
            "",
            place,
            Reached(packet.dst, packet.dport, None, node),
            node,
            check_reply=local_pod,
        )

    def _by_gateway(self, branch: Branch, netns: Netns, past: _Past, gateway: Addr) -> Iterator[_End]:
        """A packet for a pod goes to a router that is no node: some networks route pods, most leave it to the nodes."""
        dst = branch.flight.packet.dst
        pod = self.pod_by_ip[dst]
        if pod.node == netns.name:
            yield _End(branch, past, UNKNOWN, links.attachment(netns, dst).why)
            return
        question = Question(
            f"{netns.name}:gateway:{gateway}:{dst}",
            f"gateway {gateway} routes {dst} to {pod.node}",
            f"{netns.name} has no route of its own to pod {dst}, and gateway {gateway} does not know where it is",
            default=not self.around.nodes_route_pods(dst.version),
        )
        other_node = self.netns.get(pod.node or "")
        for answer, other in branch.ask(question):
            if not answer:
                yield _End(other, past, UNREACHABLE, question.if_false)
            elif other_node is None:
                yield self._pod_end(other, past, dst, pod)
            else:
                found = other_node.fib(dst.version).lookup(other.flight.packet.src, None, iif="lo")
                iif = found.ways[0][1].dev if found.ways else None
                yield from self._receive(_on_wire(other, iif), other_node, past)

    def _no_device(self, branch: Branch, netns: Netns, past: _Past) -> Iterator[_End]:
        """No dump has the routes: the packet is taken to come to where it is addressed."""
        packet = branch.flight.packet
        if branch.flight.conn.direction == "REPLY":
            yield _End(branch, past, DELIVERED, "", "outside", Reached(packet.dst, packet.dport))
            return
        if (
            self.around.is_service_address(packet.dst) or self.around.only_inside(packet.dst)
        ) and not branch.flight.conn.dnat:
            reason = (
                f"{packet.dst} is a Service address no rule of {netns.name} translates; where it goes no dump tells"
            )
            yield _End(branch, past, UNKNOWN, reason)
            return
        pod = self.pod_by_ip.get(packet.dst)
        owner = pod.node if pod is not None else self.around.owner_by_objects(packet.dst)
        endpoint = next((e for e in self.cluster.endpoints if e.ip == packet.dst and e.port == packet.dport), None)
        node = owner or (endpoint.node if endpoint else None)
        name = f"{pod.namespace}/{pod.name}" if pod else endpoint.pod if endpoint else None
        if node is not None and node != netns.name and node in self.netns:
            there = branch.assume(f"{packet.dst} is reached by {node}, whose pod networks or objects have it")
            yield from self._receive(_on_wire(there, None), self.netns[node], past)
            return
        yield _End(branch, past, DELIVERED, "", "pod", Reached(packet.dst, packet.dport, name, node), node)

    def _pod_end(self, branch: Branch, past: _Past, ip: Addr, pod: Pod | None, node: str | None = None) -> _End:
        packet = branch.flight.packet
        name = f"{pod.namespace}/{pod.name}" if pod is not None else None
        where = pod.node if pod is not None and pod.node else node
        reached = Reached(ip, packet.dport, name, where)
        # The pod's own namespace routes too: ip_route_input_slow drops what claims to come from itself.
        if branch.flight.src_known and (packet.src == ip or packet.src.is_loopback):
            whose = "its own address" if packet.src == ip else "a loopback address"
            martian = f"the pod drops a packet from {packet.src}, {whose}"
            return _End(branch, past, DROPPED, martian)
        return _End(branch, past, DELIVERED, "", "pod", reached, where, check_reply=where in self.netns)

    # ------------------------------------------------------------ ends

    def _hop_done(self, branch: Branch, netns: Netns, past: _Past) -> _Past:
        flight = branch.flight
        hop = Hop(netns.name, flight.iif, flight.oif, steps_of(branch.log))
        entries = past.entries
        if flight.conn.direction == "ORIGINAL" and (flight.conn.state != "UNTRACKED" or flight.conn.ipvs is not None):
            entries = (*entries, (netns.name, flight.conn))
        return replace(past, hops=(*past.hops, hop), entries=entries)

    def _stopped(self, verdict: Verdict, netns: Netns, past: _Past) -> _End:
        branch = verdict.branch
        past = self._hop_done(branch, netns, past)
        if verdict.missing is not None and verdict.missing not in past.missing:
            past = replace(past, missing=(*past.missing, verdict.missing))
        if verdict.kind == targets.DROP:
            return _End(branch, past, DROPPED, f"{netns.name}: {verdict.detail}")
        if verdict.kind == targets.REJECT:
            where = f" by the rule at {verdict.rule.at}" if verdict.rule is not None else ""
            kind = targets.reject_verdict(verdict.detail, branch.flight.packet)
            return _End(branch, past, kind, f"{netns.name}: rejected with {verdict.detail}{where}")
        if verdict.kind in (UNREACHABLE, REFUSED):
            return _End(branch, past, verdict.kind, verdict.detail)
        return _End(branch, past, UNKNOWN, verdict.detail)

    def _finish(self, end: _End) -> Way:
        """A finished way, its verdict corrected by what becomes of the answer."""
        branch, past = end.branch, end.past
        flight = branch.flight
        way = Way(
            hops=past.hops,
            odds=branch.odds,
            choices=branch.choices,
            verdict=end.verdict,
            reason=end.reason,
            packet=flight.packet,
            reached=end.reached if end.verdict == DELIVERED else None,
            source=flight.packet.src if end.verdict == DELIVERED and flight.src_known else None,
            source_known=flight.src_known,
            rewrites=flight.rewrites,
            assumptions=branch.assumptions,
            missing=past.missing,
        )
        if not end.check_reply or not flight.src_known:
            known = end.verdict not in (DELIVERED, REFUSED)
            return replace(way, reply_known=known, reply="")
        return self._with_reply(way, end)

    # ------------------------------------------------------------ the way back

    def _with_reply(self, way: Way, end: _End) -> Way:
        """Follows the first packet of the answer: who translates it back, and does the client recognise it."""
        packet = way.packet
        answer = Packet(
            packet.protocol, packet.dst, packet.src, packet.dport, packet.sport,
            tcp_flags=frozenset({"RST", "ACK"} if end.verdict == REFUSED else {"SYN", "ACK"}),
            icmp_type=_ECHO.get(packet.icmp_type or -1), icmp_code=0 if packet.icmp_type is not None else None,
        )  # fmt: skip
        back = _Walk(self.world, self.flow, self.around, back=True)
        netns = self.netns.get(end.node or "")
        if netns is None or end.reached is None:
            return replace(way, reply_known=False)
        past = _Past(entries=end.past.entries)
        if end.place == "node":
            entry = next((c for n, c in reversed(past.entries) if n == netns.name), None)
            if entry is not None and _same(tuple_of(answer), entry.reply):
                ends = list(back._send(answer, netns, past, _answering(entry, answer)))
            else:
                ends = list(back._send(answer, netns, past))
        else:
            ends = list(back._leave_pod(answer, netns, past, Branch(_flight(answer))))
        return self._judged(way, ends)

    def _judged(self, way: Way, ends: list[_End]) -> Way:
        """The way with the reply's fate: translated back, lost, wrongly addressed, or not known."""
        # Odds and doubts of the way back are not followed apart: one way that works under the defaults is enough,
        # and what it assumed is said.
        likely = [e for e in ends if not e.branch.off_default]
        asked = self.flow.packet
        problems: list[tuple[_End, str]] = []
        for end in likely:
            packet = end.branch.flight.packet
            if end.verdict == UNKNOWN and not self._returns_to_translator(way):
                # The client may get its answer from another address than it asked: that would be no answer.
                known = "whether the answer comes back translated is not known"
                reason = f"the packet reaches {way.packet.dst}, but {known}: {end.reason}"
                return replace(way, verdict=UNKNOWN, reason=reason, reached=None, source=None, reply_known=False)
            if end.verdict == UNKNOWN:
                return replace(
                    way,
                    reply_known=False,
                    reply_hops=end.past.hops,
                    assumptions=_more(way, f"the answer: {end.reason}"),
                )
            if end.verdict != DELIVERED:
                problems.append((end, end.reason))
            elif not (_port(packet.sport, asked.dport) and packet.src == asked.dst and packet.dst == asked.src):
                problems.append((end, self._wrong_address(packet)))
            else:
                return replace(way, reply_hops=end.past.hops, assumptions=_more(way, *end.branch.assumptions))
        if not problems:
            return replace(way, reply_known=False)
        end, why = problems[0]
        where = targets.endpoint_text(way.packet.dst, way.packet.dport)
        failed = f"the packet reaches {where}, but the answer does not come back: {why}"
        if way.verdict == REFUSED:
            failed = f"{way.reason}; the refusal does not come back: {why}"
        return replace(
            way, verdict=DROPPED, reason=failed, reply=why, reply_hops=end.past.hops,
            assumptions=_more(way, *end.branch.assumptions), reached=way.reached, source=way.source,
        )  # fmt: skip

    def _returns_to_translator(self, way: Way) -> bool:
        """Whether the answer is addressed to the node that translated the packet last, or nobody translated it."""
        asked, packet = self.flow.packet, way.packet
        if (packet.dst, packet.dport) == (asked.dst, asked.dport):
            return True
        return any(netns.is_local(packet.src) for netns in self.netns.values())

    def _wrong_address(self, packet: Packet) -> str:
        got = targets.endpoint_text(packet.src, packet.sport)
        asked = targets.endpoint_text(self.flow.packet.dst, self.flow.packet.dport)
        if packet.dst != self.flow.packet.src:
            return f"the answer goes to {packet.dst}, and {self.flow.packet.src} asked"
        return f"the answer bypasses the node that translated the packet and comes from {got}, but {asked} was asked"


_ECHO: Mapping[int, int] = {8: 0, 128: 129}
"""ICMP and ICMPv6 echo request -> reply."""


def _next_hops(found: Lookup) -> tuple[tuple[Fraction, NextHop | None], ...]:
    """The next hops of what a local sender's lookup found, (1, None) where it found no way."""
    if found.kind == "unicast":
        return found.ways
    return found.ways[:1] if found.kind == "local" else ((Fraction(1), None),)


def _more(way: Way, *texts: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*way.assumptions, *texts)))


def _port(a: int | None, b: int | None) -> bool:
    return a is None or b is None or a == b


def _same(a: Tuple, b: Tuple) -> bool:
    """Whether two tuples are of one flow; a port that no dump tells may be any."""
    return (
        (a.protocol, a.src, a.dst) == (b.protocol, b.src, b.dst) and _port(a.sport, b.sport) and _port(a.dport, b.dport)
    )


def _new_conn(packet: Packet) -> Conn:
    """The entry a first packet gets, or no entry for one that conntrack calls invalid (tcp_new)."""
    there = tuple_of(packet)
    return Conn(conntrack.first_state(packet), "ORIGINAL", there, there.reversed())


def _answering(entry: Conn, answer: Packet) -> Conn:
    """The entry of an answer's flow as its first packet sees it."""
    if entry.state == "UNTRACKED":
        # IPVS knows the flow and conntrack does not (net.ipv4.vs.conntrack = 0).
        return replace(entry, state=_new_conn(answer).state, direction="REPLY")
    return replace(entry, state="ESTABLISHED", direction="REPLY")


def _flight(packet: Packet) -> Flight:
    return Flight(packet, _new_conn(packet))


def _on_wire(branch: Branch, iif: str | None) -> Branch:
    """The packet as the next node sees it: no mark, no entry, no steps yet."""
    flight = branch.flight
    packet = flight.packet.replace(mark=0)
    fresh = Flight(
        packet,
        _new_conn(packet),
        iif=iif,
        iif_known=iif is not None,
        src_known=flight.src_known,
        rewrites=flight.rewrites,
    )
    return Branch(fresh, branch.odds, branch.choices, None, branch.assumptions)


def _decision(hook: str, action: str, at: At | None = None) -> Step:
    return Step(hook, "", "", None, at if at is not None and at.origin else None, action)
