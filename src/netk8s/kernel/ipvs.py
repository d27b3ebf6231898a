"""IPVS: a packet for a virtual server gets a real one and is sent on from where it is.

It sits in three hooks (ip_vs_core.c, ip_vs_ops4 and ip_vs_ops6): INPUT at 98 and 99, behind the filter and before the
nat table, OUTPUT at -99 and -98, behind the nat table and before the filter, and FORWARD at 99 and 100, for answers.
What it takes passes OUTPUT and POSTROUTING as if it were sent from here; the rest goes on.

Sources: Linux net/netfilter/ipvs/ip_vs_core.c (ip_vs_in_hook, ip_vs_out_hook, ip_vs_schedule, ip_vs_sched_persist,
ip_vs_leave), ip_vs_xmit.c (ip_vs_nat_xmit, crosses_local_route_boundary), ip_vs_nfct.c (ip_vs_update_conntrack),
ip_vs_proto_tcp.c, and the schedulers' own files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s.kernel import targets
from netk8s.kernel.flight import Branch, Flight, IpvsConn
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.model import (
    PROTOCOL_NAMES,
    SCTP,
    TCP,
    UDP,
    ConntrackEntry,
    Missing,
    Packet,
    Question,
    RealServer,
    Step,
    VirtualServer,
)

STOLEN = "stolen"
"""NF_STOLEN: IPVS has the packet and sends it on itself."""

VIRTUAL_DEVICES = ("kube-ipvs0", "kube-dummy-if")
"""Devices that do nothing but hold the addresses of virtual servers (kube-proxy, kube-router)."""

_BY_WEIGHT = frozenset({"wrr", "wlc", "sed", "nq", "twos", "ovf"})
_BY_CONNECTIONS = frozenset({"lc", "wlc", "sed", "nq", "twos", "ovf"})
_BY_SOURCE = frozenset({"sh", "mh"})
_BY_DESTINATION = frozenset({"dh", "lblc", "lblcr"})
_KNOWN = frozenset({"rr", "fo"}) | _BY_WEIGHT | _BY_CONNECTIONS | _BY_SOURCE | _BY_DESTINATION


def run(hook: str, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """What IPVS does with a packet at "input", "forward" or "output": accept, STOLEN, drop, refused or unknown."""
    flight = branch.flight
    conn = flight.conn
    if flight.ipvs_property:
        yield Verdict(branch, targets.ACCEPT)
    elif conn.direction == "REPLY":
        yield Verdict(_answer(hook, branch), targets.ACCEPT)
    elif conn.entry is not None and conn.ipvs is not None:
        yield _continued(hook, branch, netns, conn.ipvs, conn.entry)
    elif conn.ipvs is not None and conn.state == "ESTABLISHED":
        yield _onward(
            branch, netns, conn.ipvs, Step(hook, "", "", None, None, "IPVS: goes where the first packet went")
        )
    elif hook == "forward" or not _schedulable(flight.packet):
        yield Verdict(branch, targets.ACCEPT)
    elif not netns.virtual_servers_known:
        yield from _without_servers(hook, branch, netns)
    else:
        server = netns.virtual_server(flight.packet)
        if server is None:
            yield Verdict(branch, targets.ACCEPT)
        else:
            yield from _request(hook, branch, netns, server)


def _schedulable(packet: Packet) -> bool:
    """Whether a packet may begin an IPVS connection (tcp_conn_schedule, udp_conn_schedule, sctp_conn_schedule)."""
    if packet.protocol == TCP:
        return "SYN" in packet.tcp_flags and "RST" not in packet.tcp_flags and packet.dport is not None
    return packet.protocol in (UDP, SCTP) and packet.dport is not None


def _answer(hook: str, branch: Branch) -> Branch:
    """A real server's answer gets the virtual server's address as source (handle_response)."""
    flight = branch.flight
    packet, known = flight.packet, flight.conn.ipvs
    if known is None or known.method != "masq" or packet.src != known.daddr or packet.sport not in (None, known.dport):
        return branch
    before = targets.endpoint_text(packet.src, packet.sport)
    after = targets.endpoint_text(known.vaddr, known.vport)
    step = Step(hook, "", "", None, None, "IPVS translates the answer", changes=(("src", f"{before} → {after}"),))
    translated = flight.with_(packet=packet.replace(src=known.vaddr, sport=known.vport), ipvs_property=True)
    return branch.fly(translated).step(step)


# ---------------------------------------------------------------- connections that are there already


def of_entry(entry: ConntrackEntry, netns: Netns) -> IpvsConn | None:
    """The IPVS connection behind a conntrack entry, None where NAT rules made it.

    Both look alike in a listing (ip_vs_update_conntrack alters the reply's source). The address that was asked tells: a
    virtual server's, or one of the device that holds virtual addresses.
    """
    asked, reply = entry.original, entry.reply
    if asked.dport is None or reply.sport is None or (asked.dst, asked.dport) == (reply.src, reply.sport):
        return None
    packet = Packet(entry.protocol, asked.src, asked.dst, asked.sport, asked.dport)
    device = virtual_device(netns)
    held = device is not None and any(a.ip == asked.dst for a in netns.addresses.get(device, ()))
    if netns.virtual_server(packet) is None and not held:
        return None
    return IpvsConn(asked.dst, asked.dport, reply.src, reply.sport)


def _continued(hook: str, branch: Branch, netns: Netns, known: IpvsConn, entry: ConntrackEntry) -> Verdict:
    """A packet of a connection that IPVS has goes where the first one went, unless that server was removed."""
    flight = branch.flight
    packet = flight.packet
    where = targets.endpoint_text(known.daddr, known.dport)
    server = netns.virtual_server(packet)
    there = {(real.ip, real.port or packet.dport) for real in server.real} if server is not None else set()
    step = Step(hook, "", "", None, entry.at, f"IPVS: an earlier connection goes to {where}")
    if netns.virtual_servers_known and (known.daddr, known.dport) not in there:
        # ip_vs_in_hook: a destination that is no longer available, with the entry of conntrack still on the packet.
        gone = f"{where}, which an earlier connection goes to ({entry.at}), is no real server any more"
        expires = netns.flag("net.ipv4.vs.expire_nodest_conn")
        if expires is None:
            branch = branch.assume(
                f"net.ipv4.vs.expire_nodest_conn of {netns.name} is in no dump and taken as 1, as kube-proxy sets it"
            )
        then = (
            "its packets are dropped until it times out (expire_nodest_conn = 0)"
            if expires is False
            else "IPVS drops this packet and forgets the connection (expire_nodest_conn = 1), so the next one is new"
        )
        return Verdict(branch.step(step), targets.DROP, f"{gone}: {then}")
    return _onward(branch, netns, known, step)


def _onward(branch: Branch, netns: Netns, known: IpvsConn, step: Step) -> Verdict:
    packet = branch.flight.packet
    moved = packet.replace(dst=known.daddr, dport=known.dport)
    before, after = (targets.endpoint_text(p.dst, p.dport) for p in (packet, moved))
    there = branch.fly(branch.flight.with_(packet=moved, ipvs_property=True))
    there = there.step(replace(step, changes=(("dst", f"{before} → {after}"),)))
    return Verdict(there, targets.ACCEPT if netns.is_local(known.daddr) else STOLEN)


# ---------------------------------------------------------------- no dump of the virtual servers


def _without_servers(hook: str, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """A packet that IPVS may take where no dump lists the virtual servers."""
    packet = branch.flight.packet
    device = virtual_device(netns)
    if netns.is_local(packet.dst) is False or (device is None and netns.sysctl("net.ipv4.vs.conntrack") is None):
        yield Verdict(branch, targets.ACCEPT)
        return
    where = f"{targets.endpoint_text(packet.dst, packet.dport)}/{PROTOCOL_NAMES[packet.protocol]}"
    if device is None:
        text = f"IPVS of {netns.name}, of which there is no dump (ipvsadm -Sn), is taken to have no virtual servers"
        yield Verdict(branch.assume(text), targets.ACCEPT)
        return
    virtual = any(a.ip == packet.dst for a in netns.addresses.get(device, ()))
    listens = netns.sockets_known and bool(netns.sockets_at(packet.protocol, packet.dst, packet.dport or 0))
    if listens and not virtual:
        text = f"{where}, where a process of {netns.name} listens, is taken to be no virtual server (no ipvsadm dump)"
        yield Verdict(branch.assume(text), targets.ACCEPT)
        return
    what = f"an address of {device}" if virtual else f"an address of {netns.name}"
    why = (
        f"{packet.dst} is {what}, and {netns.name} balances with IPVS: whether {where} is a virtual server, and of "
        "which real servers, is in no dump (ipvsadm -Sn)"
    )
    missing = Missing(
        f"virtual servers of {netns.name} (ipvsadm -Sn)", "which endpoint the packet gets", node=netns.name
    )
    step = Step(hook, "", "", None, None, "IPVS (its virtual servers are in no dump)", unknown=why)
    yield Verdict(branch.step(step), targets.UNKNOWN, why, missing=missing)


def virtual_device(netns: Netns) -> str | None:
    """The device that holds virtual servers' addresses, None when there is none."""
    return next((name for name in VIRTUAL_DEVICES if name in netns.links or name in netns.addresses), None)


# ---------------------------------------------------------------- scheduling


class _Pick(Struct, frozen=True):
    """A branch with the real server it got (None: there is none to get) and by which odds and reason."""

    branch: Branch
    real: RealServer | None
    how: str
    odds: Fraction = Fraction(1)
    assumed: bool = False


def _request(hook: str, branch: Branch, netns: Netns, server: VirtualServer) -> Iterator[Verdict]:
    for pick in _persistent(branch, netns, server):
        if pick.real is None:
            yield _refuse(hook, pick, netns, server)
        else:
            yield from _transmit(hook, pick, pick.real, netns, server)


def _name(server: VirtualServer) -> str:
    if server.ip is None:
        return f"mark {server.fwmark}"
    return f"{targets.endpoint_text(server.ip, server.port)}/{PROTOCOL_NAMES.get(server.protocol, server.protocol)}"


def _usable(server: VirtualServer) -> tuple[RealServer, ...]:
    """The real servers that take new connections: those of weight 0 are quiesced."""
    if server.port == 0 and server.fwmark is None and server.persistence is None:
        # ip_vs_schedule: "port zero only supported in persistent services".
        return ()
    return tuple(real for real in server.real if real.weight > 0)


def _persistent(branch: Branch, netns: Netns, server: VirtualServer) -> Iterator[_Pick]:
    """What the node remembers of the client, and the scheduler for whom it does not remember (ip_vs_sched_persist)."""
    usable = _usable(server)
    if server.persistence is not None:
        # A template to a quiesced real server still holds unless expire_quiescent_template is set.
        keeps = netns.flag("net.ipv4.vs.expire_quiescent_template", default=False) is False
        remembered = server.real if keeps else usable
        if len(remembered) > 1 or (remembered and not usable):
            client = branch.flight.packet.src
            for real in remembered:
                where = targets.endpoint_text(real.ip, real.port)
                question = Question(
                    f"{netns.name}:ipvs:{_name(server)}:{client}:{where}",
                    f"IPVS of {netns.name} remembers that {client} goes to {where} (persistence of {_name(server)})",
                    f"IPVS of {netns.name} does not remember {client} for {where} (no dump shows it)",
                    default=False,
                    memory=True,
                )
                forgotten = None
                for answer, other in branch.ask(question):
                    if answer:
                        yield _Pick(other, real, f"persistence, {server.persistence} s", assumed=True)
                    else:
                        forgotten = other
                if forgotten is None:
                    return
                branch = forgotten
    yield from _schedule(branch, server, usable)


def _schedule(branch: Branch, server: VirtualServer, usable: Sequence[RealServer]) -> Iterator[_Pick]:
    """The scheduler's choice for a new connection."""
    name = server.scheduler
    if server.scheduler == "fo":
        heaviest = max((real.weight for real in usable), default=0)
        usable = [real for real in usable if real.weight == heaviest]
    if name in _BY_DESTINATION and len(server.real) > 1 and usable:
        yield from _by_destination(branch, server, usable)
        return
    if name not in _KNOWN and len(usable) > 1:
        branch = branch.assume(f"scheduler {name} of {_name(server)} is not known: its shares are taken to be even")
    full = [real for real in usable if real.upper]
    for real in full:
        where = targets.endpoint_text(real.ip, real.port)
        branch = branch.assume(
            f"{where} is taken to have fewer than the {real.upper} connections that {_name(server)} gives it"
        )
    shares = [(real, Fraction(real.weight if name in _BY_WEIGHT else 1)) for real in usable]
    lost = Fraction(0)
    if name in _BY_SOURCE:
        # The hash's table has buckets of quiesced servers too; who falls on one is refused without the fallback flag.
        shares = [(real, Fraction(real.weight)) for real in usable]
        if usable and not {f"{name}-fallback", "flag-1"} & set(server.flags):
            lost = Fraction(sum(1 for real in server.real if real.weight == 0))
    total = sum((share for _, share in shares), lost)
    if len(shares) + (lost > 0) > 1:
        branch = _about(branch, server, usable)
    for real, share in shares:
        odds = share / total
        yield _Pick(branch.dice(odds), real, _words(server, len(usable)), odds, name in _BY_CONNECTIONS)
    if not shares or lost:
        odds = lost / total if lost else Fraction(1)
        yield _Pick(branch.dice(odds), None, _words(server, len(usable)), odds)


def _words(server: VirtualServer, count: int) -> str:
    if count < 2:
        return server.scheduler
    return {
        "rr": f"rr: {count} real servers in turn",
        "wrr": f"wrr: {count} real servers in turn, by weight",
        "sh": f"sh: one of {count} real servers by a hash of the client's {_hashed(server)}",
        "mh": f"mh: one of {count} real servers by a hash of the client's {_hashed(server)}",
        "fo": f"fo: one of {count} real servers of the highest weight",
    }.get(server.scheduler, f"{server.scheduler}: one of {count} real servers")


def _hashed(server: VirtualServer) -> str:
    """What of the client sh and mh go by (IP_VS_SVC_F_SCHED_SH_PORT, IP_VS_SVC_F_SCHED_MH_PORT)."""
    return "address and port" if {f"{server.scheduler}-port", "flag-2"} & set(server.flags) else "address"


def _about(branch: Branch, server: VirtualServer, usable: Sequence[RealServer]) -> Branch:
    """The branch with what the odds of this scheduler rest on."""
    name = server.scheduler
    if name in _BY_CONNECTIONS:
        counts = ", ".join(f"{r.ip} {r.active}+{r.inactive}" for r in usable if r.active is not None)
        seen = (
            f"; at the moment of the dump: {counts}" if counts and any(r.active or r.inactive for r in usable) else ""
        )
        by = "as their weights" if name in _BY_WEIGHT else "even"
        return branch.assume(
            f"scheduler {name} of {_name(server)} goes by the connections of the moment: its shares are taken to be "
            f"{by}{seen}"
        )
    if name in _BY_SOURCE:
        same = "connection" if "port" in _hashed(server) else "client"
        rest = "" if same == "connection" else ", and one client gets the same real server each time"
        return branch.assume(
            f"scheduler {name} of {_name(server)} goes by a hash of the client's {_hashed(server)}: the odds are those of "
            f"many {same}s{rest}"
        )
    return branch


def _by_destination(branch: Branch, server: VirtualServer, usable: Sequence[RealServer]) -> Iterator[_Pick]:
    """dh, lblc and lblcr: the virtual address decides, so all clients get one and the same real server. No dice."""
    *first, last = usable
    how = f"{server.scheduler}: by a hash of the virtual address"
    for real in first:
        where = targets.endpoint_text(real.ip, real.port)
        question = Question(
            f"ipvs:{_name(server)}:{where}",
            f"scheduler {server.scheduler} of {_name(server)} has chosen {where} for that address",
            f"scheduler {server.scheduler} of {_name(server)} has not chosen {where} for that address",
        )
        missed = None
        for answer, other in branch.ask(question):
            if answer:
                yield _Pick(other, real, how)
            else:
                missed = other
        if missed is None:
            return
        branch = missed
    yield _Pick(branch, last, how)


def _refuse(hook: str, pick: _Pick, netns: Netns, server: VirtualServer) -> Verdict:
    """No real server: ICMP port unreachable (ip_vs_leave)."""
    quiesced = f" ({len(server.real)} of weight 0)" if server.real else ""
    why = f"virtual server {_name(server)} of {netns.name} has no real server{quiesced} ({server.at})"
    if _usable(server):
        why = f"the hash of {_name(server)} on {netns.name} falls on a real server of weight 0 ({server.at})"
    step = Step(hook, "", "", None, server.at, f"IPVS refuses: {pick.how}, no real server", pick.odds)
    return Verdict(pick.branch.step(step), targets.REFUSED, why)


# ---------------------------------------------------------------- sending it to the real server


def _transmit(hook: str, pick: _Pick, real: RealServer, netns: Netns, server: VirtualServer) -> Iterator[Verdict]:
    """The packet to its real server: translated, or as it is (direct routing, tunnels)."""
    local = netns.is_local(real.ip)
    if local is None:
        for answer, other in pick.branch.ask(netns.is_local_question(real.ip)):
            yield _sent(hook, replace(pick, branch=other), real, netns, server, answer)
    else:
        yield _sent(hook, pick, real, netns, server, local)


def _sent(hook: str, pick: _Pick, real: RealServer, netns: Netns, server: VirtualServer, local: bool) -> Verdict:
    branch = pick.branch
    flight = branch.flight
    packet = flight.packet
    assert packet.dport is not None  # noqa: S101 - only packets with ports are scheduled
    dport = real.port or packet.dport
    if server.persistence is not None and packet.dport != server.port:
        # ip_vs_sched_persist: only the virtual server's own port is exchanged for the real one's.
        dport = packet.dport
    where = targets.endpoint_text(real.ip, dport)
    step = Step(hook, "", "", None, real.at, f"IPVS {pick.how} → {where}", pick.odds, assumed=pick.assumed)
    if real.method == "local" or (real.method != "masq" and local):
        tracked = _noticed(
            branch, netns, server, IpvsConn(packet.dst, packet.dport, packet.dst, packet.dport, real.method)
        )
        return Verdict(tracked.step(replace(step, action=f"IPVS {pick.how} → this node itself")), targets.ACCEPT)
    if real.method != "masq":
        by = "direct routing" if real.method == "route" else "an IP tunnel"
        why = (
            f"{netns.name} passes the packet unchanged to real server {real.ip} by {by} ({real.at}): whether that one "
            f"has {packet.dst} is in no dump; if it has, it answers the client itself, past {netns.name} (direct server return)"
        )
        return Verdict(branch.step(replace(step, unknown=why)), targets.UNKNOWN, why)
    if flight.local and netns.flag("net.ipv4.vs.conntrack") is False:
        why = (
            f"net.ipv4.vs.conntrack of {netns.name} is 0, and then connections of the node itself through IPVS were seen to "
            "get no answer; whether this one does is not known"
        )
        return Verdict(branch.step(replace(step, unknown=why)), targets.UNKNOWN, why)
    if hook == "input" and flight.looped and server.fwmark is not None:
        why = (
            f"the packet came to {_name(server)} of {netns.name} over lo, from the node itself; such connections were seen "
            "to get no answer where lo's masquerading met them; whether this one does is not known"
        )
        return Verdict(branch.step(replace(step, unknown=why)), targets.UNKNOWN, why)
    if not local and packet.src.is_loopback:
        why = f"IPVS of {netns.name} drops a packet from {packet.src}, a loopback address, to {where} on another node"
        return Verdict(branch.step(step), targets.DROP, why)
    if local and real.ip.is_loopback and hook == "input" and not flight.looped:
        why = f"IPVS of {netns.name} drops a packet from outside to {where}, a loopback address"
        return Verdict(branch.step(step), targets.DROP, why)
    branch = _noticed(branch, netns, server, IpvsConn(packet.dst, packet.dport, real.ip, dport))
    flight = branch.flight
    moved = flight.with_(packet=packet.replace(dst=real.ip, dport=dport), ipvs_property=True)
    before = targets.endpoint_text(packet.dst, packet.dport)
    changes = (("dst", f"{before} → {where}"),) if before != where else ()
    there = branch.fly(moved).step(replace(step, changes=changes))
    return Verdict(there, targets.ACCEPT if local else STOLEN)


def _noticed(branch: Branch, netns: Netns, server: VirtualServer, known: IpvsConn) -> Branch:
    """The packet with its IPVS connection, and what conntrack learns of it (ip_vs_update_conntrack, ip_vs_notrack)."""
    tracks = netns.flag("net.ipv4.vs.conntrack")
    if tracks is None:
        branch = branch.assume(
            f"net.ipv4.vs.conntrack of {netns.name} is in no dump and taken as 1, as kube-proxy sets it"
        )
        tracks = True
    flight: Flight = branch.flight
    conn = flight.conn
    if not tracks:
        # The packet has no entry from here on: NAT leaves it alone, and IPVS alone knows the answer.
        there = replace(conn.reply, src=known.daddr, sport=known.dport)
        conn = replace(conn, state="UNTRACKED", ipvs=known, reply=there)
    elif server.one_packet and flight.packet.protocol == UDP:
        # One-packet scheduling expects no answer: the entry stays as it was and nobody translates one.
        return branch
    elif known.method == "masq" and conn.state not in ("UNTRACKED", "INVALID"):
        there = replace(conn.reply, src=known.daddr, sport=known.dport)
        conn = replace(conn, ipvs=known, reply=there)
    else:
        conn = replace(conn, ipvs=known)
    return branch.fly(flight.with_(conn=conn, ipvs_property=True))
