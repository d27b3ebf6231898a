"""The kernel's own trace, armed for one packet and taken back on every way out.

Armed means: an nftables table of our own whose first chains (priority -350, ahead of raw) set the trace bit on the
probe's first packet, and whose last chains (priority 320, behind srcnat) show it once more when a hook is done. The
trace bit is the packet's (``skb->nf_trace``): iptables-nft, native nftables and iptables-legacy all heed it, so no
table of anybody else is touched, no rule number shifts, and a restore by kube-proxy does not take it away. Where there
is no ``nft``, a TRACE rule is put first into raw PREROUTING and OUTPUT instead.

Everything of ours has a name that says whose it is and until when. A watchdog (:mod:`.watchdog`) is started before
anything is changed; leftovers of a watchdog that was killed as well are removed by the next run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct, field

from netk8s.collect import watchdog
from netk8s.collect.iptables import legacy_tables
from netk8s.collect.nfnetlink import LegacyTrace, NftTrace, TraceEvent
from netk8s.errors import CollectError
from netk8s.model import PROTOCOL_NAMES, TCP, Packet

PREFIX = "netk8s_verify_"
FIRST, LAST = -350, 320
_OURS = re.compile(rf"\b{PREFIX}(\d+)_(\d+)\b")

# A chain of ours by its hook: the last look at a packet in that hook.
LAST_CHAINS = {
    "prerouting": "in_last",
    "input": "local",
    "forward": "forward",
    "output": "out_last",
    "postrouting": "left",
}
_NFLOG = "nfnetlink_log"


class Armed(Struct):
    """A trace that is armed. ``table`` is our own table's name, "" where it is a TRACE rule."""

    table: str
    name: str
    until: float
    _sources: list[NftTrace | LegacyTrace] = field(default_factory=list)

    def read(self) -> Iterator[TraceEvent]:
        """The events that are there; does not wait."""
        for source in self._sources:
            yield from source.read()

    @property
    def sources(self) -> tuple[NftTrace | LegacyTrace, ...]:
        return tuple(self._sources)


def table_text(name: str, packet: Packet) -> str:
    """Our table, for ``nft -f``: bound to the first packet of one connection."""
    match = f"{_match(packet)} meta nftrace set 1"
    first = f"type filter hook %s priority {FIRST}; policy accept; {match};"
    last = f"type filter hook %s priority {LAST}; policy accept;"
    chains = [
        f" chain {chain} {{ {first % hook} }}\n"
        for chain, hook in (("in_first", "prerouting"), ("out_first", "output"))
    ]
    chains += [f" chain {chain} {{ {last % hook} }}\n" for hook, chain in LAST_CHAINS.items()]
    return f"table inet {name} {{\n{''.join(chains)}}}\n"


def _match(packet: Packet) -> str:
    ip, name = "ip" if packet.family == 4 else "ip6", PROTOCOL_NAMES[packet.protocol]
    words = [f"{ip} saddr {packet.src} {ip} daddr {packet.dst} {name} sport {packet.sport} {name} dport {packet.dport}"]
    if packet.protocol == TCP:
        words.append("tcp flags & (fin | syn | rst | ack) == syn")
    return " ".join(words)


def rule_words(name: str, packet: Packet) -> tuple[str, ...]:
    """The TRACE rule, without the command and chain."""
    protocol = PROTOCOL_NAMES[packet.protocol]
    flags = ("--tcp-flags", "FIN,SYN,RST,ACK", "SYN") if packet.protocol == TCP else ()
    return (
        "-s", str(packet.src), "-d", str(packet.dst), "-p", protocol, "-m", protocol, "--sport", str(packet.sport),
        "--dport", str(packet.dport), *flags, "-m", "comment", "--comment", name, "-j", "TRACE",
    )  # fmt: skip


@contextmanager
def armed(packet: Packet, seconds: float, say: Callable[[str], None] = lambda _: None) -> Iterator[Armed]:
    """The kernel traces the packet for the time of the block, and at most ``seconds``. Raises CollectError."""
    clean(say)
    until = time.time() + seconds
    name = f"{PREFIX}{os.getpid()}_{int(until)}"
    nft = shutil.which("nft")
    arm: list[tuple[str, ...]]
    if nft:
        arm, undo = [(nft, "-f", "-")], [[nft, "delete", "table", "inet", name]]
    else:
        arm, undo = _by_rule(name, packet)
    settings = _loggers(packet.family)
    sources: list[NftTrace | LegacyTrace] = []
    guard = _guard(seconds, undo, {path: before for path, before, _ in settings})
    try:
        sources.append(NftTrace())
        if settings or legacy_tables(packet.family):
            sources.append(LegacyTrace())
        for path, _, wanted in settings:
            Path(path).write_text(wanted)
        for argv in arm:
            _run(argv, table_text(name, packet) if nft else "")
        yield Armed(name if nft else "", name, until, sources)
    except OSError as error:
        raise CollectError(f"the kernel's trace cannot be armed: {error}") from None
    finally:
        watchdog.undo(undo, {path: before for path, before, _ in settings})
        for source in sources:
            source.close()
        _release(guard)


