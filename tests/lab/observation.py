"""What the kernel did with one packet on one node, in one value that a prediction can be held against."""

from __future__ import annotations

from dataclasses import dataclass

from .frames import ICMP, ICMPV6, TCP, Probe
from .rules import PathStep, dropped_by, named
from .worker import Collected, Sighting


@dataclass(frozen=True, slots=True)
class Headers:
    """A packet's addresses, ports and mark at the end of its way through the node."""

    src: str
    dst: str
    sport: int | None
    dport: int | None
    mark: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What became of one packet.

    ``verdict``: "local" (passed INPUT and its NAT), "forwarded" or "sent" (passed POSTROUTING, coming from a device or
    from the node), "rejected" (answered by the rules), "dropped", or "unroutable" (no rule dropped it, the kernel did;
    ``reason`` may say which errno). ``answer``: what a REJECT (or the routing) sent back: "tcp-reset", "icmp 3/3",
    "icmpv6 1/4".
    """

    verdict: str
    path: tuple[PathStep, ...]
    headers: Headers
    iif: str = ""
    oif: str = ""
    answer: str = ""
    reason: str = ""


def observe(probe: Probe, refused: str, collected: Collected, saved: str) -> Observation:
    """Puts together what was seen of a packet under the iptables rules of one backend. ``refused`` is the errno of a
    local send that the kernel refused."""
    path = named(collected.matched, saved)
    if path and " -j REJECT" in path[-1].rule:
        # The rule rejects even where its answer finds no way back or another rule drops it.
        return observed(probe, refused, collected, path, "rejected")
    return observed(probe, refused, collected, path, "dropped" if dropped_by(collected.matched, saved) else "")


def observed(probe: Probe, refused: str, collected: Collected, path: tuple[PathStep, ...], ended: str) -> Observation:
    """The same for any rules. ``ended``: how the last of them ended the packet, "rejected", "dropped" or ""."""
    seen = collected.sightings
    last: Sighting | None = seen[-1] if seen else None
    answer = _answer(collected.answers)
    if last is None:
        return Observation(
            "unroutable",
            path,
            Headers(probe.src, probe.dst, probe.sport, probe.dport, probe.mark),
            answer=answer,
            reason=refused or "seen by no hook",
        )
    ports = probe.protocol not in (ICMP, ICMPV6)
    headers = Headers(
        last.packet.src,
        last.packet.dst,
        last.packet.sport if ports else None,
        last.packet.dport if ports else None,
        last.mark,
    )
    iif = next((s.iif for s in seen if s.at == "in_first"), "")
    local_origin = any(s.at == "out_first" for s in seen)
    if last.at == "local":
        return Observation("local", path, headers, last.iif, "", "", refused)
    if last.at == "left" and last.oif != "lo":
        return Observation("sent" if local_origin else "forwarded", path, headers, iif, last.oif, "", refused)
    if ended:
        return Observation(ended, path, headers, iif, last.oif, answer, refused)
    return Observation("unroutable", path, headers, iif, last.oif, answer, refused or f"not seen after {last.at}")


def _answer(answers: tuple[Sighting, ...]) -> str:
    for sighting in answers:
        if sighting.at == "out_first":
            seen = sighting.packet
            if seen.protocol == TCP:
                return "tcp-reset"
            return f"{'icmp' if seen.protocol == ICMP else 'icmpv6'} {seen.icmp_type}/{seen.icmp_code}"
    return ""
