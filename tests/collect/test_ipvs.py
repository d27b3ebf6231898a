"""IPVS in ipvsadm's words. Against a kernel with IPVS: tests/lab/test_readers.py."""

from __future__ import annotations

import socket

import pytest

from netk8s.collect import ipvs
from netk8s.collect._text import Gap


def service(**changes: object) -> dict[str, object]:
    """As pyroute2 gives it."""
    plain = {
        "AF": socket.AF_INET, "PROTOCOL": 6, "ADDR": "10.96.0.10", "PORT": 53, "SCHED_NAME": "rr",
        "FLAGS": {"flags": 2, "mask": 0xFFFFFFFF}, "TIMEOUT": 0, "NETMASK": "255.255.255.255",
    }  # fmt: skip
    return {**plain, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "-t 10.96.0.10:53 -s rr"),
        ({"PROTOCOL": 17}, "-u 10.96.0.10:53 -s rr"),
        ({"PROTOCOL": 132}, "--sctp-service 10.96.0.10:53 -s rr"),
        ({"FLAGS": {"flags": 0x13}, "TIMEOUT": 600, "SCHED_NAME": "sh"}, "-t 10.96.0.10:53 -s sh -b sh-port -p 600"),
        ({"FLAGS": {"flags": 0x1A}, "SCHED_NAME": "mh"}, "-t 10.96.0.10:53 -s mh -b mh-fallback,mh-port"),
        ({"FLAGS": {"flags": 0x2A}}, "-t 10.96.0.10:53 -s rr -b flag-1,flag-3"),
        (
            {"FLAGS": {"flags": 3}, "NETMASK": "255.255.255.0", "TIMEOUT": 9},
            "-t 10.96.0.10:53 -s rr -p 9 -M 255.255.255.0",
        ),
        ({"FLAGS": {"flags": 6}}, "-t 10.96.0.10:53 -s rr -o"),
        ({"PE_NAME": "sip"}, "-t 10.96.0.10:53 -s rr --pe sip"),
        ({"AF": 10, "ADDR": "fd00::a", "NETMASK": "128.0.0.0"}, "-t [fd00::a]:53 -s rr"),
        (
            {"AF": 10, "ADDR": "fd00::a", "NETMASK": "64.0.0.0", "FLAGS": {"flags": 3}, "TIMEOUT": 1},
            "-t [fd00::a]:53 -s rr -p 1 -M 64",
        ),
        ({"FWMARK": 5, "AF": 10}, "-f 5 -6 -s rr"),
    ],
)
def test_a_virtual_server(changes: dict[str, object], words: str) -> None:
    found = service(**changes)
    assert " ".join([*ipvs._named(found), *ipvs._service_options(found)]) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "-r 10.1.1.1:8080 -m -w 1"),
        ({"FWD_METHOD": 3, "WEIGHT": 0}, "-r 10.1.1.1:8080 -g -w 0"),
        (
            {"FWD_METHOD": 2, "TUN_TYPE": 1, "TUN_PORT": 6080, "TUN_FLAGS": 1},
            "-r 10.1.1.1:8080 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum",
        ),
        ({"U_THRESH": 9, "L_THRESH": 4}, "-r 10.1.1.1:8080 -m -w 1 -x 9 -y 4"),
        ({"ADDR": "fd00::1"}, "-r [fd00::1]:8080 -m -w 1"),
    ],
)
def test_a_real_server(changes: dict[str, object], words: str) -> None:
    real = {"ADDR": "10.1.1.1", "PORT": 8080, "FWD_METHOD": 0, "WEIGHT": 1, "U_THRESH": 0, "L_THRESH": 0, **changes}
    assert " ".join(ipvs._server_options(real)) == words


def test_a_kernel_without_ipvs_has_no_virtual_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipvs, "LOADED", "/proc/net/no-such-file")
    (gap,) = ipvs.texts()
    assert isinstance(gap, Gap)
    assert gap.absent
