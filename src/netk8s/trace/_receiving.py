"""A packet that comes in by a device: PREROUTING, the routing decision, bridging, INPUT, delivery.

Sources: Linux net/ipv4/ip_input.c, route.c, net/bridge/br_netfilter_hooks.c, br_forward.c.
"""

from __future__ import annotations

from msgspec.structs import replace

from netk8s.kernel import hooks, ipvs, links, martians, targets
from netk8s.kernel.flight import Branch
from netk8s.kernel.netns import Netns
from netk8s.model import ICMP, ICMPV6, PROTOCOL_NAMES, Missing, NextHop, Question, Reached
from netk8s.trace import _passing, _sending, _slaves
from netk8s.trace._delivery import pod_end, pod_on, silent_on_bridge
from netk8s.trace._state import (
    DELIVERED,
    DROPPED,
    REFUSED,
    UNKNOWN,
    Arriving,
    End,
    Looping,
    OnLink,
    Past,
    Scene,
    Walk,
    decision,
    hop_done,
    passed_by,
    tracked,
)

MOST_HOPS = 16
"""A packet that passes more nodes goes in a circle until its TTL is used up."""


def receive(scene: Scene, arriving: Arriving) -> Walk:
    """A packet that comes in by a device."""
    owner = _slaves.takes_all(scene, arriving)
    if owner:
        yield End(arriving.branch, arriving.past, DROPPED, owner)
        return
    for branch, taken in _slaves.taken(scene, arriving):
        if taken:
            yield from _hand_to_pod(scene, branch, arriving.netns, arriving.past)
        else:
            yield from _enter(scene, branch, arriving.netns, arriving.past, arriving.direct)


