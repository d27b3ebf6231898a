"""netk8s' side of the differential test: its ways for a packet, and how they differ from what the kernel did."""

from __future__ import annotations

import dataclasses
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from msgspec.structs import replace

from netk8s.decode import decode
from netk8s.model import Flow, Packet, Snapshot, Trace, Way, World
from netk8s.snapshot import read
from netk8s.trace import trace

from .frames import ICMP, ICMPV6, TCP, Probe
from .generate_rules import Sending
from .observation import Observation

# What a verdict of the kernel may be called. "local" is delivered or refused by what listens there: no rule's doing.
VERDICTS = {
    "local": ("delivered", "refused"),
    "forwarded": ("delivered", "unreachable", "unknown"),
    "sent": ("delivered", "unreachable", "unknown"),
    "rejected": ("refused", "unreachable", "dropped"),
    "dropped": ("dropped",),
    "unroutable": ("unreachable", "dropped"),
}

# A rule without an effect whose match is open (no dump tells a packet's length) or dice makes no difference to the
# packet, so netk8s does not follow both answers and leaves it out.
UNDECIDED = ("-m length ", "-m statistic ", "-m owner ")
IDLE_TARGETS = ("DSCP", "TOS", "LOG", "NFLOG")

# What a REJECT sends (net/ipv4/netfilter/ipt_REJECT.c, net/ipv6/netfilter/ip6t_REJECT.c).
ANSWERS = {
    "tcp-reset": "tcp-reset",
    "icmp-net-unreachable": "icmp 3/0",
    "icmp-host-unreachable": "icmp 3/1",
    "icmp-proto-unreachable": "icmp 3/2",
    "icmp-port-unreachable": "icmp 3/3",
    "icmp-net-prohibited": "icmp 3/9",
    "icmp-host-prohibited": "icmp 3/10",
    "icmp-admin-prohibited": "icmp 3/13",
    "icmp6-no-route": "icmpv6 1/0",
    "icmp6-adm-prohibited": "icmpv6 1/1",
    "icmp6-addr-unreachable": "icmpv6 1/3",
    "icmp6-port-unreachable": "icmpv6 1/4",
}
# What the kernel says of a TTL that is used up; to netk8s that is a drop.
TIME_EXCEEDED = ("icmp 11/0", "icmpv6 3/0")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a way is not what the kernel did. ``kind``: error, none, verdict, path, headers or device."""

    kind: str
    kernel: str
    predicted: str

    def __str__(self) -> str:
        return f"{self.kind}: kernel {self.kernel}; predicted {self.predicted}"


def read_snapshot(folder: Path) -> Snapshot:
    return read([str(folder)])


def world_with_rules(snapshot: Snapshot, family: int, saved: str) -> World:
    """The snapshot decoded with another iptables-save text in place of its own of that family."""
    name = "ip6tables-save.txt" if family == 6 else "iptables-save.txt"
    dumps = tuple(
        replace(dump, data=saved.encode()) if dump.origin.endswith("/" + name) else dump
        for dump in snapshot.dumps
        if not dump.origin.endswith("counters.txt")
    )
    return decode(replace(snapshot, dumps=dumps))


def flow_of(sending: Sending, node: str = "node") -> Flow:
    """The question that stands for a packet."""
    probe = sending.probe
    ports = probe.protocol not in (ICMP, ICMPV6)
    packet = Packet(
        protocol=probe.protocol,
        src=ip_address(probe.src),
        dst=ip_address(probe.dst),
        sport=probe.sport if ports else None,
        dport=probe.dport if ports else None,
        mark=probe.mark,
        tcp_flags=frozenset(probe.tcp_flags) if probe.protocol == TCP else frozenset(),
        icmp_type=None if ports else probe.icmp_type,
        icmp_code=None if ports else probe.icmp_code,
        ttl=probe.ttl,
    )
    return Flow(
        target=f"{probe.dst}:{probe.dport}",
        source=probe.src,
        origin="outside" if sending.iif else "node",
        node=node,
        packet=packet,
        iif=sending.iif or None,
    )


def predicted_ways(world: World, sending: Sending, patience: float = 60.0) -> tuple[Way, ...]:
    """netk8s' ways for a packet."""
    return predicted(world, sending, patience).ways