def _by_rule(name: str, packet: Packet) -> tuple[list[tuple[str, ...]], list[list[str]]]:
    command = "iptables" if packet.family == 4 else "ip6tables"
    binary = shutil.which(f"{command}-legacy") if legacy_tables(packet.family) else None
    binary = binary or shutil.which(command)
    if binary is None:
        raise CollectError(f"neither nft nor {command} is installed: the kernel's trace cannot be armed")
    words = rule_words(name, packet)
    arm = [(binary, "-w", "5", "-t", "raw", "-I", chain, "1", *words) for chain in ("PREROUTING", "OUTPUT")]
    undo = [[binary, "-w", "5", "-t", "raw", "-D", chain, *words] for chain in ("PREROUTING", "OUTPUT")]
    return arm, undo


def _loggers(family: int) -> list[tuple[str, str, str]]:
    """(sysctl file, its value, the value that is needed) where the legacy tables' trace does not go to netlink."""
    if not legacy_tables(family):
        return []
    path = f"/proc/sys/net/netfilter/nf_log/{2 if family == 4 else 10}"
    try:
        before = Path(path).read_text().strip()
    except OSError:
        return []
    return [(path, before, _NFLOG)] if before != _NFLOG else []


def _guard(seconds: float, commands: Sequence[Sequence[str]], settings: dict[str, str]) -> subprocess.Popen[bytes]:
    """A watchdog that is on guard."""
    words = json.dumps({"seconds": seconds, "commands": commands, "settings": settings}).encode() + b"\n"
    argv = [sys.executable, "-I", "-S", str(Path(watchdog.__file__))]
    process = subprocess.Popen(  # noqa: S603 (our own file)
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipe")
        process.stdin.write(words)
        process.stdin.flush()
        if process.stdout.readline() != b"ready\n":
            raise OSError("it ended at once")
    except OSError as error:
        _release(process)
        raise CollectError(
            f"the watchdog that would remove the trace did not start ({error}); nothing was armed"
        ) from None
    return process


def _release(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.write(watchdog.DONE)
            process.stdin.flush()
            process.stdin.close()
    if process.stdout is not None:
        process.stdout.close()
    process.wait()


def _run(argv: Sequence[str], stdin: str) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)  # noqa: S603 (our own words)
    if done.returncode:
        raise OSError(f"{' '.join(argv[:6])}: {' '.join(done.stderr.split())[:300]}")
    return done.stdout


# ---------------------------------------------------------------- leftovers


def leftovers() -> list[tuple[str, list[str]]]:
    """(name, command that removes it) of what earlier runs left in this namespace and nobody watches any more."""
    found: list[tuple[str, list[str]]] = []
    nft = shutil.which("nft")
    if nft:
        with suppress(OSError):
            for line in _run((nft, "list", "tables", "inet"), "").splitlines():
                name = line.split()[-1] if line.split() else ""
                if _OURS.fullmatch(name) and _over(name):
                    found.append((name, [nft, "delete", "table", "inet", name]))
        return found
    for command in ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"):
        binary = shutil.which(command)
        family = 6 if command.startswith("ip6") else 4
        if not binary or (command.endswith("legacy") and "raw" not in legacy_tables(family)):
            continue
        with suppress(OSError):
            for line in _run((binary, "-w", "5", "-t", "raw", "-S"), "").splitlines():
                ours = _OURS.search(line)
                if ours and line.startswith("-A ") and _over(ours[0]):
                    found.append((ours[0], [binary, "-w", "5", "-t", "raw", "-D", *line.split()[1:]]))
    return found


def _over(name: str) -> bool:
    """Whether a name's time is over. Its process says nothing: it may be one of another PID namespace."""
    found = _OURS.fullmatch(name)
    return found is not None and time.time() > int(found[2])


def clean(say: Callable[[str], None] = lambda _: None) -> None:
    """Removes what earlier runs left."""
    for name, argv in leftovers():
        say(f"removing {name}, which an earlier run left")
        watchdog.undo([argv], {})
