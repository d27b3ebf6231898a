"""IPVS as ``ipvsadm -Sn`` prints it: the kernel's generic netlink family IPVS through pyroute2, else ipvsadm itself.

Sources: linux/ip_vs.h, net/netfilter/ipvs/ip_vs_ctl.c (ip_vs_genl_fill_service, ip_vs_genl_fill_dest); ipvsadm's
ipvsadm.c (print_service_entry) for the words.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from netk8s.collect import _wire
from netk8s.collect._netlink import netlink
from netk8s.collect._text import Gap, Text, command, first_of
from netk8s.collect.nfnetlink import attributes
from netk8s.errors import CollectError
from netk8s.model import PROTOCOL_NAMES, SCTP, TCP, UDP

NEEDED_FOR = "what IPVS balances"
NAME, LIST = "ipvsadm-save.txt", "ipvsadm-list.txt"
LOADED = "/proc/net/ip_vs"

GET_SERVICE, GET_DEST = 4, 8
CONTROLLER, GET_FAMILY = 16, 3
# Attributes of a service that name it, and those of services and real servers that packets change.
SERVICE_KEY, COUNTED_SERVICE, COUNTED_DEST = (1, 2, 3, 4, 5), (10, 12), (7, 8, 9, 10, 12)
PERSISTENT, ONE_PACKET = 0x1, 0x4
SCHEDULER_FLAGS = {0x8: "fallback", 0x10: "port", 0x20: ""}
OPTIONS = {TCP: "-t", UDP: "-u", SCTP: "--sctp-service"}
METHODS = {0: "-m", 2: "-i", 3: "-g"}
"""By IP_VS_CONN_F_FWD_MASK. LOCALNODE (1) is what the kernel makes of a connection, never a real server's own."""
LISTED = {"-m": "Masq", "-i": "Tunnel", "-g": "Route", "-p": "persistent", "-M": "mask", "--pe": "pe"}
TUNNELS = {1: "gue", 2: "gre"}
TUNNEL_SUMS = {1: "--tun-csum", 2: "--tun-remcsum"}


def texts() -> Iterator[Text | Gap]:
    """Two texts: the options, and the connections, which also says that there is no virtual server.

    Without the module there is nothing to ask, and ipvsadm would load it.
    """
    if not os.path.exists(LOADED):
        yield Gap(NAME, "the kernel has no IPVS, or its module ip_vs is not loaded", absent=True)
        return
    yield first_of(NAME, netlink("IPVS", saved), command("ipvsadm", "-Sn"))
    yield first_of(LIST, netlink("IPVS", listed), command("ipvsadm", "-Ln"))


def signature() -> bytes:
    """Virtual and real servers with all that they are set to, without what is counted. Raises CollectError."""
    if not os.path.exists(LOADED):
        return b""
    return _wire.again(lambda: b"".join(_settings()))


def _settings() -> Iterator[bytes]:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _wire.GENERIC) as sock:
            sock.settimeout(_wire.PATIENCE)
            named = struct.pack("=BBH", GET_FAMILY, 1, 0) + _wire.attribute(2, b"IPVS\0")
            family = 0
            for _, answer in _wire.talk(sock, CONTROLLER, named, _wire.REQUEST):
                family = int.from_bytes(attributes(answer[4:])[1], sys.byteorder)
            if not family:
                return
            services = struct.pack("=BBH", GET_SERVICE, 1, 0)
            for _, answer in list(_wire.talk(sock, family, services)):
                service = attributes(attributes(answer[4:])[1])
                yield b"".join(_wire.attribute(k, v) for k, v in service.items() if k not in COUNTED_SERVICE)
                key = b"".join(_wire.attribute(k, service[k]) for k in SERVICE_KEY if k in service)
                asked = struct.pack("=BBH", GET_DEST, 1, 0) + _wire.attribute(1 | 0x8000, key)
                for _, listed in _wire.talk(sock, family, asked):
                    real = attributes(attributes(listed[4:])[2])
                    yield b"".join(_wire.attribute(k, v) for k, v in real.items() if k not in COUNTED_DEST)
    except OSError as error:
        raise CollectError(error.strerror or str(error)) from None


def saved() -> bytes:
    """The virtual servers of this namespace as ``ipvsadm -Sn`` prints them, but in the kernel's order."""
    lines: list[str] = []
    for service, reals in _tables():
        name = _named(service)
        lines.append(" ".join(["-A", *name, *_service_options(service)]))
        lines += (" ".join(["-a", *name, *_server_options(real)]) for real in reals)
    return "".join(f"{line}\n" for line in lines).encode()