def predicted(world: World, sending: Sending, patience: float = 60.0) -> Trace:
    """netk8s' answer; TimeoutError when it takes longer than ``patience`` seconds."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"no answer within {patience} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, patience)
    try:
        return trace(world, flow_of(sending))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


Rules = list[tuple[str, str, str]]
"""(table, chain, rule) of the rules that matched."""


def differences(
    seen: Observation, ways: tuple[Way, ...], path_of: Callable[[Way], Rules] | None = None
) -> tuple[Difference, ...]:
    """Empty if netk8s' answer is what the kernel did; else what the nearest way has wrong.

    The ways under the defaults are the answer; dice make several. An alternative (a way against a default) counts only
    where the answer hangs on something that has no default. ``path_of`` tells a way's rules in the observation's words.
    """
    if not ways:
        return (Difference("none", seen.verdict, "no way at all"),)
    usual = [way for way in ways if all(c.question.default in (None, c.answer) for c in way.choices)]
    return min((_against(seen, way, (path_of or rule_path)(way)) for way in usual or ways), key=len)


def answered_way(sending: Sending, seen: Observation, ways: tuple[Way, ...]) -> Way | None:
    """The way whose answer netk8s followed and that can be held against the kernel: one without dice or open questions."""
    probe = sending.probe
    if probe.protocol in (ICMP, ICMPV6) and probe.icmp_type not in (8, 128):
        return None  # nobody answers an answer
    if probe.protocol == TCP and probe.tcp_flags != ("SYN",):
        return None
    likely = [way for way in ways if all(c.question.default == c.answer for c in way.choices)]
    if len(likely) != 1 or seen.verdict not in ("forwarded", "sent"):
        return None
    way = likely[0]
    return way if way.reply_hops and way.reply_known and way.odds == 1 else None


def answer_to(sending: Sending, seen: Observation) -> Probe:
    """The first packet back, as who got the packet would send it."""
    probe, headers = sending.probe, seen.headers
    answer = dataclasses.replace(
        probe, src=headers.dst, dst=headers.src, tcp_flags=("SYN", "ACK"), tag=probe.tag % 60000 + 1, ttl=64, mark=0
    )
    if probe.protocol in (ICMP, ICMPV6):
        return dataclasses.replace(answer, icmp_type={8: 0, 128: 129}[probe.icmp_type])
    return dataclasses.replace(answer, sport=headers.dport or 0, dport=headers.sport or 0)


def answer_differences(probe: Probe, back: Observation, way: Way) -> tuple[Difference, ...]:
    """Whether the answer comes back as one to what was asked, and by which rules."""
    got = (back.headers.src, back.headers.sport, back.headers.dst, back.headers.dport)
    ports = (None, None) if probe.protocol in (ICMP, ICMPV6) else (probe.dport, probe.sport)
    right = back.verdict in ("local", "forwarded", "sent") and got == (probe.dst, ports[0], probe.src, ports[1])
    found = []
    if right != (way.reply == ""):
        found.append(
            Difference("reply", f"{back.verdict} {back.answer} {back.reason} {got}", way.reply or "translated")
        )
    path = [(s.table, s.chain, s.rule) for hop in way.reply_hops for s in hop.steps if s.rule and not _idle(s.rule)]
    kernel_path = [(s.table, s.chain, s.rule) for s in back.path if not _idle(s.rule)]
    if path != kernel_path:
        same = next(
            (i for i, (a, b) in enumerate(zip(path, kernel_path, strict=False)) if a != b),
            min(len(path), len(kernel_path)),
        )
        found.append(
            Difference("reply path", f"after {same} rules: {kernel_path[same : same + 2]}", f"{path[same : same + 2]}")
        )
    return tuple(found)


_SOURCE = re.compile(r", source (\S+): ")


def source_differences(seen: Observation, answer: Trace) -> tuple[Difference, ...]:
    """What a socket without an address got, against the source and the device of the trace's nearest way."""
    if seen.verdict == "unroutable":
        fails = [way for way in answer.ways if way.verdict in VERDICTS["unroutable"]]
        return () if fails else (Difference("verdict", seen.reason, answer.ways[0].verdict),)
    best: tuple[Difference, ...] | None = None
    for way in answer.ways:
        found = []
        if way.verdict == "unreachable" and not way.hops[0].oif:
            found.append(Difference("verdict", seen.verdict, f"{way.verdict}: {way.reason}"))
        else:
            # Of several next hops each has a source of its own; the flow of the answer has but one.
            told = [text.group(1) for hop in way.hops for step in hop.steps if (text := _SOURCE.search(step.action))]
            source = told[0] if told else str(answer.flow.packet.src)
            if source != seen.headers.src:
                found.append(Difference("source", seen.headers.src, source))
            hop = way.hops[0] if way.hops else None
            if seen.verdict == "sent" and (hop is None or hop.oif != seen.oif):
                found.append(Difference("device", seen.oif, str(hop and hop.oif)))
        if best is None or len(found) < len(best):
            best = tuple(found)
    return best if best is not None else (Difference("none", seen.verdict, "no way at all"),)


