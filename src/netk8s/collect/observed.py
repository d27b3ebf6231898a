"""Sends one probe, with the kernel's trace armed, and puts together what the kernel said of it."""

from __future__ import annotations

import re
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address

from msgspec.structs import replace

from netk8s.collect import iptables, nfnetlink
from netk8s.collect._text import Text
from netk8s.collect.armed import LAST_CHAINS, Armed, armed
from netk8s.collect.connection import Came, Reserved
from netk8s.collect.nfnetlink import TraceEvent
from netk8s.model import TCP, UDP, Addr, ConntrackEntry, Observation, Packet, Reached, Sighting, TracedRule

QUIET = 0.05
"""Seconds without news after which a trace is over."""
SPARE = 5.0
"""Seconds a trace may stay armed beyond what the probe is given."""


def observe(
    reserved: Reserved,
    *,
    node: str,
    source: str,
    timeout: float,
    wait: bool = False,
    say: Callable[[str], None] = lambda _: None,
    ready: Callable[[], None] = lambda: None,
) -> Observation:
    """Arms, sends (or with ``wait`` waits for somebody else to send), reads. Raises CollectError.

    ``ready`` is called between arming and sending.
    """
    packet = reserved.packet
    began = datetime.now(UTC).isoformat(timespec="seconds")
    with armed(packet, timeout + SPARE, say) as trace:
        ready()
        if wait:
            came = Came("timeout")
            events = list(_events(trace, timeout, quiet=1.0, need_first=True))
        else:
            came = reserved.send(timeout)
            events = list(_events(trace, QUIET))
        entry = nfnetlink.conntrack_entry(packet)
        table = trace.table
    path, seen = _told(events, packet, node, table)
    if wait:
        came = _guess(seen, entry)
    endpoint, saw = _ends(packet, seen, entry, came)
    return Observation(
        source, packet, came.result, came.answer, endpoint, saw, tuple(seen), tuple(path), (node,), entry, began
    )


def _events(trace: Armed, patience: float, quiet: float = QUIET, need_first: bool = False) -> Iterator[TraceEvent]:
    """What the trace says until it has been silent for a while."""
    end = time.monotonic() + patience
    got = False
    while True:
        left = quiet if got or not need_first else end - time.monotonic()
        if left <= 0:
            return
        ready, _, _ = select.select(trace.sources, [], [], left)
        if not ready:
            return
        for event in trace.read():
            got = True
            yield event


def _guess(seen: list[Sighting], entry: ConntrackEntry | None) -> Came:
    """What came of a packet that somebody else sent, as far as the node can tell: whether there was an answer."""
    if entry is not None and "UNREPLIED" not in entry.flags and seen:
        return Came("connected", "as the conntrack entry has it")
    return Came("timeout", "nothing the node could see")


# ---------------------------------------------------------------- events in the dumps' words


def _told(
    events: Iterable[TraceEvent], packet: Packet, node: str, table: str
) -> tuple[list[TracedRule], list[Sighting]]:
    """The rules that matched and the places where the packet was seen, of its first passage."""
    found = list(_of_packet(events, packet))
    names = dict(socket.if_nameindex())
    texts = Texts(packet.family) if any(event.table != table for event in found) else None
    path: list[TracedRule] = []
    seen: list[Sighting] = []
    at_hook = {chain: hook for hook, chain in LAST_CHAINS.items()}
    for event in found:
        if table and event.table == table:
            if event.chain in at_hook and (headers := parse(event.header)) is not None:
                hook = at_hook[event.chain]
                device = event.oif if hook in ("output", "postrouting", "forward") else event.iif
                seen.append(Sighting(hook, replace(headers, mark=event.mark), node, names.get(device)))
        elif texts is not None:
            rule = texts.rule(event)
            if rule is not None:
                path.append(TracedRule(node, event.table, rule[0], rule[1], event.action, event.backend))
            elif event.kind == "policy" and (action := texts.policy(event)) in ("drop", "reject"):
                path.append(TracedRule(node, event.table, event.chain, None, action, event.backend))
    return path, seen


def _of_packet(events: Iterable[TraceEvent], packet: Packet) -> Iterator[TraceEvent]:
    """The events of the packet's first passage, in the order they came; those of other people's traces are left out.

    nft says which packet with the first event of each base chain only; the others have its trace id. Behind SNAT
    neither address nor port tells the packet, but what NAT leaves alone does; a SYN that is sent again has another.
    """
    current: dict[int, bool] = {}
    first: tuple[int, ...] | None = None
    for event in events:
        if event.header:
            headers = parse(event.header)
            if first is None and headers is not None and (headers.src, headers.sport) == (packet.src, packet.sport):
                first = _untranslated(event.header)
            current[event.trace_id] = first is not None and _untranslated(event.header) == first
        if current.get(event.trace_id):
            yield event


