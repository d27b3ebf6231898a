"""Network namespaces: going into one and back, and finding that of a pod.

A socket stays in the namespace it was made in (net/core/sock.c, sk_alloc), and a child process begins in that of its
parent. So going in, making one of these, and coming back is enough; setns(2) moves the calling thread alone.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from netk8s.collect import _wire
from netk8s.collect.nfnetlink import attributes
from netk8s.errors import CollectError, UsageError
from netk8s.model import Addr

CLONE_NEWNET = 0x40000000
RTM_GETNSID, RTM_NEWNSID = 90, 88
RTM_GETLINK, LINK_NETNSID = 18, 37
NETNSA_NSID, NETNSA_FD = 1, 3
# setns(2) into a network namespace, and a look at the namespaces of other users' processes (proc(5), ptrace(2)).
_CAPABILITIES = ((21, "CAP_SYS_ADMIN"), (19, "CAP_SYS_PTRACE"))


def path_of(word: str) -> str:
    """The file of a namespace that was named by its file, or by the id of a process in it."""
    path = f"/proc/{word}/ns/net" if word.isdecimal() else word
    if not os.path.exists(path):
        raise UsageError(f"there is no network namespace at {path}; give /run/netns/NAME, /proc/PID/ns/net or a PID")
    return path


@contextmanager
def entered(path: str | None) -> Iterator[None]:
    """In a network namespace for the time of the block; None: where we are. Raises CollectError."""
    if path is None:
        yield
        return
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        try:
            there = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise CollectError(f"the network namespace {path} cannot be opened: {error.strerror}") from None
        try:
            _setns(there, path)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(back, "it came from")
    finally:
        os.close(back)


def _setns(fd: int, path: str) -> None:
    # os.setns is there from Python 3.12 on.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise CollectError(f"cannot enter the network namespace {path}: {os.strerror(number)}; that needs root")


def why_closed() -> str:
    """Why the namespaces of pods cannot be entered from here, "" when they can."""
    status = dict(line.partition(":")[::2] for line in Path("/proc/thread-self/status").read_text().splitlines())
    effective = int(status.get("CapEff", "0"), 16)
    lacking = [name for number, name in _CAPABILITIES if not effective >> number & 1]
    if lacking:
        return f"entering pods' network namespaces takes {' and '.join(lacking)}, which this process has not"
    if next(_known(), None) is None:
        return "no other network namespace can be seen from here; that takes the node's process ids (hostPID)"
    return ""


def identity(path: str | None = None) -> tuple[int, int]:
    """What tells a namespace from every other one: device and inode of its file."""
    found = os.stat(path or "/proc/thread-self/ns/net")
    return found.st_dev, found.st_ino


def hangs_on(path: str, nsids: Iterable[int]) -> bool:
    """Whether a namespace is one of those that our veth devices lead to (``nsids``: their ``link-netnsid``)."""
    number = _nsid(path)
    return number >= 0 and number in set(nsids)


def of_pod(ip: Addr, nsids: Iterable[int]) -> str:
    """The namespace of a pod with this address that hangs on the namespace we are in.

    ``nsids`` are the peers that this namespace's veth devices name (``link-netnsid``): only a namespace that the kernel
    knows by one of these numbers is taken, for an address may be there a second time in somebody else's namespace.
    Raises UsageError when there is not exactly one.
    """
    return the_one(ip, _having([ip], nsids).get(ip, []))


def the_one(ip: Addr, found: Sequence[str]) -> str:
    """The only namespace that was found to have an address. Raises UsageError when there is not exactly one."""
    if len(found) != 1:
        why = "no network namespace behind this node's veth devices has" if not found else "several namespaces have"
        raise UsageError(f"{why} the address {ip}; name the pod's with --from-namespace /proc/PID/ns/net", found)
    return found[0]


def behind_veths(ips: Iterable[Addr]) -> dict[Addr, list[str]]:
    """The namespaces behind the veth devices of the one we are in that have these addresses. Raises CollectError."""
    links = _wire.asked(_wire.ROUTE, RTM_GETLINK, bytes(16))
    peers = [found[LINK_NETNSID] for _, payload in links if LINK_NETNSID in (found := attributes(payload[16:]))]
    return _having(ips, [int.from_bytes(number, sys.byteorder, signed=True) for number in peers])


def _having(ips: Iterable[Addr], nsids: Iterable[int]) -> dict[Addr, list[str]]:
    wanted, numbers = set(ips), set(nsids)
    found: dict[Addr, list[str]] = {}
    for path in _known():
        if _nsid(path) not in numbers:
            continue
        with suppress(CollectError), entered(path):
            for ip in wanted & _addresses():
                found.setdefault(ip, []).append(path)
    return found


def _known() -> Iterator[str]:
    """One file of each network namespace but our own that a process is in or that has a name."""
    seen = {identity()}
    for path in (
        *Path("/run/netns").glob("*"),
        *Path("/var/run/docker/netns").glob("*"),
        *Path("/proc").glob("[0-9]*/ns/net"),
    ):
        with suppress(OSError):
            this = identity(str(path))
            if this not in seen:
                seen.add(this)
                yield str(path)


def _nsid(path: str) -> int:
    """The number by which this namespace knows another, -1 for none (rtnetlink(7), net/core/net_namespace.c)."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return -1
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            body = struct.pack("=Bxxx", 0) + struct.pack("=HHI", 8, NETNSA_FD, fd)
            sock.send(struct.pack("=IHHII", 16 + len(body), RTM_GETNSID, 1, 1, 0) + body)
            answer = sock.recv(4096)
    except OSError:
        return -1
    finally:
        os.close(fd)
    if struct.unpack_from("=H", answer, 4)[0] != RTM_NEWNSID:
        return -1
    at = 20
    while at + 8 <= len(answer):
        length, kind, value = struct.unpack_from("=HHi", answer, at)
        if kind == NETNSA_NSID:
            return int(value)
        at += max((length + 3) & ~3, 4)
    return -1


def _addresses() -> set[Addr]:
    """The addresses of the namespace we are in (/proc/thread-self/net shows the thread's)."""
    out: set[Addr] = set()
    with suppress(OSError):
        before = ""
        for line in Path("/proc/thread-self/net/fib_trie").read_text().splitlines():
            if "/32 host LOCAL" in line:
                out.add(IPv4Address(before))
            before = line.rpartition(" ")[2]
    with suppress(OSError):
        for line in Path("/proc/thread-self/net/if_inet6").read_text().splitlines():
            out.add(IPv6Address(bytes.fromhex(line.split()[0])))
    return out