def rule_path(way: Way) -> Rules:
    """Every rule on a way."""
    return [(step.table, step.chain, step.rule) for hop in way.hops for step in hop.steps if step.rule is not None]


def questions(ways: tuple[Way, ...]) -> set[str]:
    """What the ways could not know, but for who listens where: nobody does in the lab."""
    asked = {choice.question for way in ways for choice in way.choices}
    return {question.if_true for question in asked if " listens on " not in question.if_true}


def _idle(rule: str) -> bool:
    """A rule that does nothing, with a match that no dump decides: it makes no difference, so netk8s leaves it out."""
    words = rule.split()
    acts = next((words[i + 1] for i, word in enumerate(words[:-1]) if word in ("-j", "-g")), "")
    return (not acts or acts in IDLE_TARGETS) and any(name in rule for name in UNDECIDED)


def _against(seen: Observation, way: Way, path: Rules) -> tuple[Difference, ...]:
    found: list[Difference] = []
    path = [step for step in path if not _idle(step[2])]
    kernel_path = [(step.table, step.chain, step.rule) for step in seen.path if not _idle(step.rule)]
    if path != kernel_path:
        same = next(
            (i for i, (a, b) in enumerate(zip(path, kernel_path, strict=False)) if a != b),
            min(len(path), len(kernel_path)),
        )
        found.append(
            Difference("path", f"after {same} rules: {kernel_path[same : same + 2]}", f"{path[same : same + 2]}")
        )
    rejects = way.reason.split(": ", 1)[-1].startswith("rejected with ")
    # Nobody listens and nobody answers in the lab. That the packet got there is what counts, not the way back.
    arrived = way.reason.startswith(("nobody listens", "the packet reaches")) and seen.verdict in (
        "local",
        "forwarded",
        "sent",
    )
    if not arrived and (way.verdict not in VERDICTS[seen.verdict] or (seen.verdict == "rejected") != rejects):
        found.append(
            Difference("verdict", f"{seen.verdict} {seen.answer} {seen.reason}", f"{way.verdict}: {way.reason}")
        )
    elif seen.verdict == "rejected":
        kind = way.reason.split("rejected with ", 1)[1].split(" ")[0]
        # No answer is sent to some packets (an ICMP error, a reset, an address that no route leads to).
        if seen.answer and seen.answer != ANSWERS.get(kind):
            found.append(Difference("answer", seen.answer, kind))
    elif seen.verdict == "unroutable":
        told = "dropped" if seen.answer in ("", *TIME_EXCEEDED) else "unreachable"
        if seen.answer and way.verdict != told:
            found.append(Difference("answer", seen.answer, f"{way.verdict}: {way.reason}"))
    elif seen.verdict in ("local", "forwarded", "sent"):
        packet = way.packet
        got = (str(packet.src), str(packet.dst), packet.sport, packet.dport, packet.mark)
        want = (seen.headers.src, seen.headers.dst, seen.headers.sport, seen.headers.dport, seen.headers.mark)
        for name, a, b in zip(("src", "dst", "sport", "dport", "mark"), want, got, strict=True):
            if a != b and not (name == "sport" and b is None):
                found.append(Difference("headers", f"{name} {a}", f"{name} {b}"))
        hop = way.hops[0] if way.hops else None
        if seen.verdict != "local" and (hop is None or hop.oif != seen.oif):
            found.append(Difference("device", seen.oif, str(hop and hop.oif)))
    return tuple(found)
