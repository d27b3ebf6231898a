"""Targets of iptables rules: what a rule that matched does to the packet.

Sources: Linux net/netfilter/xt_*.c, nf_nat_core.c, nf_nat_redirect.c, nf_nat_masquerade.c,
net/ipv4/netfilter/ipt_REJECT.c, net/ipv6/netfilter/ip6t_REJECT.c.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from netk8s.kernel.flight import Branch, Flight
from netk8s.kernel.matches import Seen, dscp_value, value_mask
from netk8s.kernel.routing import select_address, select_address6
from netk8s.model import TCP, Addr, Packet, Rewrite, Target

CONTINUE, ACCEPT, DROP, REJECT, RETURN, UNKNOWN = "continue", "accept", "drop", "reject", "return", "unknown"

MOST_ADDRESSES = 256
"""A range of more addresses than this is not spelled out as dice."""


class Effect(Struct, frozen=True):
    """What became of a packet at a target. ``detail``: the kind of a REJECT, or why something is unknown.

    ``bound``: a translation was decided (DNAT, SNAT, …), which ends the walk of the nat tables at this hook.
    """

    branch: Branch
    verdict: str
    detail: str = ""
    bound: bool = False
    changes: tuple[tuple[str, str], ...] = ()


Apply = Callable[[Target, Branch, Seen], Iterator[Effect]]


def apply(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    """The effects of a target; several when it rolls dice, or when its verdict is not known."""
    known = _TARGETS.get(target.name)
    if known is not None:
        yield from known(target, branch, seen)
    elif target.name in _NO_EFFECT:
        yield Effect(branch, CONTINUE)
    else:
        yield Effect(branch, UNKNOWN, f"target {target.name} of the rule at {seen.rule.at} is not understood")


def is_target(name: str) -> bool:
    """Whether a name is a target here and not a chain."""
    return name in _TARGETS or name in _NO_EFFECT


_NO_EFFECT = frozenset(
    {
        "LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "LED", "RATEEST", "IDLETIMER", "SECMARK", "CONNSECMARK",
        "ECN", "TCPMSS", "TCPOPTSTRIP", "CHECKSUM", "CLASSIFY", "SET", "TEE",
    }
)  # fmt: skip
"""Targets that go on with the next rule and change nothing that rules or routes look at."""


def has_no_effect(target: Target | None) -> bool:
    """Whether it makes no difference to the packet's way that this target was or was not applied."""
    return target is None or target.name in _NO_EFFECT


