"""What the process in a namespace can do. Runs in the forked process only (:mod:`.agent`)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .frames import Probe, Seen, parse_frame, parse_ip
from .netlink import LegacyTrace, NftTrace, TraceEvent, flush_conntrack, nft_rule_handles

CONNECT_TIMEOUT = 0.85  # before the first SYN is repeated, as in the corpus
ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
IP_RECVERR, IPV6_RECVERR = 11, 25

OBSERVER = "nk_observer"
_FIRST = "type filter hook {hook} priority -350; policy accept; meta nftrace set 1;"
_LAST = "type filter hook {hook} priority {priority}; policy accept;"
# The observer marks every packet for tracing before any rule, and shows it after the last one of a hook, when NAT is
# done. A table of its own: the rules under test keep their numbers, and no restore touches it. 320 is behind nat (100).
# The ct match in it keeps conntrack on: a namespace where no rule needs conntrack has none, and there the nat tables
# are never asked (nf_ct_netns_get). Every node of a cluster has such rules; a shrunk ruleset may not.
OBSERVER_RULES = f"""table inet {OBSERVER} {{
 chain in_first {{ {_FIRST.format(hook="prerouting")} }}
 chain out_first {{ {_FIRST.format(hook="output")} }}
 chain in_last {{ {_LAST.format(hook="prerouting", priority=320)} }}
 chain local {{ {_LAST.format(hook="input", priority=320)} }}
 chain forward {{ {_LAST.format(hook="forward", priority=320)} }}
 chain out_last {{ {_LAST.format(hook="output", priority=320)} }}
 chain left {{ {_LAST.format(hook="postrouting", priority=320)} }}
 chain unused {{ ct state new accept; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Connected:
    """What a connection attempt came to, in the words of the corpus' observed.jsonl."""

    result: str
    endpoint: str | None = None
    pod: str | None = None
    seen_src_ip: str | None = None
    src_ip: str | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A packet as one of the observer's chains saw it; ``at`` is that chain."""

    at: str
    packet: Seen
    iif: str
    oif: str
    mark: int


@dataclass(frozen=True, slots=True)
class Matched:
    """One event of the rules under test: a rule that matched (``number`` from 1), or a chain's policy (number 0).

    ``backend`` legacy or nft; of nft the table's family (``nfproto``) and the verdict, 0 for drop.
    """

    table: str
    chain: str
    number: int
    mark: int
    backend: str = "legacy"
    nfproto: int = 0
    verdict: int | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """All that the kernel said of one packet, and the packets that were made in answer to it, in order."""

    matched: tuple[Matched, ...]
    sightings: tuple[Sighting, ...]
    answers: tuple[Sighting, ...]
    """Packets the node itself made because of this one: ICMP errors and TCP resets, at every chain that saw them."""


class Worker:
    """The commands of a namespace. Each method is one command; what it takes and returns can be pickled."""

    def __init__(self, name: str) -> None:
        self.name = name
        # A lock file of its own, in memory: the usual one is the whole machine's, and one on disk would stay behind.
        self._lock = os.memfd_create("xtables.lock")
        self._environment = {**os.environ, "XTABLES_LOCKFILE": f"/proc/{os.getpid()}/fd/{self._lock}"}
        self._taps: dict[str, socket.socket] = {}
        self._raw: dict[str, socket.socket] = {}
        self._traces: tuple[LegacyTrace, NftTrace] | None = None
        self._handles: dict[tuple[int, str, int], tuple[str, int]] = {}
        self._backend = "legacy"
        self._names: dict[int, str] = {}

    # ------------------------------------------------------------ commands and settings

    def run(self, argv: Sequence[str], stdin: str | None = None) -> str:
        """Runs a program, returns what it printed; OSError with what it complained of when it fails."""
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=self._environment, check=False)
        if done.returncode:
            raise OSError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
        return done.stdout

    def ip(self, lines: Sequence[str]) -> None:
        """Runs many ``ip`` commands in one process."""
        if lines:
            self.run(["ip", "-batch", "-"], "\n".join(lines) + "\n")

    def sysctl(self, values: Mapping[str, str]) -> None:
        """Sets kernel settings by dotted name; /proc/sys shows the namespace of who reads it."""
        for name, value in values.items():
            _sysctl_path(name).write_text(value)

    def read_sysctls(self, patterns: Sequence[str]) -> str:
        """Settings as ``name = value`` lines, sorted; ``*`` stands for a device's name."""
        lines = []
        for pattern in patterns:
            for path in Path("/proc/sys").glob(pattern.replace(".", "/")):
                with contextlib.suppress(OSError):
                    name = str(path.relative_to("/proc/sys")).replace(".", "|").replace("/", ".").replace("|", "/")
                    lines.append(f"{name} = {path.read_text().strip()}")
        return "".join(line + "\n" for line in sorted(lines))

    def pid(self) -> int:
        return os.getpid()

    def flush_conntrack(self) -> None:
        flush_conntrack()

    # ------------------------------------------------------------ responders and connections

    def listen(self, protocol: str, ip: str, port: int, name: str = "") -> None:
        """Answers on TCP or UDP with its name, its own address and the peer's. ip "": all of both families."""
        family = socket.AF_INET6 if ":" in ip or not ip else socket.AF_INET
        kind = socket.SOCK_STREAM if protocol.lower() == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(family, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(ip)))
        sock.bind((ip or "::", port))
        if kind == socket.SOCK_STREAM:
            sock.listen(64)
        answer = _answer_streams if kind == socket.SOCK_STREAM else _answer_datagrams
        threading.Thread(target=answer, args=(sock, name or self.name, ip, port), daemon=True).start()

    def connect(
        self, ip: str, port: int, protocol: str = "tcp", source: str = "", timeout: float = CONNECT_TIMEOUT
    ) -> Connected:
        """Makes one connection and says what came of it."""
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        kind = socket.SOCK_STREAM if protocol.lower() == "tcp" else socket.SOCK_DGRAM
        with socket.socket(family, kind) as sock:
            sock.settimeout(timeout)
            if kind == socket.SOCK_DGRAM:
                # Without it an unconnected error (host unreachable, prohibited) is not reported for UDP.
                level = (
                    (socket.IPPROTO_IPV6, IPV6_RECVERR)
                    if family == socket.AF_INET6
                    else (socket.IPPROTO_IP, IP_RECVERR)
                )
                sock.setsockopt(*level, 1)
            src = None
            try:
                if source:
                    sock.bind((source, 0))
                sock.connect((ip, port))
                src = sock.getsockname()[0]
                if kind == socket.SOCK_DGRAM:
                    sock.send(b"who")
                data = sock.recv(4096)
            except TimeoutError:
                return Connected("timeout", src_ip=src)
            except ConnectionError:
                return Connected("refused", src_ip=src)
            except OSError as error:
                if error.errno in (
                    errno.EHOSTUNREACH,
                    errno.ENETUNREACH,
                    errno.EACCES,
                    errno.EPERM,
                    errno.EINVAL,
                    errno.ENOPROTOOPT,
                ):
                    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED:
                        # Dropped on its way out, and refused by an ICMP error: as IPVS does without real servers.
                        return Connected("refused", src_ip=src)
                    # A local DROP in OUTPUT is EPERM for UDP: on the wire it is silence.
                    return Connected("timeout" if error.errno == errno.EPERM else "unreachable", src_ip=src)
                raise
        if not data:
            return Connected("connected", src_ip=src)
        said = json.loads(data)
        return Connected("connected", said["endpoint"], said["name"], said["peer"], src)

    def ask_source(self, ip: str, port: int, mark: int = 0) -> tuple[str, str]:
        """Connects a UDP socket and sends one datagram: (the source address it got, "" or the errno)."""
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, 36, struct.pack("=I", mark))
            try:
                sock.connect((ip, port))
                sock.send(b"nk8s")
            except OSError as error:
                return "", errno.errorcode.get(error.errno or 0, str(error))
            return str(sock.getsockname()[0]), ""

    # ------------------------------------------------------------ packets

    def tap(self, devices: Sequence[str]) -> dict[str, str]:
        """Starts to catch frames on devices, returns their MACs. Frames sent here are not caught."""
        macs = {}
        for device in devices:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            sock.bind((device, ETH_P_ALL))
            sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            sock.setblocking(False)
            self._taps[device] = sock
            macs[device] = sock.getsockname()[4].hex(":")
        return macs

    def caught(self) -> list[tuple[str, Seen]]:
        """The IP packets caught since the last call, by device."""
        found = []
        for device, sock in self._taps.items():
            while True:
                try:
                    frame = sock.recv(4096)
                except (BlockingIOError, OSError):
                    break
                seen = parse_frame(frame)
                if seen is not None:
                    found.append((device, seen))
        return found

    def send_frame(self, device: str, frame: bytes) -> None:
        """Sends one frame out of a device. A veth delivers it before this returns, as far as softirqs go."""
        sock = self._taps.get(device)
        if sock is None:
            self.tap([device])
            sock = self._taps[device]
        sock.send(frame)

    def send_local(self, probe: Probe) -> str:
        """Sends a packet as a local process does (it enters at OUTPUT); returns "" or why the kernel would not."""
        v6 = probe.family == 6
        key = f"{probe.family}"
        if key not in self._raw:
            sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            sock.setsockopt(*((socket.IPPROTO_IPV6, 36) if v6 else (socket.IPPROTO_IP, 3)), 1)  # HDRINCL
            self._raw[key] = sock
        sock = self._raw[key]
        sock.setsockopt(socket.SOL_SOCKET, 36, struct.pack("=I", probe.mark))  # SO_MARK
        # Without it the kernel looks for a route as for a sender that has no address yet, whatever the header says.
        with contextlib.suppress(OSError):
            sock.bind((probe.src, 0))
        try:
            sock.sendto(probe.ip_bytes(), (probe.dst, 0))
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return ""

    # ------------------------------------------------------------ rules and the kernel's trace

    def load(self, backend: str, family: int, rules: str) -> None:
        """``iptables-<backend>-restore``, the whole of the tables named."""
        command = f"{'ip6' if family == 6 else 'ip'}tables-{backend}-restore"
        self.run([command], rules)
        self._handles = {}

    def save(self, backend: str, family: int, counters: bool = False) -> str:
        command = f"{'ip6' if family == 6 else 'ip'}tables-{backend}-save"
        return self.run([command, "-c"] if counters else [command])

    def load_nft(self, text: str) -> None:
        """``nft -f``, in one transaction."""
        self.run(["nft", "-f", "-"], text)
        self._handles = {}

    def arm(self, backend: str) -> None:
        """Starts to trace every packet of the namespace. ``backend``: whose rules are told, "both" for both."""
        self._backend = backend
        self._handles = {}
        if self._traces is None:
            self._traces = (LegacyTrace(), NftTrace())
            self.run(["nft", "-f", "-"], OBSERVER_RULES)
        self._names = dict(socket.if_nameindex())

    def disarm(self) -> None:
        if self._traces is not None:
            for trace in self._traces:
                trace.close()
            self._traces = None
            self.run(["nft", "delete", "table", "inet", OBSERVER])

    def forget(self) -> None:
        """Throws away what the traces hold."""
        for trace in self._traces or ():
            for _ in trace.read():
                pass

    def probe_local(self, probe: Probe, quiet: float = 0.004) -> tuple[str, Collected]:
        """Sends a packet from here and collects its trace."""
        self.forget()
        return self.send_local(probe), self.collect(probe, quiet)

    def collect(self, probe: Probe, quiet: float = 0.004, patience: float = 0.3) -> Collected:
        """What the kernel said of the packet with the probe's tag. Ends when it said nothing new for ``quiet`` seconds,
        or at once when the packet has been seen at its end.
        """
        assert self._traces is not None, "arm first"
        legacy, nft = self._traces
        legacy_events: list[TraceEvent] = []
        nft_events: list[TraceEvent] = []
        deadline = time.monotonic() + patience
        while True:
            new_legacy, new_nft = list(legacy.read()), list(nft.read())
            legacy_events += new_legacy
            nft_events += new_nft
            if any(
                e.chain in ("local", "left")
                and e.table == OBSERVER
                and _tag(e.header) == probe.tag
                and not self._loops(e)
                for e in nft_events
            ):
                break
            now = time.monotonic()
            if not new_legacy and not new_nft and nft_events:
                time.sleep(quiet)
                legacy_events += list(legacy.read())
                more = list(nft.read())
                nft_events += more
                if not more:
                    break
            if now > deadline:
                break
            if not nft_events:
                time.sleep(0.0005)
        return self._sort(probe, legacy_events, nft_events)

    def _loops(self, event: TraceEvent) -> bool:
        """Whether a packet that leaves by this device comes right back in."""
        return event.chain == "left" and self._names.get(event.oif) == "lo"

    def _sort(self, probe: Probe, legacy: list[TraceEvent], nft: list[TraceEvent]) -> Collected:
        matched: list[Matched] = []
        sightings: list[Sighting] = []
        answers: list[Sighting] = []
        if self._backend in ("legacy", "both"):
            for event in legacy:
                if event.header and _tag(event.header) == probe.tag:
                    matched.append(Matched(event.table, event.chain, _legacy_number(event), event.mark))
        current: dict[int, Seen | None] = {}
        for event in nft:
            if event.header:
                current[event.trace_id] = parse_ip(event.header)
            seen = current.get(event.trace_id)
            if seen is None:
                continue
            ours = seen.tag == probe.tag and seen.inner_tag is None
            if event.table == OBSERVER:
                if not event.header:
                    continue
                sighting = Sighting(event.chain, seen, self._device(event.iif), self._device(event.oif), event.mark)
                if ours:
                    sightings.append(sighting)
                elif _answers(probe, seen):
                    answers.append(sighting)
            elif ours and self._backend in ("nft", "both") and event.kind in ("policy", "rule"):
                chain, number = (event.chain, 0) if event.kind == "policy" else self._place(event)
                matched.append(Matched(event.table, chain, number, event.mark, "nft", event.nfproto, event.verdict))
        return Collected(tuple(matched), tuple(sightings), tuple(answers))

    def _place(self, event: TraceEvent) -> tuple[str, int]:
        if not self._handles:
            self._handles = nft_rule_handles()
        return self._handles.get((event.nfproto, event.table, event.handle), (event.chain, -1))

    def _device(self, index: int) -> str:
        if not index:
            return ""
        if index not in self._names:
            self._names = dict(socket.if_nameindex())
        return self._names.get(index, str(index))


def _legacy_number(event: TraceEvent) -> int:
    # "policy" and "return" also name an unconditional ACCEPT, DROP or RETURN rule: the kernel tells the end of a chain
    # from such a rule by neither. The number tells, against the chain's length: see rules.named().
    return event.number


def _tag(header: bytes) -> int:
    if len(header) >= 20 and header[0] >> 4 == 4:
        return int(struct.unpack_from("!H", header, 4)[0])
    if len(header) >= 40 and header[0] >> 4 == 6:
        return int(struct.unpack_from("!I", header)[0]) & 0xFFFFF
    return 0


def _answers(probe: Probe, seen: Seen) -> bool:
    if seen.inner_tag is not None:
        return seen.inner_tag == probe.tag
    return "RST" in seen.tcp_flags and (seen.ack >> 12) == probe.tag


def _sysctl_path(name: str) -> Path:
    return Path("/proc/sys") / name.replace("/", "\0").replace(".", "/").replace("\0", ".")


def _answer_streams(sock: socket.socket, name: str, ip: str, port: int) -> None:
    while True:
        conn, peer = sock.accept()
        with conn, contextlib.suppress(OSError):
            conn.sendall(_greeting(name, conn.getsockname(), peer))


def _answer_datagrams(sock: socket.socket, name: str, ip: str, port: int) -> None:
    # The address a datagram came to is known only from its ancillary data; the answer must leave from that one.
    sock.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)  # IPV6_RECVPKTINFO
    while True:
        with contextlib.suppress(OSError):
            _, extra, _, peer = sock.recvmsg(2048, 256)
            here = ip
            back = []
            for level, kind, data in extra:
                if level == socket.IPPROTO_IPV6 and kind == 50:
                    here = socket.inet_ntop(socket.AF_INET6, data[:16])
                    back = [(level, kind, data[:16] + b"\0\0\0\0")]
                elif level == socket.IPPROTO_IP and kind == 8 and sock.family == socket.AF_INET:
                    here = socket.inet_ntop(socket.AF_INET, data[8:12])
                    back = [(level, kind, b"\0\0\0\0" + data[8:12] + data[8:12])]
            sock.sendmsg([_greeting(name, (here, port), peer)], back, 0, peer)


def _greeting(name: str, here: tuple[object, ...], peer: tuple[object, ...]) -> bytes:
    own, other = str(here[0]).removeprefix("::ffff:"), str(peer[0]).removeprefix("::ffff:")
    endpoint = f"[{own}]:{here[1]}" if ":" in own else f"{own}:{here[1]}"
    return json.dumps({"name": name, "endpoint": endpoint, "peer": other}).encode()