def _untranslated(header: bytes) -> tuple[int, ...]:
    """What no NAT changes in a packet: its protocol, IPv4 identification or IPv6 flow label, TCP sequence number."""
    if header[0] >> 4 == 4:
        start, protocol, label = (header[0] & 15) * 4, header[9], struct.unpack_from("!H", header, 4)[0]
    elif len(header) >= 40:
        start, protocol, label = 40, header[6], struct.unpack_from("!I", header)[0] & 0xFFFFF
    else:
        return ()
    sequence = struct.unpack_from("!I", header, start + 4)[0] if protocol == TCP and len(header) >= start + 8 else 0
    return protocol, label, sequence


def parse(header: bytes) -> Packet | None:
    """The addresses and ports of a packet from its IP header on."""
    if len(header) >= 20 and header[0] >> 4 == 4:
        start, protocol = (header[0] & 15) * 4, header[9]
        src, dst = ip_address(header[12:16]), ip_address(header[16:20])
    elif len(header) >= 40 and header[0] >> 4 == 6:
        start, protocol = 40, header[6]
        src, dst = ip_address(header[8:24]), ip_address(header[24:40])
    else:
        return None
    sport = dport = None
    if protocol in (TCP, UDP) and len(header) >= start + 4:
        sport, dport = struct.unpack_from("!HH", header, start)
    return Packet(protocol, src, dst, sport, dport)


class Texts:
    """The rules of the node as they are now, by what a trace calls them."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._saved: dict[str, dict[tuple[str, str], list[str]]] = {"nft": {}, "legacy": {}}
        self._policies: dict[tuple[str, str, str], str] = {}
        self._places: dict[int, dict[tuple[str, int], nfnetlink.Place]] = {}
        self._native: dict[tuple[str, int], tuple[str, str]] | None = None
        for saved in iptables.saved(family):
            text = saved.data.decode("utf-8", "replace") if isinstance(saved, Text) else ""
            # Before 1.8 the header does not name the backend, and there was the legacy one alone.
            backend = "nft" if "nf_tables" in text.partition("\n")[0] else "legacy"
            self._read(backend, text)

    def _read(self, backend: str, text: str) -> None:
        table = ""
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:].strip()
            elif line.startswith(":"):
                words = line[1:].split()
                self._policies[backend, table, words[0]] = words[1].lower()
            elif line.startswith("-A "):
                self._saved[backend].setdefault((table, line.split(" ", 2)[1]), []).append(line.strip())

    def rule(self, event: TraceEvent) -> tuple[str, str] | None:
        """(chain, text) of a rule that matched; None for a policy, and for the end of a chain.

        The legacy trace says "return" and "policy" of unconditional rules too: the number tells, against the chain's
        length.
        """
        if event.backend == "legacy":
            rules = self._saved["legacy"].get((event.table, event.chain), [])
            return (event.chain, rules[event.number - 1]) if 1 <= event.number <= len(rules) else None
        # A "rule" without a handle is the end of a chain (nft_trace_notify since Linux 6.4).
        if event.kind != "rule" or not event.handle:
            return None
        if event.family not in self._places:
            self._places[event.family] = nfnetlink.rule_places(event.family)
        place = self._places[event.family].get((event.table, event.handle))
        rules = self._saved["nft"].get((event.table, place.chain), []) if place and event.family else []
        if place and place.position <= len(rules):
            return place.chain, rules[place.position - 1]
        return self._by_handle(event) or (event.chain, f"handle {event.handle}")

    def _by_handle(self, event: TraceEvent) -> tuple[str, str] | None:
        """A rule of a native table, in nft's words."""
        if self._native is None:
            self._native = {}
            with suppress(OSError):
                argv = ("nft", "-a", "list", "ruleset")
                text = subprocess.run(argv, capture_output=True, text=True, check=False).stdout  # noqa: S603
                self._native = dict(_native(text))
        return self._native.get((event.table, event.handle))

    def policy(self, event: TraceEvent) -> str:
        if event.backend == "nft":
            return event.action
        return self._policies.get(("legacy", event.table, event.chain), "")


_COUNTER = re.compile(r"\bcounter packets \d+ bytes \d+")


def _native(text: str) -> Iterator[tuple[tuple[str, int], tuple[str, str]]]:
    """((table, handle), (chain, rule)) of what ``nft -a list ruleset`` prints."""
    table = chain = ""
    for line in text.splitlines():
        words = line.split()
        body, mark, handle = line.strip().rpartition(" # handle ")
        if words[:1] == ["table"]:
            table = words[2]
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif mark and handle.isdigit() and not body.endswith("{"):
            yield (table, int(handle)), (chain, _COUNTER.sub("counter", body.strip()))


# ---------------------------------------------------------------- where it ended


def _ends(
    packet: Packet, seen: list[Sighting], entry: ConntrackEntry | None, came: Came
) -> tuple[Reached | None, Addr | None]:
    """(what the packet was sent to in the end, the source it had there), as this node knows them.

    The conntrack entry tells both ends of an answer. Without one (dropped before it was confirmed) the last sighting
    does.
    """
    answered = came.result in ("connected", "refused")
    if entry is not None:
        return Reached(entry.reply.src, entry.reply.sport), entry.reply.dst if answered else None
    if not seen:
        return None, None
    last = seen[-1]
    end = Reached(last.packet.dst, last.packet.dport)
    return end, last.packet.src if answered and last.place in ("postrouting", "input") else None