def _hand_to_pod(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    packet, iif = branch.flight.packet, branch.flight.iif
    past = passed_by(netns, past, iif, None, f"{iif} hands it to pod {packet.dst} past every hook of the node")
    yield pod_end(scene, branch, past, packet.dst, scene.pod_by_ip.get(packet.dst))


def _enter(scene: Scene, branch: Branch, netns: Netns, past: Past, direct: bool) -> Walk:
    visit = (netns.name, branch.flight.packet.replace(ttl=0, mark=0))
    before_now = [odds for place, odds in past.visits if place == visit]
    if branch.odds in before_now or len(before_now) > 1 or len(past.hops) >= MOST_HOPS:
        nodes = " → ".join(dict.fromkeys(h.node for h in past.hops[-4:]))
        if branch.odds in before_now or not before_now:
            yield End(branch, past, DROPPED, f"the packet goes in a circle ({nodes}) until its TTL is used up")
        else:
            yield End(branch, past, UNKNOWN, f"the packet goes in a circle ({nodes}) that only dice end")
        return
    past = replace(past, visits=(*past.visits, (visit, branch.odds)))
    refused = _passing.unread(netns, branch, past)
    if refused is not None:
        yield refused
        return
    before = branch.flight
    branch = branch.fly(tracked(scene, branch.flight, netns, past))
    for verdict in hooks.run("prerouting", branch, netns):
        if verdict.kind != targets.ACCEPT:
            yield _passing.stopped(verdict, netns, past)
        elif direct and verdict.branch.flight.packet.dst == before.packet.dst:
            yield from _bridge(scene, verdict.branch, netns, past)
        else:
            for there, slave in _slaves.handed_over(scene, verdict.branch, netns):
                if slave:
                    step = decision("routing", f"local delivery to pod {there.flight.packet.dst} (ipvlan l3s)")
                    yield from _input(scene, there.step(step), netns, past)
                else:
                    yield from _route_in(scene, there, netns, past)


def _bridge(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    """A frame that stays on its bridge: FORWARD and POSTROUTING by br_netfilter, no routing.

    br_forward.c should_deliver asks for hairpin mode before br_netfilter runs FORWARD. A translated frame gets its new
    MAC address before that (br_nf_pre_routing_finish_bridge): where nobody has one, it waits and never comes to FORWARD.
    """
    flight = branch.flight
    bridge = flight.iif or ""
    dst = flight.packet.dst
    if dst != flight.conn.original.dst and silent_on_bridge(scene, netns, bridge, dst):
        there = branch.fly(flight.with_(bridged=True, oif=bridge))
        yield OnLink(there, netns, hop_done(there, netns, past), bridge, dst)
        return
    onward = [branch]
    if flight.from_pod == flight.packet.dst:
        mode = links.hairpin(netns, bridge, flight.physin)
        answers = [(mode, branch)] if isinstance(mode, bool) else list(branch.ask(mode))
        onward = [other for answer, other in answers if answer]
        reason = f"{bridge} of {netns.name} does not send a frame back by the port it came in by (hairpin mode is off)"
        for answer, other in answers:
            if not answer:
                done = other.step(decision("bridge", reason))
                yield End(done, hop_done(done, netns, past), DROPPED, reason)
    for each in onward:
        there = each.fly(flight.with_(bridged=True))
        yield from _passing.forward(there, netns, past, NextHop(bridge), f"bridged on {bridge}", None)


def _route_in(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    """ip_route_input: local, forwarded, or refused."""
    flight = branch.flight
    packet = flight.packet
    if not netns.routes_known(packet.family):
        yield from _route_by_objects(scene, branch, netns, past)
        return
    iif = flight.iif or ""
    found = netns.fib(packet.family).lookup(
        packet.dst, packet.src, iif=iif, mark=packet.mark, protocol=packet.protocol, sport=packet.sport,
        dport=packet.dport,
    )  # fmt: skip
    if found.kind == "local":
        martian = martians.martian(flight, netns)
        if martian:
            yield _martian(branch, netns, past, martian)
        else:
            yield from _input(scene, branch.step(decision("routing", "local delivery", found.at)), netns, past)
        return
    forwards = netns.forwards(packet.family, iif)
    bridge_dnat = flight.has_physin and packet.dst != flight.conn.original.dst
    if forwards is None:
        branch = branch.assume(f"{netns.name} is taken to forward packets (ip_forward is not in a dump)")
        forwards = True
    # ip6_forward itself asks whether to forward, so IPv6 has a route by then; IPv4 is not given one (ip_route_input_slow).
    if found.kind == "unicast" and (forwards or packet.family == 6):
        for odds, hop in found.ways:
            onward = branch.dice(odds)
            via = f" via {hop.gateway}" if hop.gateway else ""
            martian = martians.martian(flight, netns, hop.dev)
            if martian:
                yield _martian(onward, netns, past, martian)
                continue
            if bridge_dnat and hop.dev == iif and hop.gateway is None:
                # br_nf_pre_routing_finish: the new destination is on the same bridge, so the frame is bridged.
                yield from _bridge(scene, onward, netns, past)
            elif not forwards:
                yield _no_forwarding(onward, netns, past, iif)
            else:
                yield from _passing.forward(onward, netns, past, hop, f"forward by {hop.dev}{via}", found)
        return
    martian = martians.martian(flight, netns, None)
    if martian:
        yield _martian(branch, netns, past, martian)
        return
    # ip6_pkt_drop asks for no setting before it tells the sender; ip_error does.
    if not forwards and packet.family == 4:
        yield _no_forwarding(branch, netns, past, iif)
        return
    yield _passing.no_route(branch, netns, past, found)


def _martian(branch: Branch, netns: Netns, past: Past, why: str) -> End:
    done = branch.step(decision("routing", f"dropped: {why}"))
    return End(done, hop_done(done, netns, past), DROPPED, f"{netns.name}: {why}")


def _no_forwarding(branch: Branch, netns: Netns, past: Past, iif: str) -> End:
    setting = "net.ipv6.conf.all.forwarding" if branch.flight.packet.family == 6 else f"net.ipv4.conf.{iif}.forwarding"
    at = netns.node.sysctls[setting].at if setting in netns.node.sysctls else None
    done = branch.step(decision("routing", f"dropped: forwarding is off ({setting} = 0)", at))
    return End(done, hop_done(done, netns, past), DROPPED, f"{netns.name} does not forward packets ({setting} = 0)")


def _route_by_objects(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    """The routing decision where no dump has the routes: by what is known of addresses."""
    packet = branch.flight.packet
    past = past.lacks(
        Missing(
            f"IPv{packet.family} routes and addresses of {netns.name}",
            "where the packet leaves, and which address MASQUERADE takes",
            node=netns.name,
        )
    )
    local = netns.is_local(packet.dst)
    if local is None:
        pod = scene.pod_by_ip.get(packet.dst)
        local = False if pod is not None and not pod.host_network else None
    if local is None and branch.flight.conn.dnat:
        # A question for each endpoint would double the ways with each; hostNetwork endpoints are the exception.
        branch = branch.assume(f"endpoints are taken to be pods and not addresses of {netns.name}, which no dump lists")
        local = False
    if local is None:
        for answer, other in branch.ask(netns.is_local_question(packet.dst)):
            if answer:
                yield from _input(scene, other.step(decision("routing", "local delivery")), netns, past)
            else:
                yield from _forward_blindly(other, netns, past)
    elif local:
        yield from _input(scene, branch.step(decision("routing", "local delivery")), netns, past)
    else:
        yield from _forward_blindly(branch, netns, past)


def _forward_blindly(branch: Branch, netns: Netns, past: Past) -> Walk:
    branch = branch.assume(
        f"no dump has the routes of {netns.name}: it is taken to forward the packet to where it is addressed"
    )
    yield from _passing.forward(branch, netns, past, NextHop(None), "forward (no dump has the routes)", None)


def _input(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    flight = branch.flight
    for verdict in hooks.run("input", branch.fly(flight.with_(oif=None, oif_known=True)), netns):
        if verdict.kind == ipvs.STOLEN:
            yield from _sending.ipvs_sends(verdict.branch, netns, past)
        elif verdict.kind != targets.ACCEPT:
            yield _passing.stopped(verdict, netns, past)
        elif pod := pod_on(scene, netns, verdict.branch.flight.packet.dst):
            done = hop_done(verdict.branch, netns, past)
            yield pod_end(scene, verdict.branch, done, verdict.branch.flight.packet.dst, pod)
        else:
            yield from _deliver_locally(scene, verdict.branch, netns, past)


def _deliver_locally(scene: Scene, branch: Branch, netns: Netns, past: Past) -> Walk:
    """To the socket that takes the packet, or the refusal when there is none."""
    packet = branch.flight.packet
    past = hop_done(branch, netns, past)
    pod = scene.around.host_pod(netns, packet)
    reached = Reached(packet.dst, packet.dport, pod, netns.name)
    # An answer goes to the socket that asked, and whether that one takes it is the answer's own matter.
    if scene.back or branch.flight.conn.direction == "REPLY" or packet.protocol in (ICMP, ICMPV6):
        yield End(branch, past, DELIVERED, "", "node", reached, netns.name, check_reply=True)
        return
    if packet.dport is None:
        yield End(
            branch,
            past,
            UNKNOWN,
            f"what takes {PROTOCOL_NAMES.get(packet.protocol, packet.protocol)} on {netns.name}",
        )
        return
    nobody = f"nobody listens on {targets.endpoint_text(packet.dst, packet.dport)} of {netns.name}"
    if netns.sockets_known:
        if netns.sockets_at(packet.protocol, packet.dst, packet.dport):
            yield End(branch, past, DELIVERED, "", "node", reached, netns.name, check_reply=True)
        else:
            yield End(branch, past, REFUSED, nobody, "node", reached, netns.name, check_reply=True)
        return
    listening = pod is not None or scene.around.endpoint_at(packet) is not None
    conn = branch.flight.conn
    dnat = conn.dnat or conn.ipvs is not None or scene.around.dialled == (packet.dst, "healthcheck")
    question = Question(
        f"{netns.name}:listens:{packet.protocol}:{packet.dst}:{packet.dport}",
        f"a process listens on {targets.endpoint_text(packet.dst, packet.dport)} of {netns.name}",
        f"{nobody} (no dump lists its sockets)",
        default=listening or dnat,
    )
    for answer, other in branch.ask(question):
        verdict = DELIVERED if answer else REFUSED
        yield End(other, past, verdict, "" if answer else question.if_false, "node", reached, netns.name, True)


def loop(scene: Scene, looping: Looping) -> Walk:
    """Over lo the packet enters again with its conntrack entry and route: PREROUTING without nat, then INPUT."""
    branch, netns, past = looping.branch, looping.netns, looping.past
    flight = branch.flight.with_(iif="lo", iif_known=True, oif=None, oif_known=True, looped=True, nexthop=None)
    for verdict in hooks.run("prerouting", branch.fly(flight), netns):
        if verdict.kind != targets.ACCEPT:
            yield _passing.stopped(verdict, netns, past)
        else:
            step = decision("routing", "local delivery over lo")
            yield from _input(scene, verdict.branch.step(step), netns, past)
