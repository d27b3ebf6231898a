"""What is armed is bound to one packet, says whose it is, and is taken back. In a kernel: tests/lab/test_verify.py."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from netk8s.collect import armed
from netk8s.errors import CollectError
from netk8s.model import TCP, UDP, Packet

V4 = Packet(TCP, ip_address("192.0.2.9"), ip_address("192.0.2.1"), 41000, 30000)
V6 = Packet(UDP, ip_address("fd00::9"), ip_address("fd00::1"), 41000, 53)


def test_the_table_is_bound_to_the_first_packet_of_one_connection() -> None:
    text = armed.table_text("netk8s_verify_1_2", V4)
    match = "ip saddr 192.0.2.9 ip daddr 192.0.2.1 tcp sport 41000 tcp dport 30000 tcp flags & (fin | syn | rst | ack) == syn"
    assert text.count(f"{match} meta nftrace set 1;") == 2
    assert text.count("nftrace") == 2
    assert text.count("policy accept;") == 7
    assert "ip6 saddr fd00::9 ip6 daddr fd00::1 udp sport 41000 udp dport 53 meta nftrace" in armed.table_text("x", V6)


def test_the_rule_is_bound_as_well() -> None:
    words = " ".join(armed.rule_words("netk8s_verify_1_2", V4))
    assert words == (
        "-s 192.0.2.9 -d 192.0.2.1 -p tcp -m tcp --sport 41000 --dport 30000 --tcp-flags FIN,SYN,RST,ACK SYN "
        "-m comment --comment netk8s_verify_1_2 -j TRACE"
    )
    assert "--tcp-flags" not in armed.rule_words("x", V6)


def test_whose_time_is_over() -> None:
    later = int(time.time()) + 1000
    assert armed._over(f"netk8s_verify_{os.getpid()}_1")
    assert not armed._over(f"netk8s_verify_{os.getpid()}_{later}")
    assert not armed._over("kube-proxy")


def test_without_any_tool_nothing_is_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(armed.shutil, "which", lambda name: None)
    with pytest.raises(CollectError, match="neither nft nor iptables"), armed.armed(V4, 1):
        pass


@pytest.mark.lab
def test_it_is_there_for_the_block_and_gone_behind_it(spaces: Callable[[], Any]) -> None:
    space = spaces()
    out = space.python(
        "import subprocess\nfrom ipaddress import ip_address as ip\nfrom netk8s.collect import armed\n"
        "from netk8s.model import Packet\n"
        "tables = lambda: subprocess.run(['nft', 'list', 'tables'], capture_output=True, text=True).stdout.strip()\n"
        "packet = Packet(6, ip('127.0.0.1'), ip('127.0.0.2'), 41000, 80)\n"
        "try:\n with armed.armed(packet, 20) as trace:\n  print(trace.name in tables()); raise KeyError\n"
        "except KeyError: print(tables() == '')\n"
    )
    assert out.split() == ["True", "True"]


@pytest.mark.lab
def test_legacy_traces_go_to_netlink_and_the_logger_comes_back(spaces: Callable[[], Any]) -> None:
    space = spaces()
    space.run("iptables-legacy", "-A", "INPUT", "-j", "ACCEPT")
    out = space.python(
        "from ipaddress import ip_address as ip\nfrom netk8s.collect import armed\nfrom netk8s.model import Packet\n"
        "logger = lambda: open('/proc/sys/net/netfilter/nf_log/2').read().strip()\n"
        "packet = Packet(6, ip('127.0.0.1'), ip('127.0.0.2'), 41000, 80)\nbefore = logger()\n"
        "with armed.armed(packet, 20): print(logger())\nprint(before != 'nfnetlink_log' and logger() == before)\n"
    )
    assert out.split() == ["nfnetlink_log", "True"]
