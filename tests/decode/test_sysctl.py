"""``sysctl -a``: settings by dotted name, and the noise around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from netk8s.decode import sysctl
from netk8s.errors import DecodeError
from netk8s.model import At, Coverage, Dump, Sysctl

REAL = b"""sysctl: permission denied on key 'fs.protected_fifos'
sysctl: reading key "net.ipv6.conf.all.stable_secret"
kernel.domainname = (none)
kernel.core_pattern = |/usr/lib/core %P=%u
net.ipv4.conf.flannel/1.rp_filter = 2\r
net.ipv4.ip_local_port_range = 32768\t60999
net.ipv4.ip_local_reserved_ports =
net.ipv4.ip_forward=1

net.ipv4.vs.conntrack: 1
net/ipv4/conf/eth0.100/forwarding = 1
"""


def test_settings() -> None:
    coverage, *found = sysctl.decode(Dump("sysctl.txt", REAL))
    assert coverage == Coverage("sysctl", At("sysctl.txt"))
    settings = [fact for fact in found if isinstance(fact, Sysctl)]
    assert [(setting.name, setting.value, setting.at.line) for setting in settings] == [
        ("kernel.domainname", "(none)", 3),
        ("kernel.core_pattern", "|/usr/lib/core %P=%u", 4),
        ("net.ipv4.conf.flannel/1.rp_filter", "2", 5),
        ("net.ipv4.ip_local_port_range", "32768\t60999", 6),
        ("net.ipv4.ip_local_reserved_ports", "", 7),
        ("net.ipv4.ip_forward", "1", 8),
        ("net.ipv4.vs.conntrack", "1", 10),
        ("net.ipv4.conf.eth0/100.forwarding", "1", 11),
    ]


def test_sniff() -> None:
    assert sysctl.sniff(Dump("x", REAL))
    assert sysctl.sniff(Dump("x", b"net.ipv4.ip_forward = 1"))
    assert not sysctl.sniff(Dump("x", b"sysctl: command not found\n"))
    assert not sysctl.sniff(Dump("x", b"apiVersion: v1\nkind: List\n"))
    assert not sysctl.sniff(Dump("x", b"spring.datasource.url = jdbc\n"))
    assert not sysctl.sniff(Dump("x", b""))


def test_a_line_that_is_no_setting() -> None:
    with pytest.raises(DecodeError, match="expected `name = value`") as error:
        list(sysctl.decode(Dump("sysctl.txt", REAL + b"Connection closed\n")))
    assert error.value.line == 12


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/sysctl.txt"):
        recorded = Dump(str(path), path.read_bytes())
        assert sysctl.sniff(recorded)
        found = [fact for fact in sysctl.decode(recorded) if isinstance(fact, Sysctl)]
        assert len(found) == len(path.read_text().splitlines())
        assert {fact.name: fact.value for fact in found}["net.ipv4.ip_forward"] in "01"
