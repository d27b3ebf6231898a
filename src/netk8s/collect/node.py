"""The node this runs on, as texts: what its own tools print, taken the way docs/howto/collect-dumps.md says.

Nothing is changed. The legacy tables are read only where there are any: asking iptables-legacy-save for a table that
is not there would register it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netk8s.model import Dump, Missing, Snapshot

PATIENCE = 60
"""Seconds for one command: iptables-save of a million rules takes some."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One command: the name its text has in a snapshot, and what that text is needed for."""

    name: str
    argv: tuple[str, ...]
    needed_for: str


READERS = (
    Reader("ip-link.json", ("ip", "-j", "-d", "link"), "devices and bridges"),
    Reader("ip-addr.json", ("ip", "-j", "addr"), "the addresses that MASQUERADE takes"),
    Reader("ip-route.json", ("ip", "-j", "route", "show", "table", "all"), "where the packet goes on"),
    Reader("ip6-route.json", ("ip", "-j", "-6", "route", "show", "table", "all"), "where an IPv6 packet goes on"),
    Reader("ip-rule.json", ("ip", "-j", "rule"), "which routing table is asked"),
    Reader("ip-neigh.json", ("ip", "-j", "neigh"), "whether the next hop answers"),
    Reader("bridge-fdb.json", ("bridge", "-j", "fdb"), "where a tunnel's frames go"),
    Reader("listening.txt", ("ss", "-Hlntu"), "whether a process answers on the node itself"),
)
SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/fib_multipath_hash_policy",
    "net/ipv4/conf/*/*",
    "net/ipv4/vs/*",
    "net/ipv6/conf/*/forwarding",
    "net/bridge/*",
    "net/netfilter/nf_conntrack_*",
)


def take(node: str) -> Snapshot:
    """The node's texts. What cannot be taken is in ``missing`` with the reason."""
    dumps: list[Dump] = []
    missing: list[Missing] = []
    for reader in (*rule_readers(), *READERS):
        origin = f"nodes/{node}/{reader.name}"
        try:
            text = _output(reader.argv)
        except (OSError, subprocess.SubprocessError) as error:
            missing.append(Missing(f"{origin} ({' '.join(reader.argv)}: {_why(error)})", reader.needed_for))
            continue
        dumps.append(Dump(origin, text, node))
    dumps.append(Dump(f"nodes/{node}/sysctl.txt", settings().encode(), node))
    return Snapshot(tuple(dumps), tuple(missing))


def rule_readers() -> Iterator[Reader]:
    """The commands for the rules of every backend that holds some."""
    what = "the rules the packet meets"
    for family, name in ((4, "iptables"), (6, "ip6tables")):
        nft, legacy = _binary(name, "nft"), _binary(name, "legacy")
        # The list of legacy tables is there once any was used; it needs no table to be read.
        registered = legacy_tables(family)
        if nft:
            yield Reader(f"{name}-save.txt", (nft,), what)
        if legacy and registered:
            yield Reader(f"{name}-{'legacy-' if nft else ''}save.txt", (legacy,), what)
        if not nft and not legacy:
            yield Reader(f"{name}-save.txt", (f"{name}-save",), what)
    if shutil.which("nft"):
        yield Reader("nft-ruleset.txt", ("nft", "list", "ruleset"), what)
    if shutil.which("ipset"):
        yield Reader("ipset-save.txt", ("ipset", "save"), "what a rule with -m set matches")
    if os.path.exists("/proc/net/ip_vs") and shutil.which("ipvsadm"):
        yield Reader("ipvsadm-save.txt", ("ipvsadm", "-Sn"), "what IPVS balances")


def legacy_tables(family: int) -> tuple[str, ...]:
    """The tables of iptables-legacy that exist in this namespace."""
    try:
        text = Path(f"/proc/thread-self/net/{'ip' if family == 4 else 'ip6'}_tables_names").read_text()
    except OSError:
        return ()
    return tuple(text.split())


def _binary(name: str, backend: str) -> str:
    """The -save program of a backend, "" if there is none: by its own name, else by what the plain one says it is."""
    own = shutil.which(f"{name}-{backend}-save")
    if own:
        return own
    plain = shutil.which(f"{name}-save")
    if not plain:
        return ""
    try:
        version = _output((plain, "-V")).decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError):
        return ""
    # Before 1.8 there was one backend, and the version did not name it.
    return plain if ("nf_tables" in version) == (backend == "nft") else ""


def _output(argv: Sequence[str]) -> bytes:
    done = subprocess.run(argv, capture_output=True, check=False, timeout=PATIENCE)  # noqa: S603 (the readers' own words)
    if done.returncode:
        raise OSError(done.stderr.decode("utf-8", "replace").strip() or f"status {done.returncode}")
    return done.stdout


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "not installed"
    return " ".join(str(error).split())[:200]


def settings() -> str:
    """Kernel settings as ``sysctl`` prints them. /proc/sys/net shows the namespace of who reads it."""
    lines = []
    for pattern in SETTINGS:
        for path in Path("/proc/sys").glob(pattern):
            with suppress(OSError, UnicodeDecodeError):
                # sysctl(8): a dot in a device's name is written as a slash.
                name = ".".join(part.replace(".", "/") for part in path.relative_to("/proc/sys").parts)
                lines.append(f"{name} = {' '.join(path.read_text().split())}\n")
    return "".join(sorted(lines))