def _standard(verdict: str) -> Apply:
    def run(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
        yield Effect(branch, verdict)

    return run


def _options(target: Target) -> dict[str, tuple[str, ...]]:
    return {o.name: o.values for o in target.options}


def _unclear(branch: Branch, seen: Seen, target: Target) -> Effect:
    return Effect(
        branch, UNKNOWN, f"target {target.name} of the rule at {seen.rule.at} has options that are not understood"
    )


# ---------------------------------------------------------------- marks


def _new_mark(options: Mapping[str, tuple[str, ...]], mark: int) -> int | None:
    """xt_MARK's arithmetic: (mark & ~mask) ^ value; the other words are shapes of it."""
    for name, values in options.items():
        parsed = value_mask(values[0]) if values else None
        if parsed is None:
            continue
        value, mask = parsed
        if name in ("--set-mark", "--set-xmark"):
            # --set-mark also clears the bits it sets (mark_tg: mask | value); --set-xmark only those of the mask.
            clear = mask | value if name == "--set-mark" else mask
            return ((mark & ~clear) ^ value) & 0xFFFFFFFF
        if name == "--or-mark":
            return mark | value
        if name == "--and-mark":
            return mark & value
        if name == "--xor-mark":
            return (mark ^ value) & 0xFFFFFFFF
    return None


def _mark(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    packet = branch.flight.packet
    mark = _new_mark(_options(target), packet.mark)
    if mark is None:
        yield _unclear(branch, seen, target)
        return
    changed = (("mark", f"{packet.mark:#x} → {mark:#x}"),) if mark != packet.mark else ()
    yield Effect(branch.fly(branch.flight.with_(packet=packet.replace(mark=mark))), CONTINUE, changes=changed)


def _connmark(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    options = _options(target)
    flight = branch.flight
    packet, conn = flight.packet, flight.conn
    if conn.state in ("UNTRACKED", "INVALID"):
        yield Effect(branch, CONTINUE)
        return
    if "--left-shift-mark" in options or "--right-shift-mark" in options:
        yield _unclear(branch, seen, target)
        return
    masks = {name: value_mask(options[name][0]) for name in ("--nfmask", "--ctmask", "--mask") if options.get(name)}
    if any(m is None for m in masks.values()):
        yield _unclear(branch, seen, target)
        return
    both = masks.get("--mask")
    nf = masks.get("--nfmask") or both or (0xFFFFFFFF, 0)
    ct = masks.get("--ctmask") or both or (0xFFFFFFFF, 0)
    if "--save-mark" in options:
        mark = ((conn.mark & ~ct[0]) ^ (packet.mark & nf[0])) & 0xFFFFFFFF
    elif "--restore-mark" in options:
        new = ((packet.mark & ~nf[0]) ^ (conn.mark & ct[0])) & 0xFFFFFFFF
        changed = (("mark", f"{packet.mark:#x} → {new:#x}"),) if new != packet.mark else ()
        yield Effect(branch.fly(flight.with_(packet=packet.replace(mark=new))), CONTINUE, changes=changed)
        return
    else:
        set_mark = _new_mark(options, conn.mark)
        if set_mark is None:
            yield _unclear(branch, seen, target)
            return
        mark = set_mark
    changed = (("connection mark", f"{conn.mark:#x} → {mark:#x}"),) if mark != conn.mark else ()
    yield Effect(branch.fly(flight.with_(conn=replace(conn, mark=mark))), CONTINUE, changes=changed)


# ---------------------------------------------------------------- reject, tracking, queues


def _reject(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    words = _options(target).get("--reject-with")
    default = "icmp-port-unreachable" if branch.flight.packet.family == 4 else "icmp6-port-unreachable"
    yield Effect(branch, REJECT, words[0] if words else default)


def _ct(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    options = _options(target)
    flight = branch.flight
    if flight.looped and flight.conn.state != "INVALID":
        # xt_ct_target leaves a packet alone that has its entry already; one that conntrack called invalid has none.
        yield Effect(branch, CONTINUE)
    elif target.name == "NOTRACK" or "--notrack" in options:
        yield Effect(branch.fly(flight.with_(conn=replace(flight.conn, state="UNTRACKED"))), CONTINUE)
    else:
        # A helper, an event mask or a timeout policy does not change the first packet's way; a zone
        # would matter only for a flow that has an entry in another one.
        yield Effect(branch, CONTINUE)


def _tproxy(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    options = _options(target)
    packet = branch.flight.packet
    parsed = value_mask(options.get("--tproxy-mark", ("0/0",))[0])
    if parsed is None:
        yield _unclear(branch, seen, target)
        return
    mark = ((packet.mark & ~parsed[1]) ^ parsed[0]) & 0xFFFFFFFF
    port = options.get("--on-port", ("0",))[0]
    changed = (("mark", f"{packet.mark:#x} → {mark:#x}"), ("socket", f"the listener on port {port} takes it"))
    yield Effect(branch.fly(branch.flight.with_(packet=packet.replace(mark=mark))), ACCEPT, changes=changed)


def _ttl(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    packet = branch.flight.packet
    for name, values in _options(target).items():
        if not values or not values[0].isdecimal():
            continue
        amount = int(values[0])
        kind = name.rpartition("-")[2]
        ttl = amount if kind == "set" else packet.ttl + amount if kind == "inc" else packet.ttl - amount
        ttl = min(max(ttl, 0), 255)
        changed = (("ttl", f"{packet.ttl} → {ttl}"),) if ttl != packet.ttl else ()
        yield Effect(branch.fly(branch.flight.with_(packet=packet.replace(ttl=ttl))), CONTINUE, changes=changed)
        return
    yield _unclear(branch, seen, target)


def _tos(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    """xt_DSCP.c: DSCP sets the upper six bits, TOS works on all eight as MARK does on a mark."""
    packet = branch.flight.packet
    tos: int | None = None
    for name, values in _options(target).items():
        if target.name == "DSCP" and values:
            value = dscp_value(values[0])
            tos = (value << 2 | packet.tos & 3) & 0xFF if value is not None else None
            continue
        parsed = value_mask(values[0]) if values else None
        if parsed is None:
            continue
        value, mask = parsed[0] & 0xFF, parsed[1] & 0xFF
        tos = {
            "--set-tos": (packet.tos & ~mask & 0xFF) ^ value,
            "--and-tos": packet.tos & value,
            "--or-tos": packet.tos | value,
            "--xor-tos": packet.tos ^ value,
        }.get(name)
    if tos is None:
        yield _unclear(branch, seen, target)
        return
    changed = (("tos", f"{packet.tos:#x} → {tos:#x}"),) if tos != packet.tos else ()
    yield Effect(branch.fly(branch.flight.with_(packet=packet.replace(tos=tos))), CONTINUE, changes=changed)


def _nfqueue(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    ask = seen.ask("the program at the queue lets the packet pass", "the program at the queue drops the packet")
    for answer, other in branch.ask(ask.question):
        yield Effect(other, ACCEPT if answer else DROP)


# ---------------------------------------------------------------- address translation


def endpoint_text(address: Addr, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def parse_range(text: str) -> tuple[Addr | None, Addr | None, int | None, int | None, bool] | None:
    """``--to-destination``/``--to-source`` as (first, last address, first, last port, whether ports were given).

    Forms: "1.2.3.4", "1.2.3.4-1.2.3.9:80-90", ":80", "[fd00::1]:80", "[fd00::1-fd00::5]:80", "fd00::1".
    None: not understood.
    """
    hosts, ports = text, ""
    if text.startswith("["):
        hosts, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        ports = rest[1:]
        hosts = hosts.replace("]-[", "-")
    elif text.count(":") == 1 or text.startswith(":"):
        hosts, _, ports = text.partition(":")
    first_host, dash, last_host = hosts.partition("-")
    first_port, _, last_port = ports.partition("/")[0].partition("-")
    try:
        first = ipaddress.ip_address(first_host) if first_host else None
        last = ipaddress.ip_address(last_host) if dash else first
        low = int(first_port) if first_port else None
        high = int(last_port) if last_port else low
    except ValueError:
        return None
    if first is not None and last is not None and (first.version != last.version or int(first) > int(last)):
        return None
    if "/" in ports or any(port is not None and not 0 <= port <= 65535 for port in (low, high)):
        return None  # ":2000-2010/1000" shifts a range of ports (NF_NAT_RANGE_PROTO_OFFSET), which is not followed
    return first, last, low, high, bool(ports)


def _addresses(first: Addr, last: Addr) -> list[Addr] | None:
    count = int(last) - int(first) + 1
    if count > MOST_ADDRESSES:
        return None
    return [type(first)(int(first) + i) for i in range(count)]


def bind_destination(flight: Flight, address: Addr, port: int | None) -> Flight:
    """The packet with a new destination and the conntrack entry that will undo it on replies."""
    packet = flight.packet.replace(dst=address, dport=port)
    conn = flight.conn
    return flight.with_(
        packet=packet, conn=replace(conn, reply=replace(conn.reply, src=address, sport=port), dst_bound=True)
    )


def bind_source(flight: Flight, address: Addr, port: int | None, rewrite: Rewrite | None) -> Flight:
    """The packet with a new source and the conntrack entry that will undo it on replies."""
    packet = flight.packet.replace(src=address, sport=port)
    conn = flight.conn
    rewrites = (*flight.rewrites, rewrite) if rewrite is not None and rewrite.before != address else flight.rewrites
    return flight.with_(
        packet=packet,
        conn=replace(conn, reply=replace(conn.reply, dst=address, dport=port), src_bound=True),
        rewrites=rewrites,
    )


def _destination_changes(before: Packet, after: Packet) -> tuple[tuple[str, str], ...]:
    old, new = endpoint_text(before.dst, before.dport), endpoint_text(after.dst, after.dport)
    return (("dst", f"{old} → {new}"),) if old != new else ()


def _dnat(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    words = _options(target).get("--to-destination")
    parsed = parse_range(words[0]) if words else None
    if parsed is None or (parsed[0] is not None and parsed[0].version != branch.flight.packet.family):
        yield _unclear(branch, seen, target)
        return
    first, last, low, high, _ = parsed
    packet = branch.flight.packet
    port = packet.dport
    if low is not None and high is not None and not (port is not None and low <= port <= high):
        # nf_nat_l4proto_unique_tuple keeps a port inside the range and else begins at its lower end.
        port = low
    choices = [packet.dst] if first is None or last is None else _addresses(first, last)
    if choices is None:
        yield Effect(
            branch, UNKNOWN, f"DNAT to one of many addresses ({words[0] if words else ''}), by a hash of the flow"
        )
        return
    odds = Fraction(1, len(choices))
    for address in choices:
        flight = bind_destination(branch.flight, address, port if packet.dport is not None else None)
        yield Effect(
            branch.fly(flight).dice(odds), ACCEPT, bound=True, changes=_destination_changes(packet, flight.packet)
        )


def _redirect(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    flight = branch.flight
    packet = flight.packet
    words = _options(target).get("--to-ports")
    port = packet.dport
    if words:
        low, _, high = words[0].partition("-")
        if not low.isdecimal() or (high and not high.isdecimal()) or not int(low) <= int(high or low) <= 65535:
            yield _unclear(branch, seen, target)
            return
        if not (port is not None and int(low) <= port <= int(high or low)):
            port = int(low)
    address: Addr | None
    if seen.hook == "output":
        address = ipaddress.ip_address("127.0.0.1" if packet.family == 4 else "::1")
    else:
        # The first address of the device the packet came in by (nf_nat_redirect_ipv4, _ipv6).
        items = seen.netns.addresses.get(flight.iif or "", ())
        if flight.iif is None or not seen.netns.addresses_known:
            yield Effect(branch, UNKNOWN, "REDIRECT to an address of the incoming device, which no dump tells")
            return
        address = next((a.ip for a in items if a.ip.version == packet.family and not a.tentative), None)
        if packet.family == 6:
            reach = [a.ip for a in items if a.ip.version == 6 and not a.tentative]
            same = [ip for ip in reach if ip.is_link_local == packet.dst.is_link_local]
            address = next(iter(same or reach), None)
    if address is None:
        yield Effect(branch, DROP, "the incoming device has no address to redirect to")
        return
    changed = bind_destination(flight, address, port if packet.dport is not None else None)
    yield Effect(branch.fly(changed), ACCEPT, bound=True, changes=_destination_changes(packet, changed.packet))


def _source_effect(
    branch: Branch, seen: Seen, address: Addr, port: int | None, because: str
) -> tuple[Branch, tuple[tuple[str, str], ...]]:
    flight = branch.flight
    before = flight.packet.src
    rewrite = Rewrite(
        seen.netns.name, seen.rule.raw, seen.rule.at, before, address, because, seen.rule.chain, seen.table
    )
    changed = bind_source(flight, address, port, rewrite)
    return branch.fly(changed), ((("src", f"{before} → {address}"),) if before != address else ())


def _snat(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    options = _options(target)
    words = options.get("--to-source")
    parsed = parse_range(words[0]) if words else None
    if parsed is None or words is None or (parsed[0] is not None and parsed[0].version != branch.flight.packet.family):
        yield _unclear(branch, seen, target)
        return
    first, last, low, high, _ = parsed
    packet = branch.flight.packet
    choices = [packet.src] if first is None or last is None else _addresses(first, last)
    if choices is None:
        yield Effect(branch, UNKNOWN, f"SNAT to one of many addresses ({words[0]}), by a hash of the flow")
        return
    port = packet.sport
    if low is not None and low == high:
        port = low
    elif low is not None or "--random-fully" in options or "--random" in options:
        port = None
    for address in choices:
        there, changes = _source_effect(
            branch.dice(Fraction(1, len(choices))), seen, address, port, f"the rule names it (--to-source {words[0]})"
        )
        yield Effect(there, ACCEPT, bound=True, changes=changes)


def _masquerade(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    flight, netns = branch.flight, seen.netns
    packet = flight.packet
    options = _options(target)
    port = None if options.keys() & {"--to-ports", "--random", "--random-fully"} else packet.sport
    if packet.src.is_unspecified:
        # nf_nat_masquerade_ipv4: a packet from 0.0.0.0 is left alone.
        yield Effect(branch, ACCEPT)
        return
    if not (flight.oif_known and flight.oif is not None and netns.addresses_known):
        what = "device the packet leaves by" if flight.oif is None else f"addresses of {flight.oif}"
        because = f"MASQUERADE takes an address of the outgoing device; no dump tells the {what}"
        rewrite = Rewrite(
            netns.name, seen.rule.raw, seen.rule.at, packet.src, None, because, seen.rule.chain, seen.table
        )
        conn = replace(flight.conn, src_bound=True)
        unknown = flight.with_(src_known=False, rewrites=(*flight.rewrites, rewrite), conn=conn)
        yield Effect(
            branch.fly(unknown), ACCEPT, bound=True, changes=(("src", f"{packet.src} → an address of the node"),)
        )
        return
    if packet.family == 4:
        # nf_nat_masquerade_ipv4: rt_nexthop, which is the destination where no gateway of IPv4 is.
        gateway = flight.nexthop if flight.nexthop is not None and flight.nexthop.version == 4 else packet.dst
        localnet = bool(netns.dev_setting("route_localnet", flight.oif))
        address, because = select_address(netns.addresses, netns.devices, flight.oif, gateway, route_localnet=localnet)
    else:
        address, because = select_address6(netns.addresses, flight.oif, packet.dst)
    if address is None:
        yield Effect(branch, DROP, f"MASQUERADE finds no address: {because}")
        return
    there, changes = _source_effect(branch, seen, address.ip, port, because)
    there = there.fly(there.flight.with_(conn=replace(there.flight.conn, masq=flight.oif)))
    yield Effect(there, ACCEPT, bound=True, changes=changes)


def _netmap(target: Target, branch: Branch, seen: Seen) -> Iterator[Effect]:
    words = _options(target).get("--to")
    try:
        net = ipaddress.ip_network(words[0], strict=False) if words else None
    except ValueError:
        net = None
    packet = branch.flight.packet
    if net is None or net.version != packet.family:
        yield _unclear(branch, seen, target)
        return
    source = seen.hook in ("postrouting", "input")
    old = packet.src if source else packet.dst
    mapped = type(old)((int(old) & ~int(net.netmask) & ((1 << old.max_prefixlen) - 1)) | int(net.network_address))
    if source:
        there, changes = _source_effect(branch, seen, mapped, packet.sport, f"the rule maps sources into {net}")
        yield Effect(there, ACCEPT, bound=True, changes=changes)
    else:
        flight = bind_destination(branch.flight, mapped, packet.dport)
        yield Effect(branch.fly(flight), ACCEPT, bound=True, changes=_destination_changes(packet, flight.packet))


_TARGETS: Mapping[str, Apply] = {
    "ACCEPT": _standard(ACCEPT),
    "DROP": _standard(DROP),
    "RETURN": _standard(RETURN),
    "MARK": _mark,
    "CONNMARK": _connmark,
    "REJECT": _reject,
    "CT": _ct,
    "NOTRACK": _ct,
    "TPROXY": _tproxy,
    "TTL": _ttl,
    "HL": _ttl,
    "TOS": _tos,
    "DSCP": _tos,
    "NFQUEUE": _nfqueue,
    "QUEUE": _nfqueue,
    "DNAT": _dnat,
    "REDIRECT": _redirect,
    "SNAT": _snat,
    "MASQUERADE": _masquerade,
    "NETMAP": _netmap,
}

REFUSED = "refused"
UNREACHABLE = "unreachable"


_UNREACHABLE_CODES: Mapping[int, Mapping[str, int]] = {
    4: {"net-unreach": 0, "host-unreach": 1, "proto-unreach": 2, "port-unreach": 3, "net-prohib": 9, "host-prohib": 10,
        "admin-prohib": 13},
    6: {"no-route": 0, "adm-prohib": 1, "addr-unreach": 3, "port-unreach": 4, "policy-fail": 5, "reject-route": 6},
}  # fmt: skip
"""Codes of "destination unreachable" by how the words that iptables has for them begin (libipt_REJECT, libip6t_REJECT)."""


def reject_code(kind: str, family: int) -> int | None:
    """The code of the ICMP or ICMPv6 "destination unreachable" that a REJECT sends, None where it sends a TCP reset."""
    if kind in ("tcp-reset", "tcp-rst"):
        return None
    words = kind.removeprefix("icmp-" if family == 4 else "icmp6-")
    codes = (code for begin, code in _UNREACHABLE_CODES[family].items() if words.startswith(begin))
    return next(codes, 1 if family == 4 else 3)


def reject_verdict(kind: str, packet: Packet) -> str:
    """What a sender gets of a REJECT: connection refused (RST, port unreachable) or no route to host.

    ICMP errors as sockets report them: icmp(7), net/ipv4/icmp.c icmp_err_convert, net/ipv6/icmp.c tab_unreach.
    """
    code = reject_code(kind, packet.family)
    if code is None:
        return REFUSED if packet.protocol == TCP else UNREACHABLE
    return REFUSED if code in ((2, 3) if packet.family == 4 else (4,)) else UNREACHABLE