def listed() -> bytes:
    """The same with their connections, as ``ipvsadm -Ln`` prints them."""
    lines = [
        "IP Virtual Server version 1.2.1 (size=4096)",
        "Prot LocalAddress:Port Scheduler Flags",
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
    ]
    for service, reals in _tables():
        lines.append(" ".join([*_listed_name(service), *_listed_options(service)]))
        for real in reals:
            counts = (real["WEIGHT"], real.get("ACTIVE_CONNS", 0), real.get("INACT_CONNS", 0))
            place, method = _place(real["ADDR"], real["PORT"]), LISTED[METHODS.get(real["FWD_METHOD"] & 7, "-m")]
            lines.append(f"  -> {place:<28} {method:<7} {' '.join(f'{count:<10}' for count in counts)}")
    return "".join(f"{line}\n" for line in lines).encode()


def _tables() -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each virtual server with its real servers."""
    from pyroute2.netlink.generic.ipvs import IPVSSocket

    with IPVSSocket() as asked:
        for service in _dump(asked, GET_SERVICE, "IPVS_CMD_ATTR_SERVICE"):
            yield service, _dump(asked, GET_DEST, "IPVS_CMD_ATTR_DEST", service)


def _dump(asked: Any, command: int, attribute: str, service: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The services, or the real servers of one, by the names of their attributes."""
    from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
    from pyroute2.netlink.generic.ipvs import GENL_VERSION, ipvsmsg

    message = ipvsmsg()
    message["cmd"], message["version"] = command, GENL_VERSION
    if service is not None:
        key = [n for n in ("AF", "PROTOCOL", "ADDR", "PORT", "FWMARK") if n in service]
        attrs = [(f"IPVS_SVC_ATTR_{name}", service[name]) for name in key]
        message["attrs"] = [("IPVS_CMD_ATTR_SERVICE", {"attrs": attrs})]
    answers = asked.nlm_request(message, msg_type=asked.prid, msg_flags=NLM_F_REQUEST | NLM_F_DUMP)
    return [
        {name.rpartition("_ATTR_")[2]: value for name, value, *_ in answer.get_attr(attribute)["attrs"]}
        for answer in answers
    ]


def _named(service: Mapping[str, Any]) -> list[str]:
    """The words that name a virtual server."""
    if "FWMARK" in service:
        return ["-f", str(service["FWMARK"]), *(["-6"] if service["AF"] == socket.AF_INET6 else [])]
    return [OPTIONS[service["PROTOCOL"]], _place(service["ADDR"], service["PORT"])]


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _service_options(service: Mapping[str, Any]) -> Iterator[str]:
    flags, scheduler = int(service["FLAGS"]["flags"]), str(service["SCHED_NAME"])
    yield from ("-s", scheduler)
    names = [
        f"{scheduler}-{word}" if scheduler in ("sh", "mh") and word else f"flag-{number}"
        for number, (bit, word) in enumerate(SCHEDULER_FLAGS.items(), 1)
        if flags & bit
    ]
    if names:
        yield from ("-b", ",".join(names))
    if flags & PERSISTENT:
        yield from ("-p", str(service["TIMEOUT"]))
        yield from _mask(service)
    if flags & ONE_PACKET:
        yield "-o"
    if "PE_NAME" in service:
        yield from ("--pe", str(service["PE_NAME"]))


def _listed_name(service: Mapping[str, Any]) -> list[str]:
    if "FWMARK" in service:
        return ["FWM ", str(service["FWMARK"]), *(["IPv6"] if service["AF"] == socket.AF_INET6 else [])]
    return [f"{PROTOCOL_NAMES[service['PROTOCOL']].upper():<4}", _place(service["ADDR"], service["PORT"])]


def _listed_options(service: Mapping[str, Any]) -> Iterator[str]:
    """The options of ``-A`` in the words of the list."""
    words = _service_options(service)
    for word in words:
        if word == "-o":
            yield "ops"
        else:
            value = next(words)
            yield {"-s": value, "-b": f"({value})"}.get(word) or f"{LISTED[word]} {value}"


def _mask(service: Mapping[str, Any]) -> Iterator[str]:
    """What counts as one client, where it is not a single address. For IPv6 the kernel gives a prefix length."""
    value = str(service["NETMASK"])
    if service["AF"] == socket.AF_INET6:
        length = int.from_bytes(socket.inet_aton(value), "little")
        if length != 128:
            yield from ("-M", str(length))
    elif ip_network(f"0.0.0.0/{value}").prefixlen != 32:
        yield from ("-M", value)


def _server_options(real: Mapping[str, Any]) -> Iterator[str]:
    yield from ("-r", _place(real["ADDR"], real["PORT"]), METHODS.get(real["FWD_METHOD"] & 7, "-m"))
    yield from ("-w", str(real["WEIGHT"]))
    for option, name in (("-x", "U_THRESH"), ("-y", "L_THRESH")):
        if real.get(name):
            yield from (option, str(real[name]))
    kind = TUNNELS.get(real.get("TUN_TYPE", 0))
    if kind:
        yield from ("--tun-type", kind)
        if kind == "gue":
            yield from ("--tun-port", str(real["TUN_PORT"]))
        yield from (word for bit, word in TUNNEL_SUMS.items() if int(real.get("TUN_FLAGS", 0)) & bit)
